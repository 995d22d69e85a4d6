"""Figures 2 and 3 of the paper (Shi et al. 2017), drawn from a sweep."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tskd_tf.sweep.record import Sweep
from tskd_tf.sweep.students import DISTILLED, HARD_LABELS
from tskd_tf.sweep.tables import (
    CellSummary,
    method_names,
    rates_needed,
    summarise_cells,
)

_INK = "#1b1f24"
_GRID = "#d0d7de"
_MARKERS = "osD^vP*X<>"
_LOSS = "points lost against the teacher on the task's test images"


def accuracy_by_rate(sweep: Sweep) -> Figure:
    """(a) Loss of accuracy by rate, one curve per task, with intervals over the seeds.

    The left panel has the distilled students, the right one those on hard labels only.
    Both have the same scale.
    """
    figure = Figure(figsize=(10.5, 4.6), layout="constrained", dpi=160)
    panels = figure.subplots(1, 2, sharey=True)
    cells = summarise_cells(sweep)
    names = method_names(sweep)
    for axes, (method, title) in zip(panels, names.items(), strict=True):
        of_method = [cell for cell in cells if cell.method == method]
        sizes = sorted({cell.num_classes for cell in of_method})
        for number, size in enumerate(sizes):
            curve = [cell for cell in of_method if cell.num_classes == size]
            colour = _colour(number, len(sizes))
            _curve(axes, curve, f"{size}", colour, _MARKERS[number % len(_MARKERS)])
        axes.set_title(title, fontsize=10, color=_INK)
        axes.set_xlabel("rate: share of the teacher's width")
        axes.axhline(0, color=_INK, linewidth=0.8)
        _finish(axes)
    panels[0].set_ylabel(_LOSS)
    # Higher is better, as in the paper's figures
    panels[0].invert_yaxis()
    panels[1].legend(title="classes", frameon=False, fontsize=8, ncols=2)
    return figure


def accuracy_surface(sweep: Sweep) -> Figure:
    """(b) The accuracy of distilled students over rate and number of classes."""
    figure = Figure(figsize=(7.0, 5.4), dpi=160)
    axes = figure.add_subplot(projection="3d")
    cells = [c for c in summarise_cells(sweep) if c.method == DISTILLED]
    sizes = sorted({cell.num_classes for cell in cells})
    rates = sorted({cell.rate for cell in cells})
    accuracies = {(c.num_classes, c.rate): 100 * c.accuracy.mean for c in cells}
    grid = [[accuracies[size, rate] for rate in rates] for size in sizes]
    if len(sizes) > 1 and len(rates) > 1:
        import numpy as np

        axes.plot_surface(
            *np.meshgrid(rates, sizes),
            np.asarray(grid),
            cmap="cividis",
            edgecolor=_INK,
            linewidth=0.4,
        )
    axes.set_xlabel("rate")
    axes.set_ylabel("classes")
    axes.set_zlabel("test accuracy (%)")
    axes.set_yticks(sizes)
    axes.view_init(elev=32, azim=-145)
    # Labels of a 3-D figure are outside of its box; the margins make room for them
    axes.set_box_aspect(None, zoom=0.9)
    figure.subplots_adjust(left=0, right=1, bottom=0.02, top=1)
    return figure


def rate_by_classes(sweep: Sweep) -> Figure:
    """(c) The rate needed to keep a share of the teacher's accuracy, by task.

    A point is the mean over the seeds, a bar their range. If a seed does not reach the
    share at any rate of the sweep, the point is left out.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained", dpi=160)
    axes = figure.subplots()
    found = rates_needed(sweep)
    shares = sweep["normalized_accuracies"]
    for number, share in enumerate(shares):
        for method, style in ((DISTILLED, "-"), (HARD_LABELS, ":")):
            points = [
                need
                for need in found
                if (need.method, need.normalized_accuracy) == (method, share)
                and need.mean is not None
            ]
            if not points:
                continue
            means = [need.mean or 0.0 for need in points]
            ranges = [[rate for rate in need.by_seed if rate] for need in points]
            axes.errorbar(
                [need.num_classes for need in points],
                means,
                yerr=[
                    # Rounding may put the mean of equal rates outside of their range
                    [max(0.0, m - min(r)) for m, r in zip(means, ranges, strict=True)],
                    [max(0.0, max(r) - m) for m, r in zip(means, ranges, strict=True)],
                ],
                marker=_MARKERS[number],
                linestyle=style,
                color=_colour(number, len(shares)),
                capsize=3,
                label=f"{100 * share:g} %, "
                + ("distilled" if method == DISTILLED else "hard labels only"),
            )
    axes.set_xlabel("classes of the task")
    axes.set_ylabel("rate needed")
    axes.set_ylim(0, 1.05)
    axes.set_xticks(sorted({need.num_classes for need in found}))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="share of accuracy kept", frameon=False, fontsize=8)
    _finish(axes)
    return figure


def _curve(
    axes: Axes, cells: list[CellSummary], label: str, colour: Any, marker: str
) -> None:
    losses = [cell.accuracy_loss for cell in cells]
    halves = [
        0.0 if loss.low is None or loss.high is None else 50 * (loss.high - loss.low)
        for loss in losses
    ]
    axes.errorbar(
        [cell.rate for cell in cells],
        [100 * loss.mean for loss in losses],
        yerr=halves if any(halves) else None,
        marker=marker,
        markersize=5,
        linewidth=1.4,
        capsize=2.5,
        color=colour,
        label=label,
    )


def _colour(number: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.85 * number / max(1, count - 1))


def _finish(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
