"""A section's figures on the page."""

from tskd_tf.report.figures import drawings
from tskd_tf.report.page.html import Pngs, figure
from tskd_tf.report.record import Report


def figures_of(section: str, report: Report, pngs: Pngs) -> str:
    """The figures of a section that were drawn, in the order of `drawings.FIGURES`.

    Args:
        section: One of `figure.SECTIONS`.
        report: A report, as in `report.json`.
        pngs: PNG files by name, for a light and for a dark page.
    """
    return "".join(
        figure(pngs[drawn.name], drawn.description(report), drawn.caption(report))
        for drawn in drawings.FIGURES
        if drawn.section == section and drawn.name in pngs and drawn.is_on_page(report)
    )
