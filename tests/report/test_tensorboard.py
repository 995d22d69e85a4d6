"""What TensorBoard shows of a report: text and images, once."""

import html
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from reports import make_report, make_report_2, with_budgets

from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.tensorboard import markdown, write_summaries
from tskd_tf.report.words import headline

IMAGES = ("accuracy_against_macs", "confusion", "search", "wrong_images")


@pytest.fixture
def report_and_images():
    return make_report_2(num_classes=3)


def summaries(run_dir):
    """Tag → tensors, of all files."""
    found = {}
    for path in run_dir.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor))
    return found


def test_text_and_images_are_there_once(report_and_images, tmp_path):
    report, images = report_and_images
    drawn = draw_figures(report, images)
    figures = {name: light for name, (light, _) in drawn.items()}
    for _ in range(2):
        write_summaries(report, figures, tmp_path)
    found = summaries(tmp_path)
    assert set(found) == {"report/summary", *(f"report/{name}" for name in IMAGES)}
    (text,) = found["report/summary"]
    assert text.item().decode() == markdown(report)
    for name in IMAGES:
        (tensor,) = found[f"report/{name}"]
        # Width and height come first
        np.testing.assert_array_equal(
            tf.io.decode_png(tensor[2]), tf.io.decode_png(figures[name], channels=3)
        )


@pytest.fixture
def to_html():
    """What TensorBoard itself makes of Markdown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "html5lib's sanitizer is deprecated")
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html


def cells(table):
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_tensorboard_makes_tables_of_it(report_and_images, to_html):
    report, _ = report_and_images
    page = to_html(markdown(report))
    assert html.unescape(re.search(r"<h2>(.*?)</h2>", page)[1]) == headline(report)
    numbers, classes, exports = map(cells, page.split("<table>")[1:])
    assert numbers[2] == ["parameters", "1,000", "100", "100", "10.0 times fewer"]
    names = [html.unescape(row[0]) for row in classes[1:]]
    assert names == ["class 0", "class 1", 'x<script>"&$1$', "balanced accuracy"]
    assert classes[4] == ["balanced accuracy", "97.00 %", "96.00 %", "95.00 %", ""]
    assert exports[2] == ["student.tflite", "1,234", "98.85 %", "20", "keeps"]
    assert "<script" not in page


def test_names_of_markdown_are_shown_as_they_are(report_and_images, to_html):
    report, _ = report_and_images
    name = "a|b*c*_d_`e`[f](g) #h ~i~ <b> \\j"
    report["classes"][0]["class_name"] = name
    page = to_html(markdown(report))
    _, classes, _ = map(cells, page.split("<table>")[1:])
    assert html.unescape(classes[1][0]) == name


def test_of_many_classes_it_says_which_are_shown():
    report, _ = make_report_2(num_classes=30)
    text = markdown(report)
    assert "### By class: the 10 of 30 that lose most" in text


def test_budgets_are_a_table_where_there_are_any(to_html):
    report = with_budgets(make_report())
    _, budgets, *_ = map(cells, to_html(markdown(report)).split("<table>")[1:])
    assert budgets == [
        ["budget", "limit", "student"],
        ["multiply-adds", "1,234", "500"],
        ["us an image, LiteRT", "30.0", "21.2"],
    ]
    report["budgets"] = {}
    assert "Budgets" not in markdown(report)


def test_a_file_that_was_rescued_says_how(report_and_images, to_html):
    report, _ = report_and_images
    tries = [("int8", False), ("int16x8", True)]
    report["exports"][2]["attempts"] = [
        {"method": method, "is_shipped": shipped} for method, shipped in tries
    ]
    page = to_html(markdown(report))
    assert "student_int8.tflite (activations of 16 bits, weights of 8)" in page
