"""All figures of a run as PNG files, for light and for dark pages."""

import io
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tskd_tf.report.figures.results import confusion, has_curves, training_curves
from tskd_tf.report.figures.results import wrong_images as wrong_images_figure
from tskd_tf.report.figures.search import accuracy_against_macs, search_by_trial
from tskd_tf.report.page.html import Pngs


def draw_figures(
    report: dict[str, Any], wrong_images: np.ndarray | None = None
) -> Pngs:
    """Draws what the report tells of; those of earlier versions tell less.

    Args:
        report: As in `report.json`.
        wrong_images: uint8, shape `(n, height, width, channels)`, in the order of the
            report's `wrong_images`.

    Returns:
        Two PNG files by name: for a light page, and for a dark one.
    """
    figures: dict[str, Callable[[bool], Figure]] = {
        "accuracy_against_macs": partial(accuracy_against_macs, report),
        "search": partial(search_by_trial, report),
    }
    if has_curves(report):
        figures["training_curves"] = partial(training_curves, report)
    if "confusion" in report:
        figures["confusion"] = partial(confusion, report)
    if wrong_images is not None and len(wrong_images):
        figures["wrong_images"] = partial(wrong_images_figure, report, wrong_images)
    return {
        name: (_png(draw(False)), _png(draw(True))) for name, draw in figures.items()
    }


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The font may lack a letter of a class's name, which the page has
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format="png")
    return stream.getvalue()
