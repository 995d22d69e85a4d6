"""Draws all figures of a run as PNG files, for light and dark pages."""

import io
import warnings

import numpy as np
from matplotlib.figure import Figure

from tskd_tf.report.figures import results, search, trials
from tskd_tf.report.figures.figure import ReportFigure
from tskd_tf.report.page.html import Pngs
from tskd_tf.report.record import Report

# All figures, in the order in which a section of the page shows them
FIGURES: tuple[ReportFigure, ...] = (
    search.ACCURACY_AGAINST_MACS,
    trials.SEARCH,
    results.TRAINING_CURVES,
    results.CONFUSION,
    results.WRONG_IMAGES,
)


def draw_figures(report: Report, wrong_images: np.ndarray | None = None) -> Pngs:
    """Draws the figures for which a report has data.

    Args:
        report: A report, as in `report.json`.
        wrong_images: uint8, shape `(n, height, width, channels)`, in the order of the
            report's `wrong_images`. Default: none.

    Returns:
        Two PNG files per figure, by its name: for a light and for a dark page.
    """
    return {
        figure.name: (
            _png(figure.draw(report, wrong_images, False)),
            _png(figure.draw(report, wrong_images, True)),
        )
        for figure in FIGURES
        if figure.is_drawn(report, wrong_images)
    }


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The font may lack a letter of a class name; the page shows the name as text
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format="png")
    return stream.getvalue()
