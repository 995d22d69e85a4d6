"""The record of each figure."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tskd_tf.report.record import Report

# Sections of the page with figures, in the order of the page
SECTIONS = ("search", "training", "classes")


def _always(report: Report, wrong_images: np.ndarray | None) -> bool:
    return True


class ReportFigure(NamedTuple):
    """The record of a figure.

    Attributes:
        name: Name of its PNG file, and of its tag in TensorBoard.
        draw: Maps `(report, wrong images, whether the page is dark)` to the figure. The
            images are uint8 of shape `(n, height, width, channels)`, or None.
        summary: Description for TensorBoard, one sentence. Empty: not in TensorBoard,
            which shows the same data interactively.
        section: Section of the page, one of `SECTIONS`. Empty: not on the page.
        description: Text alternative with the numbers, for readers who cannot see it.
        caption: Text below the figure on the page.
        is_drawn: Whether a report has the data of the figure. Default: always.
        is_on_page: Whether the page shows a drawn figure. Default: always.
    """

    name: str
    draw: Callable[[Report, np.ndarray | None, bool], Figure]
    summary: str
    section: str
    description: Callable[[Report], str]
    caption: Callable[[Report], str]
    is_drawn: Callable[[Report, np.ndarray | None], bool] = _always
    is_on_page: Callable[[Report], bool] = lambda report: True
