"""Figures of a run, drawn from its report."""

from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK = "#1b1f24"
_FEASIBLE = "#0a6b50"
_INFEASIBLE = "#a8410f"
_TEACHER = "#2b4ea0"
_OPEN = "#dfe6f3"
_VERDICTS = (
    (True, "o", _FEASIBLE, "keeps the bargain"),
    (False, "X", _INFEASIBLE, "loses too much"),
)
# Of more trials, the accuracies would run into each other
_MOST_ACCURACIES = 14


def accuracy_against_macs(report: dict[str, Any]) -> Figure:
    """The search: validation accuracy of every trial over its multiply-adds.

    Feasible students are filled circles, infeasible ones crosses, the chosen one is
    ringed, and the dashed line is the smallest accuracy that Eq. 4 allows, if it asks
    for any.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained", dpi=160)
    axes = figure.subplots()
    search = report["search"]
    for feasible, marker, colour, name in _VERDICTS:
        trials = [t for t in search["trials"] if t["feasible"] == feasible]
        if not trials:
            continue
        axes.scatter(
            [t["num_macs"] for t in trials],
            [100 * t["accuracy"] for t in trials],
            marker=marker,
            s=60,
            color=colour,
            label=name,
            zorder=3,
        )
    chosen = search["trials"][chosen_index(report)]
    _ring(axes, (chosen["num_macs"], 100 * chosen["accuracy"]))
    for trial in search["trials"]:
        point = (trial["num_macs"], 100 * trial["accuracy"])
        axes.annotate(
            f"{trial['rate']:g}",
            point,
            xytext=(0, -17),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
        )
    axes.scatter(
        [report["teacher"]["num_macs"]],
        [100 * search["validation_teacher_accuracy"]],
        marker="D",
        s=60,
        color=_TEACHER,
        label="teacher",
        zorder=3,
    )
    floor = 100 * search["validation_floor"]
    # Where any loss is allowed, no accuracy is needed
    if floor > 0:
        axes.axhline(floor, color=_INK, linestyle="--", linewidth=1)
        axes.text(
            0.995,
            floor,
            f"needed: {floor:.2f} %",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            fontsize=8,
            color=_INK,
        )
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.15)
    axes.set_xlabel("multiply-adds of one inference (numbers at the marks: rate)")
    axes.set_ylabel("accuracy on the task's validation images (%)")
    _finish(figure, axes)
    return figure


def search_by_trial(report: dict[str, Any]) -> Figure:
    """The search as it closed in: the rate of every trial, as they ended.

    Marks are those of `accuracy_against_macs`; hollow ones trained a rate once more,
    with another seed. The band is where the smallest feasible rate could still lie,
    see `open_intervals`.
    """
    figure = Figure(figsize=(7.5, 4.0), layout="constrained", dpi=160)
    axes = figure.subplots()
    trials = report["search"]["trials"]
    if len(trials) > 1:
        low, high = zip(*open_intervals(report), strict=True)
        axes.fill_between(
            [0.5, *range(1, len(trials) + 1), len(trials) + 0.5],
            [*low, low[-1]],
            [*high, high[-1]],
            step="post",
            color=_OPEN,
            linewidth=0,
            label="where the smallest may lie",
            zorder=1,
        )
    rates = [trial["rate"] for trial in trials]
    for feasible, marker, colour, name in _VERDICTS:
        for again in (False, True):
            marked = [
                i
                for i, trial in enumerate(trials)
                if trial["feasible"] == feasible and (rates[i] in rates[:i]) == again
            ]
            if marked:
                axes.scatter(
                    [i + 1 for i in marked],
                    [rates[i] for i in marked],
                    marker=marker,
                    s=60,
                    facecolors="white" if again else colour,
                    edgecolors=colour,
                    label=f"{name}, trained again" if again else name,
                    zorder=3,
                )
    chosen = chosen_index(report)
    _ring(axes, (chosen + 1, trials[chosen]["rate"]))
    has_room = len(trials) <= _MOST_ACCURACIES
    if has_room:
        for number, trial in enumerate(trials, start=1):
            axes.annotate(
                f"{100 * trial['accuracy']:.2f}",
                (number, trial["rate"]),
                xytext=(0, -17),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=_INK,
            )
    axes.set_xlim(0.5, len(trials) + 0.5)
    # Room for the number below a mark
    axes.set_ylim(-0.07, 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    note = " (numbers at the marks: validation accuracy in %)" * has_room
    axes.set_xlabel(f"trial{note}")
    axes.set_ylabel("rate")
    _finish(figure, axes)
    return figure


def open_intervals(report: dict[str, Any]) -> list[tuple[float, float]]:
    """Where the smallest feasible rate could lie before the first trial and after each.

    From the largest rate found infeasible below any feasible one (0 if none) to the
    smallest found feasible (1 if none), by the mean accuracy over the seeds of a rate.
    """
    search = report["search"]
    scores: dict[float, dict[int, float]] = {}
    intervals = [(0.0, 1.0)]
    for trial in search["trials"]:
        of_rate = scores.setdefault(trial["rate"], {})
        # Hyperband trains a seed again, for more epochs
        best = max(trial["accuracy"], of_rate.get(trial["seed"], 0.0))
        of_rate[trial["seed"]] = best
        floor = search["validation_floor"]
        means = {rate: fmean(seeds.values()) for rate, seeds in scores.items()}
        high = min((rate for rate in means if means[rate] >= floor), default=None)
        below = [rate for rate in means if high is None or rate < high]
        intervals.append((max(below, default=0.0), 1.0 if high is None else high))
    return intervals


def chosen_index(report: dict[str, Any]) -> int:
    """Which trial is handed over: of the chosen rate, the most accurate."""
    trials, rate = report["search"]["trials"], report["student"]["rate"]
    return max(
        (i for i, trial in enumerate(trials) if trial["rate"] == rate),
        key=lambda i: trials[i]["accuracy"],
    )


def _ring(axes: Any, point: tuple[float, float]) -> None:
    axes.scatter(*point, s=170, facecolors="none", edgecolors=_INK, label="chosen")


def _finish(figure: Figure, axes: Any) -> None:
    axes.grid(True, which="major", color="#d8dce0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    num_names = len(axes.get_legend_handles_labels()[1])
    figure.legend(
        frameon=False,
        fontsize=8,
        loc="outside upper right",
        ncols=num_names if num_names < 5 else 3,
    )
