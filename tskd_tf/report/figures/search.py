"""The figure of accuracy against multiply-adds of all students of a search."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tskd_tf.report.figures.figure import ReportFigure
from tskd_tf.report.figures.palette import Palette
from tskd_tf.report.figures.plotting import (
    MOST_NUMBERS,
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
)
from tskd_tf.report.words import short_count

# Feasible, marker, name of its colour, and what it means
VERDICTS = (
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
    for feasible, marker, colour, name in VERDICTS:
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
    draw_ring(axes, points[chosen_index(report)], palette)
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


def draw_ring(axes: Any, point: tuple[float, float], palette: Palette) -> None:
    """A ring round the chosen student."""
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
