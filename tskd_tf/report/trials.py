"""Facts about the trials of a report: scores by candidate, and the chosen trial."""

from collections.abc import Sequence
from statistics import fmean

from tskd_tf.choices import THIN
from tskd_tf.report.record import Report, SearchRecord, StudentResult, TrialRow

# Family and rate
CandidateKey = tuple[str, float]


def candidate_of(row: TrialRow | StudentResult) -> CandidateKey:
    """Family and rate of a student; thin students and the user's name no family."""
    return row.get("family", THIN), row["rate"]


def name_of(row: TrialRow | StudentResult) -> str:
    """Family and rate in words, e.g. `"rate 0.25"` or `"compact rate 0.5"`."""
    family, rate = candidate_of(row)
    return f"rate {rate:g}" if family == THIN else f"{family} rate {rate:g}"


def families_of(search: SearchRecord) -> list[str]:
    """Families of the trials, in the order of their first trials."""
    return list(dict.fromkeys(candidate_of(row)[0] for row in search["trials"]))


def score_by_candidate(trials: Sequence[TrialRow]) -> dict[CandidateKey, float]:
    """The score of each candidate: the mean accuracy over its seeds.

    Returns:
        Accuracies in [0, 1] by family and rate, in the order of the first trials.
    """
    by_candidate: dict[CandidateKey, dict[int, float]] = {}
    for trial in trials:
        by_seed = by_candidate.setdefault(candidate_of(trial), {})
        # Hyperband trains one seed for different numbers of epochs
        by_seed[trial["seed"]] = max(
            trial["accuracy"], by_seed.get(trial["seed"], trial["accuracy"])
        )
    return {key: fmean(by_candidate[key].values()) for key in by_candidate}


def has_feasible_candidate(search: SearchRecord) -> bool:
    """Whether the score of a candidate reaches the floor."""
    best = max(score_by_candidate(search["trials"]).values())
    return best >= search["validation_floor"]


def open_intervals(report: Report) -> list[tuple[float, float]]:
    """The range of the smallest feasible rate, before the first trial and after each.

    The high end is the smallest rate found feasible; if there is none, 1 or the largest
    rate. The low end is the largest infeasible rate below it (0 if there is none).
    Rates are judged by the mean accuracy over their seeds.

    Args:
        report: A report whose trials are of one family.
    """
    trials, floor = report["search"]["trials"], report["search"]["validation_floor"]
    widest = max(1.0, *(trial["rate"] for trial in trials))
    intervals = [(0.0, widest)]
    for num_ended in range(1, len(trials) + 1):
        by_candidate = score_by_candidate(trials[:num_ended])
        scores = {rate: score for (_, rate), score in by_candidate.items()}
        high = min((rate for rate in scores if scores[rate] >= floor), default=None)
        below = [rate for rate in scores if high is None or rate < high]
        intervals.append((max(below, default=0.0), widest if high is None else high))
    return intervals


def smallest_so_far(report: Report) -> list[int]:
    """Multiply-adds of the smallest student found feasible, after each trial.

    As long as there is none, they are the teacher's.
    """
    trials, floor = report["search"]["trials"], report["search"]["validation_floor"]
    num_macs = {candidate_of(trial): trial["num_macs"] for trial in trials}
    return [
        min(
            [report["teacher"]["num_macs"]]
            + [num_macs[key] for key in scores if scores[key] >= floor]
        )
        for scores in map(
            score_by_candidate, (trials[: n + 1] for n in range(len(trials)))
        )
    ]


def chosen_index(report: Report) -> int:
    """Index of the chosen trial: the most accurate one of the chosen candidate."""
    trials, chosen = report["search"]["trials"], candidate_of(report["student"])
    return max(
        (i for i, trial in enumerate(trials) if candidate_of(trial) == chosen),
        key=lambda i: trials[i]["accuracy"],
    )
