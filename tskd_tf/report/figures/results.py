"""Figures of training curves and wrong answers, drawn from a report."""

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tskd_tf.distillation.curves import Curve
from tskd_tf.report.figures.figure import ReportFigure
from tskd_tf.report.figures.pictures import as_picture
from tskd_tf.report.figures.plotting import (
    add_grid,
    add_legend,
    blank_figure,
    empty_figure,
    short_name,
)
from tskd_tf.report.page.html import percent
from tskd_tf.report.record import CLASSIFIERS, Confusion, Report

# With more classes, names and counts in a figure would be too small to read
MOST_CELLS = 12
_MOST_COUNTS = 12
_MOST_NAMES = 40
_PICTURES_A_ROW = 5


def _curves(report: Report) -> list[tuple[str, Curve | None]]:
    """The learning curves by classifier; None for a teacher that was loaded."""
    trials = [("trials", trial["curve"]) for trial in report["search"]["trials"]]
    return [*((who, report[who]["curve"]) for who in CLASSIFIERS), *trials]


def training_curves(report: Report, dark: bool = False) -> Figure:
    """Validation accuracy and training loss by epoch, for all trainings.

    Args:
        report: A report, as in `report.json`.
        dark: Whether the figure is for a dark page. Default: False.
    """
    canvas = empty_figure(dark, height=5.6, num_panels=2)
    accuracy_axes, loss_axes = canvas.axes
    palette = canvas.palette
    styles: dict[str, dict[str, Any]] = {
        "trials": {"color": palette.soft, "linewidth": 0.8, "zorder": 1},
        "teacher": {"color": palette.teacher, "linestyle": "--", "marker": "D"},
        "control": {"color": palette.ink, "linestyle": ":", "marker": "s"},
        "student": {"color": palette.student, "linestyle": "-", "marker": "o"},
    }
    named = set()
    for who, curve in _curves(report):
        if curve is None:
            continue
        accuracies = [100 * accuracy for accuracy in curve["validation_accuracy"]]
        epochs = range(1, len(accuracies) + 1)
        label = None if who in named else who
        named.add(who)
        style = {"markersize": 4, **styles[who]}
        accuracy_axes.plot(epochs, accuracies, label=label, **style)
        loss_axes.plot(range(1, len(curve["loss"]) + 1), curve["loss"], **style)
    accuracy_axes.set_ylabel("validation accuracy (%)")
    loss_axes.set_ylabel("training loss")
    loss_axes.set_xlabel("epoch")
    loss_axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    add_grid(canvas)
    add_legend(canvas)
    return canvas.figure


def confusion(report: Report, dark: bool = False) -> Figure:
    """The student's confusion matrix on the test images.

    Each row is a class. Cells are shaded by their share of the row, with different
    colours for right and wrong answers. Up to twelve classes, cells show their counts.

    Args:
        report: A report, as in `report.json`.
        dark: Whether the figure is for a dark page. Default: False.
    """
    matrix = report["confusion"]
    counts = np.array(matrix["student"])
    num_rows = len(counts)
    canvas = empty_figure(dark, height=5.2)
    (axes,), palette = canvas.axes, canvas.palette
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    is_hit = np.eye(*counts.shape) > 0
    for is_shown, colour, strongest in (
        (is_hit, palette.hit, 1.0),
        (~is_hit, palette.miss, max(0.01, float(shares[~is_hit].max(initial=0.0)))),
    ):
        axes.imshow(
            np.ma.masked_where(~is_shown, shares),
            cmap=LinearSegmentedColormap.from_list("", [palette.paper, colour]),
            vmin=0.0,
            vmax=strongest,
            interpolation="nearest",
        )
    if num_rows <= _MOST_COUNTS:
        for (row, column), count in np.ndenumerate(counts):
            colour = palette.ink if count else palette.soft
            axes.text(
                column, row, f"{count}", ha="center", va="center", color=colour, size=8
            )
    _name_classes(axes, matrix)
    return canvas.figure


def _name_classes(axes: Any, matrix: Confusion) -> None:
    """Labels both axes by class names or, for many classes, by position in the task."""
    by_place = len(matrix["row_names"]) > _MOST_NAMES
    for axis, says, names, degrees in (
        (axes.xaxis, "the student says", matrix["column_names"], 90),
        (axes.yaxis, "it is", matrix["row_names"], 0),
    ):
        axis.set_label_text(says + " (place in the task, from 0)" * by_place)
        if by_place:
            axis.set_major_locator(MaxNLocator(integer=True))
            continue
        shown = [short_name(name, 18) for name in names]
        is_long = max(map(len, shown)) > 2
        axis.set_ticks(
            range(len(names)),
            shown,
            rotation=degrees if is_long else 0,
            fontsize=9 if len(names) <= _MOST_COUNTS + 1 else 6,
            # A class name may have dollar signs
            parse_math=False,
        )


def wrong_images(report: Report, images: np.ndarray, dark: bool = False) -> Figure:
    """Test images that only the student gets wrong, by descending probability.

    Args:
        report: A report, as in `report.json`, with `wrong_images`.
        images: uint8, shape `(n, height, width, channels)`, n ≥ 1, in the order of
            `wrong_images`.
        dark: Whether the figure is for a dark page. Default: False.
    """
    num_rows = -(-len(images) // _PICTURES_A_ROW)
    figure, palette = blank_figure(dark, 1.6 * num_rows)
    panels = figure.subplots(num_rows, _PICTURES_A_ROW, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, image, wrong in zip(panels, images, report["wrong_images"]):
        picture = as_picture(image)
        pixels = picture[..., 0] if picture.shape[2] == 1 else picture
        panel.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        taken_for = short_name(wrong["student_prediction"], 12)
        panel.set_title(
            f"{short_name(wrong['class_name'], 12)}\nfor {taken_for}",
            color=palette.ink,
            fontsize=8,
            parse_math=False,
        )
    return figure


def _curves_text(report: Report) -> str:
    ends = [
        f"{who} {percent(curve['validation_accuracy'][-1])} after "
        f"{len(curve['validation_accuracy'])} epochs"
        for who in CLASSIFIERS
        if (curve := report[who]["curve"])
    ]
    return "Validation accuracy and training loss by epoch; at the end: " + ", ".join(
        ends
    )


TRAINING_CURVES = ReportFigure(
    name="training_curves",
    draw=lambda report, _, dark: training_curves(report, dark),
    # TensorBoard has the curves themselves
    summary="",
    section="training",
    description=_curves_text,
    caption=lambda report: (
        "The trainings minimise different losses: compare shapes of the curves, not "
        "their heights. A search stops a trial as soon as its verdict is known."
    ),
)
CONFUSION = ReportFigure(
    name="confusion",
    draw=lambda report, _, dark: confusion(report, dark),
    summary="Confusion matrix of the student on the test images.",
    section="classes",
    description=lambda report: (
        f"Confusion matrix of the student, {len(report['confusion']['row_names'])} "
        "classes. The table below has its largest numbers off the diagonal."
    ),
    caption=lambda report: (
        "Each row is a class; cells are shaded by their share of its test images. "
        "Right answers are on the diagonal."
    ),
    # For few classes, the page has a table of the numbers instead
    is_on_page=lambda report: (len(report["confusion"]["row_names"]) > MOST_CELLS),
)


def _draw_wrong_images(report: Report, images: np.ndarray | None, dark: bool) -> Figure:
    assert images is not None  # checked by `is_drawn`
    return wrong_images(report, images, dark)


WRONG_IMAGES = ReportFigure(
    name="wrong_images",
    draw=_draw_wrong_images,
    summary="Test images that only the student gets wrong, by descending probability.",
    # The page shows the single pictures
    section="",
    description=lambda report: "",
    caption=lambda report: "",
    is_drawn=lambda report, images: images is not None and len(images) > 0,
)
