"""What the package knows of a figure: one record a figure."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tskd_tf.report.record import Report

# Of the page, in its order
SECTIONS = ("search", "training", "classes")


def _always(report: Report, wrong_images: np.ndarray | None) -> bool:
    return True


class ReportFigure(NamedTuple):
    """The record of a figure.

    Attributes:
        name: Of its PNG file, and of its tag in TensorBoard.
        draw: `(report, wrong images, whether for a dark page)` → the figure. The images
            are uint8 of shape `(n, height, width, channels)`, or None.
        summary: What it shows in a sentence, for TensorBoard; empty leaves it out
            there, where the same is interactive.
        section: Of the page, one of `SECTIONS`; empty leaves it out there.
        description: What it shows with its numbers, for who cannot see it on the page.
        caption: What stands below it on the page.
        is_drawn: Whether a report has what it shows.
        is_on_page: Whether the page needs it, where it is drawn.
    """

    name: str
    draw: Callable[[Report, np.ndarray | None, bool], Figure]
    summary: str
    section: str
    description: Callable[[Report], str]
    caption: Callable[[Report], str]
    is_drawn: Callable[[Report, np.ndarray | None], bool] = _always
    is_on_page: Callable[[Report], bool] = lambda report: True
