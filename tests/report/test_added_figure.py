"""A figure from a module outside the package: one record, and it is everywhere."""

import tensorflow as tf
from matplotlib.figure import Figure
from reports import make_report_2

from tskd_tf.report.figures import drawings
from tskd_tf.report.figures.figure import ReportFigure
from tskd_tf.report.tensorboard import write_summaries
from tskd_tf.run.output_folder import draw


def draw_rates(report, wrong_images, dark):
    drawn = Figure(figsize=(2, 1), facecolor="black" if dark else "white")
    drawn.gca().plot([trial["rate"] for trial in report["search"]["trials"]])
    return drawn


RATES = ReportFigure(
    name="rates",
    draw=draw_rates,
    summary="The rates of all trials.",
    section="search",
    description=lambda report: f"Rates of {len(report['search']['trials'])} trials.",
    caption=lambda report: "As they were tried.",
)


def test_a_figure_of_ones_own_is_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "FIGURES", (*drawings.FIGURES, RATES))
    report, images = make_report_2()
    pngs = draw(report, tmp_path, images)
    written = (tmp_path / "figures" / "rates.png").read_bytes()
    assert written == pngs["rates"] and written.startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    num_trials = len(report["search"]["trials"])
    assert f"Rates of {num_trials} trials." in page and "As they were tried." in page
    write_summaries(report, pngs, tmp_path / "logs")
    tags = {
        value.tag
        for path in (tmp_path / "logs").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert "report/rates" in tags
