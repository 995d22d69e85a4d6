"""What the trials of a report say together: scores by rate, and which is chosen."""

from collections.abc import Sequence
from statistics import fmean

from tskd_tf.report.record import Report, SearchRecord, TrialRow


def score_by_rate(trials: Sequence[TrialRow]) -> dict[float, float]:
    """What the search judges each rate by: the mean of its seeds' accuracies.

    Returns:
        Rate → accuracy in [0, 1], in the order in which the rates were first tried.
    """
    by_rate: dict[float, dict[int, float]] = {}
    for trial in trials:
        by_seed = by_rate.setdefault(trial["rate"], {})
        # One seed's differ in their epochs, as Hyperband's do
        by_seed[trial["seed"]] = max(
            trial["accuracy"], by_seed.get(trial["seed"], trial["accuracy"])
        )
    return {rate: fmean(by_rate[rate].values()) for rate in by_rate}


def has_feasible_rate(search: SearchRecord) -> bool:
    """Whether a rate is enough, as the search judges."""
    best = max(score_by_rate(search["trials"]).values())
    return best >= search["validation_floor"]


def open_intervals(report: Report) -> list[tuple[float, float]]:
    """Where the smallest feasible rate could lie before the first trial and after each.

    From the largest rate found infeasible below any feasible one (0 if none) to the
    smallest found feasible (1 if none), by the mean accuracy over the seeds of a rate.
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
    """Which trial is handed over: of the chosen rate, the most accurate."""
    trials, rate = report["search"]["trials"], report["student"]["rate"]
    return max(
        (i for i, trial in enumerate(trials) if trial["rate"] == rate),
        key=lambda i: trials[i]["accuracy"],
    )
