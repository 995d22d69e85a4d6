"""The figure of the trials of a search, in their order."""

from collections.abc import Sequence
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
from tskd_tf.report.figures.search import VERDICTS, draw_ring
from tskd_tf.report.record import Report, TrialRow
from tskd_tf.report.trials import (
    candidate_of,
    chosen_index,
    families_of,
    name_of,
    open_intervals,
    smallest_so_far,
)
from tskd_tf.report.words import short_count


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
    draw_ring(axes, (chosen + 1, heights[chosen]), palette)
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
        axes.margins(y=0.25)
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
    for feasible, marker, colour, name in VERDICTS:
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
