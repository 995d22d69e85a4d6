"""Figures of a search, drawn from its report."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tskd_tf.report.figures.figure import ReportFigure
from tskd_tf.report.figures.palette import Palette
from tskd_tf.report.figures.plotting import (
    MOST_NUMBERS,
    Canvas,
    add_grid,
    add_legend,
    empty_figure,
)
from tskd_tf.report.page.html import percent
from tskd_tf.report.record import Report, TrialRow
from tskd_tf.report.trials import (
    CandidateKey,
    candidate_of,
    chosen_index,
    families_of,
    name_of,
    open_intervals,
    smallest_so_far,
)
from tskd_tf.report.words import short_count

_VERDICTS = (
    (True, "o", "good", "keeps the bargain"),
    (False, "X", "bad", "loses too much"),
)


def accuracy_against_macs(report: Report, dark: bool = False) -> Figure:
    """Validation accuracy of every trial over its multiply-adds.

    Feasible students are circles, infeasible ones crosses, and the chosen one has a
    ring. The dashed line is the smallest accuracy that meets Eq. 4, if it is above 0.
    Numbers are those of the trials, and arrows follow their order. With several
    families of students, a line joins those of each family instead. Triangles are the
    steps of a refinement that were kept.

    Args:
        report: A report, as in `report.json`.
        dark: Whether the figure is for a dark page. Default: False.
    """
    canvas = empty_figure(dark, height=4.4)
    (axes,), palette = canvas.axes, canvas.palette
    search = report["search"]
    trials = search["trials"]
    points = [(t["num_macs"], 100 * t["accuracy"]) for t in trials]
    if len(families_of(search)) > 1:
        _draw_families(axes, trials, palette)
    elif len(trials) <= MOST_NUMBERS:
        _draw_path(axes, points, palette)
    for feasible, marker, colour, name in _VERDICTS:
        marked = [p for p, t in zip(points, trials) if t["feasible"] == feasible]
        if marked:
            axes.scatter(
                *zip(*marked),
                marker=marker,
                s=60,
                color=getattr(palette, colour),
                label=name,
                zorder=3,
            )
    _ring(axes, points[chosen_index(report)], palette)
    _number(axes, report, points, palette)
    axes.scatter(
        [report["teacher"]["num_macs"]],
        [100 * search["validation_teacher_accuracy"]],
        marker="D",
        s=60,
        color=palette.teacher,
        label="teacher",
        zorder=3,
    )
    _draw_floor(axes, search["validation_floor"], palette)
    axes.set_xscale("log")
    refined = _draw_refinement(axes, report, palette)
    macs = [point[0] for point in (*points, *refined)] + [report["teacher"]["num_macs"]]
    is_wide = max(macs) > 1000 * min(macs)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda macs, _: short_count(macs)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.15)
    axes.set_xlabel("multiply-adds of one inference")
    axes.set_ylabel("validation accuracy (%)")
    add_grid(canvas)
    add_legend(canvas)
    return canvas.figure


def _draw_families(axes: Any, trials: Sequence[TrialRow], palette: Palette) -> None:
    """A line through the students of each family, with its name at the dearest."""
    by_family: dict[str, list[tuple[int, float]]] = {}
    for trial in trials:
        point = trial["num_macs"], 100 * trial["accuracy"]
        by_family.setdefault(candidate_of(trial)[0], []).append(point)
    for family, points in by_family.items():
        points.sort()
        axes.plot(*zip(*points), color=palette.soft, linewidth=1, zorder=2)
        axes.annotate(
            family,
            points[-1],
            xytext=(8, 4),
            textcoords="offset points",
            fontsize=9,
            color=palette.ink,
        )


def _draw_refinement(
    axes: Any, report: Report, palette: Palette
) -> Sequence[tuple[float, float]]:
    """Draws the steps of a refinement that were kept; returns their points."""
    steps = report["refinement"]["steps"] if "refinement" in report else []
    points = [(s["num_macs"], 100 * s["accuracy"]) for s in steps if s["is_kept"]]
    if points:
        axes.plot(
            *zip(*points),
            marker="v",
            color=palette.good,
            linewidth=0.8,
            label="refined",
            zorder=3,
        )
    return points


def _draw_path(
    axes: Any, points: Sequence[tuple[float, float]], palette: Palette
) -> None:
    for start, end in pairwise(points):
        axes.annotate(
            "",
            end,
            start,
            arrowprops={
                "arrowstyle": "->",
                "color": palette.soft,
                "linewidth": 0.8,
                "shrinkA": 5,
                "shrinkB": 5,
                "connectionstyle": "arc3,rad=0.12",
            },
        )


def _number(
    axes: Any,
    report: Report,
    points: Sequence[tuple[float, float]],
    palette: Palette,
) -> None:
    """Writes the numbers of each candidate's trials below their lowest mark."""
    of_candidate: dict[CandidateKey, list[int]] = {}
    for i, trial in enumerate(report["search"]["trials"]):
        of_candidate.setdefault(candidate_of(trial), []).append(i)
    has_room = len(of_candidate) <= MOST_NUMBERS
    for indices in of_candidate.values():
        axes.annotate(
            ", ".join(str(i + 1) for i in indices),
            min((points[i] for i in indices), key=lambda point: point[1]),
            xytext=(0, -18),
            textcoords="offset points",
            ha="center",
            fontsize=9 if has_room else 7,
            color=palette.ink,
            # A background, so that the number is readable on the arrows
            bbox={"facecolor": palette.paper, "edgecolor": "none", "pad": 0.5},
        )


def _draw_floor(axes: Any, floor: float, palette: Palette) -> None:
    # If any loss is allowed, no accuracy is needed
    if floor <= 0:
        return
    axes.axhline(100 * floor, color=palette.ink, linestyle="--", linewidth=1)
    axes.text(
        0.005,
        100 * floor,
        f"needed: {100 * floor:.2f} %",
        transform=axes.get_yaxis_transform(),
        ha="left",
        va="bottom",
        fontsize=9,
        color=palette.ink,
    )


def search_by_trial(report: Report, dark: bool = False) -> Figure:
    """The rate of every trial, in the order in which they ended.

    Marks are those of `accuracy_against_macs`. Hollow marks are repeated trainings of a
    student with another seed. The band shows where the smallest feasible rate could
    still be, see `open_intervals`. With several families of students, the figure shows
    multiply-adds, and a line at the smallest student found feasible so far.

    Args:
        report: A report, as in `report.json`.
        dark: Whether the figure is for a dark page. Default: False.
    """
    canvas = empty_figure(dark, height=4.4)
    (axes,), palette = canvas.axes, canvas.palette
    trials = report["search"]["trials"]
    has_families = len(families_of(report["search"])) > 1
    heights: list[float] = [trial["rate"] for trial in trials]
    if has_families:
        heights = [trial["num_macs"] for trial in trials]
        _draw_smallest(axes, report, palette)
    elif len(trials) > 1:
        _draw_band(axes, report, palette)
    _mark_trials(canvas, trials, heights)
    chosen = chosen_index(report)
    _ring(axes, (chosen + 1, heights[chosen]), palette)
    has_room = len(trials) <= MOST_NUMBERS
    if has_room:
        for number, trial in enumerate(trials, start=1):
            family = f"\n{candidate_of(trial)[0]}" * has_families
            axes.annotate(
                f"{100 * trial['accuracy']:.2f}{family}",
                (number, heights[number - 1]),
                xytext=(0, -30 if has_families else -18),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=palette.ink,
            )
    axes.set_xlim(0.5, len(trials) + 0.5)
    if has_families:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda macs, _: short_count(macs)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.15)
    else:
        # Room for the number below a mark
        axes.set_ylim(-0.07, 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    note = " (at the marks: validation accuracy in %)" * has_room
    axes.set_xlabel(f"trial{note}")
    axes.set_ylabel("multiply-adds of one inference" if has_families else "rate")
    add_grid(canvas)
    add_legend(canvas)
    return canvas.figure


def _draw_band(axes: Any, report: Report, palette: Palette) -> None:
    """The range of the smallest feasible rate."""
    low, high = zip(*open_intervals(report), strict=True)
    num_trials = len(report["search"]["trials"])
    axes.fill_between(
        [0.5, *range(1, num_trials + 1), num_trials + 0.5],
        [*low, low[-1]],
        [*high, high[-1]],
        step="post",
        color=palette.band,
        linewidth=0,
        label="where the smallest may lie",
        zorder=1,
    )


def _draw_smallest(axes: Any, report: Report, palette: Palette) -> None:
    """The multiply-adds of the smallest student found feasible so far."""
    smallest = smallest_so_far(report)
    axes.step(
        [*range(1, len(smallest) + 1), len(smallest) + 0.5],
        [*smallest, smallest[-1]],
        where="post",
        color=palette.soft,
        linewidth=1,
        label="smallest so far",
        zorder=1,
    )


def _mark_trials(
    canvas: Canvas, trials: list[TrialRow], heights: Sequence[float]
) -> None:
    candidates = [candidate_of(trial) for trial in trials]
    for feasible, marker, colour, name in _VERDICTS:
        for again in (False, True):
            marked = [
                i
                for i, trial in enumerate(trials)
                if trial["feasible"] == feasible
                and (candidates[i] in candidates[:i]) == again
            ]
            if marked:
                colour_code = getattr(canvas.palette, colour)
                canvas.axes[0].scatter(
                    [i + 1 for i in marked],
                    [heights[i] for i in marked],
                    marker=marker,
                    s=60,
                    facecolors=canvas.palette.paper if again else colour_code,
                    edgecolors=colour_code,
                    label=f"{name}, trained again" if again else name,
                    zorder=3,
                )


def _ring(axes: Any, point: tuple[float, float], palette: Palette) -> None:
    axes.scatter(
        *point, s=170, facecolors="none", edgecolors=palette.ink, label="chosen"
    )


def _accuracy_text(report: Report) -> str:
    search = report["search"]
    # If any loss is allowed, the floor is below 0
    needed = max(search["validation_floor"], 0.0)
    return (
        f"Validation accuracy over multiply-adds of {len(search['trials'])} students; "
        f"{percent(needed)} are needed; the chosen one, at "
        f"{name_of(report['student'])}, is ringed. The table below has the numbers."
    )


def _search_text(report: Report) -> str:
    trials = report["search"]["trials"]
    tried = ", ".join(
        f"{name_of(trial)} {'enough' if trial['feasible'] else 'not enough'}"
        for trial in trials
    )
    shown = (
        "The multiply-adds of"
        if len(families_of(report["search"])) > 1
        else "The rates, and the shrinking band in which the smallest feasible one may "
        "lie, of"
    )
    return (
        f"{shown} {len(trials)} trials in their order: {tried}. The chosen one, at "
        f"{name_of(report['student'])}, is ringed."
    )


def _search_caption(report: Report) -> str:
    if len(families_of(report["search"])) > 1:
        return "The cost of each trial, and of the smallest sufficient student so far."
    return "The rate of each trial. The band narrows down the smallest sufficient rate."


def _accuracy_caption(report: Report) -> str:
    head = "Cost and validation accuracy of each student, with the number of its trial."
    if len(families_of(report["search"])) > 1:
        return f"{head} A line joins the students of each family."
    has_path = 1 < len(report["search"]["trials"]) <= MOST_NUMBERS
    return head + " The arrows follow the order of the trials." * has_path


ACCURACY_AGAINST_MACS = ReportFigure(
    name="accuracy_against_macs",
    draw=lambda report, _, dark: accuracy_against_macs(report, dark),
    summary="Every trial: validation accuracy over multiply-adds.",
    section="search",
    description=_accuracy_text,
    caption=_accuracy_caption,
)
SEARCH = ReportFigure(
    name="search",
    draw=lambda report, _, dark: search_by_trial(report, dark),
    summary="The rate of each trial, and the range of the smallest feasible rate; "
    "with several families of students, their multiply-adds.",
    section="search",
    description=_search_text,
    caption=_search_caption,
    # One trial is not a search
    is_on_page=lambda report: len(report["search"]["trials"]) > 1,
)
