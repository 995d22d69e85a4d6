"""Facts about the trials of a report: scores by rate, and the chosen trial."""

from collections.abc import Sequence
from statistics import fmean

from tskd_tf.report.record import Report, SearchRecord, TrialRow


def score_by_rate(trials: Sequence[TrialRow]) -> dict[float, float]:
    """The score of each rate: the mean accuracy over its seeds.

    Returns:
        Accuracies in [0, 1] by rate, in the order of the first trials.
    """
    by_rate: dict[float, dict[int, float]] = {}
    for trial in trials:
        by_seed = by_rate.setdefault(trial["rate"], {})
        # Hyperband trains one seed for different numbers of epochs
        by_seed[trial["seed"]] = max(
            trial["accuracy"], by_seed.get(trial["seed"], trial["accuracy"])
        )
    return {rate: fmean(by_rate[rate].values()) for rate in by_rate}


def has_feasible_rate(search: SearchRecord) -> bool:
    """Whether the score of a rate reaches the floor."""
    best = max(score_by_rate(search["trials"]).values())
    return best >= search["validation_floor"]


def open_intervals(report: Report) -> list[tuple[float, float]]:
    """The range of the smallest feasible rate, before the first trial and after each.

    The high end is the smallest rate found feasible; if there is none, 1 or the largest
    rate. The low end is the largest infeasible rate below it (0 if there is none).
    Rates are judged by the mean accuracy over their seeds.
    """
    trials, floor = report["search"]["trials"], report["search"]["validation_floor"]
    widest = max(1.0, *(trial["rate"] for trial in trials))
    intervals = [(0.0, widest)]
    for num_ended in range(1, len(trials) + 1):
        scores = score_by_rate(trials[:num_ended])
        high = min((rate for rate in scores if scores[rate] >= floor), default=None)
        below = [rate for rate in scores if high is None or rate < high]
        intervals.append((max(below, default=0.0), widest if high is None else high))
    return intervals


def chosen_index(report: Report) -> int:
    """Index of the chosen trial: the most accurate one of the chosen rate."""
    trials, rate = report["search"]["trials"], report["student"]["rate"]
    return max(
        (i for i, trial in enumerate(trials) if trial["rate"] == rate),
        key=lambda i: trials[i]["accuracy"],
    )
