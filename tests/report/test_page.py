"""The page: what it says, that it says it to everybody, and that it loads nothing."""

import html.parser
import re

import numpy as np
import pytest
from reports import make_export, make_report, make_report_2, with_trials

from tskd_tf.report.figures.palette import DARK, LIGHT
from tskd_tf.report.page.html import percent
from tskd_tf.report.page.page import render
from tskd_tf.report.page.range_plot import Range, range_plot

PNGS = {
    name: (b"light " + name.encode(), b"dark " + name.encode())
    for name in ("accuracy_against_macs", "search", "training_curves", "confusion")
}


class Page(html.parser.HTMLParser):
    """Elements and texts, and that every element is closed where it was opened."""

    VOID = {"meta", "img", "source", "br"}

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data.replace("\N{NO-BREAK SPACE}", " "))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self):
        return " ".join(" ".join(self.texts).split())


def full_page(**kwargs):
    report, images = make_report_2(**kwargs)
    return Page(render(report, PNGS, images))


def test_nothing_is_loaded_and_every_name_is_escaped():
    report, images = make_report_2()
    report["data"]["source"] = '<img src="http://a"> & b'
    report["command"] = "python -m tskd_tf.main --classes='<b>'"
    source = render(report, PNGS, images)
    page = Page(source)
    assert not {"script", "link", "iframe", "b>"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        addresses = (attributes.get(name) for name in ("src", "srcset", "href"))
        assert all(a.startswith("data:image/png") for a in addresses if a)
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in source and "@import" not in source
    policy = page.of("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none';")
    assert 'x<script>"&$1$' in page.text() and "--classes='<b>'" in page.text()
    assert '<img src="http://a"> & b' in page.text()


def test_it_opens_with_the_verdict_and_four_numbers():
    text = full_page().text()
    assert text.index("✓ Keeps the bargain") < text.index("A student of 10 times")
    for number in (
        "99.90 % of the teacher's accuracy kept 98.90 % of test images right, teacher "
        "99.00 %: 0.10 points lost, 0.50 points allowed",
        "10.0× smaller 400 bytes of weights, teacher 4 kB",
        "10.0× fewer multiply-adds 500 an image, teacher 5 k",
        "7.5× faster LiteRT float32 on one thread: 20 µs an image, teacher 150 µs",
    ):
        assert number in text
    assert "✗ Does not keep" in Page(render(make_report(40, 0), {})).text()


def test_the_speed_is_that_of_int8_without_a_float_file_or_said_to_be_unknown():
    report, _ = make_report_2()
    report["exports"] = [make_export("litert_int8", "student_int8.tflite", speedup=0.5)]
    text = Page(render(report, {})).text()
    assert "2.0× slower LiteRT int8 on one thread" in text
    half = make_export("litert_float16", "student_float16.tflite")
    report["exports"].append(half)
    assert "7.5× faster LiteRT float16" in Page(render(report, {})).text()
    assert "– speed not measured" in Page(render(make_report(), {})).text()


def test_of_a_teacher_that_gets_nothing_right_no_share_is_kept():
    report = make_report()
    report["teacher"]["accuracy"] = 0.0
    assert "– of the teacher's accuracy kept" in Page(render(report, {})).text()


def test_it_can_be_read_by_everybody():
    page = full_page()
    assert page.of("html") == [{"lang": "en"}]
    images = page.of("img")
    assert len(images) == 3 + 3 and all(image["alt"] for image in images)
    sure = 'class 0 taken for x<script>"&$1$, over 99\N{NO-BREAK SPACE}% sure'
    assert sure in [image["alt"] for image in images]
    assert all(svg.get("aria-label") for svg in page.of("svg") if "role" in svg)
    tables = len(page.of("table"))
    assert tables == len(page.of("caption")) >= 7
    assert all(cell.get("scope") in ("row", "col") for cell in page.of("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:]))


def test_dark_figures_are_for_dark_screens():
    page = full_page()
    sources = page.of("source")
    assert len(sources) == 3
    for source in sources:
        # Paper is light
        assert source["media"] == "screen and (prefers-color-scheme: dark)"
    assert "ZGFyayBzZWFyY2g" in sources[1]["srcset"]
    assert any("bGlnaHQgc2VhcmNo" in image["src"] for image in page.of("img"))


def channel(value):
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(colour):
    parts = [channel(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def contrast(first, second):
    """WCAG 2.2."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def variables(page):
    """The colours of the style sheet: those for light, those for dark."""
    blocks = re.findall(r":root \{([^}]*)\}", page)
    return [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in blocks]


def test_contrast_is_computed_as_it_is_defined():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_all_that_is_written_is_readable_in_light_and_in_dark():
    light, dark = variables(render(make_report(), {}))
    assert light == LIGHT._asdict() and dark == DARK._asdict()
    for colours in (light, dark):
        for written in ("ink", "soft", "good", "bad", "teacher", "student"):
            for ground in ("paper", "card"):
                assert contrast(colours[written], colours[ground]) >= 4.5
        for ground in ("hit", "miss", "band"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5


def test_the_matrix_is_a_table_of_numbers_for_few_classes():
    page = full_page()
    assert {"class": "miss", "style": "--shade:100%"} in page.of("td")
    assert {"class": "zero", "style": "--shade:0%"} in page.of("td")
    text = page.text()
    assert 'class class 0 x<script>"&$1$ another class class 0 90 7 0' in text
    assert 'class 0 taken for x<script>"&$1$ 7 1' in text
    assert "Confusion matrix" not in str(page.of("img"))


def test_of_many_classes_the_matrix_is_a_picture():
    page = full_page(num_classes=13)
    assert not any(cell.get("class") == "hit" for cell in page.of("td"))
    assert "Confusion matrix of the student, 13 classes" in str(page.of("img"))
    assert 'class 0 taken for x<script>"&$1$ 7 1' in page.text()
    assert "Smallest student: 25 classes" in full_page(num_classes=25).text()


def test_a_student_that_makes_no_mistake_is_told_so():
    report, _ = make_report_2()
    report["confusion"]["student"] = [[9, 0, 0], [0, 9, 0]]
    report["wrong_images"] = []
    text = Page(render(report, PNGS)).text()
    assert "gets every test image right" in text and "the teacher right" not in text


def test_the_files_and_how_int8_was_rescued():
    report, _ = make_report_2()
    attempt = {
        "accuracy": 0.9,
        "accuracy_loss": 0.09,
        "accuracy_loss_interval": [0.08, 0.1],
        "size_bytes": 1000,
    }
    report["exports"][2]["attempts"] = [
        {**attempt, "method": "int8", "meets_threshold": False, "is_shipped": False},
        {"method": "int8_more_examples", "failure": "too <few>", "is_shipped": False},
        {**attempt, "method": "int16x8", "meets_threshold": True, "is_shipped": True},
    ]
    text = Page(render(report, {})).text()
    for part in (
        "student.keras (Keras) student.tflite (LiteRT float32) student_int8.tflite",
        "smaller than the teacher's weights 3.2× 3.2× 3.2×",
        "95 % interval of the loss −0.10 to 0.40 points",
        "faster than the teacher not measured 7.5× 9.0×",
        "as usual 90.00 % 9.00 points 8.00 to 10.00 points 1 kB ✗ no ✗ no",
        "ranges from more images no file: too <few> ✗ no ✗ no",
        "weights of 8 90.00 % 9.00 points 8.00 to 10.00 points 1 kB ✓ yes ✓ yes",
        "student_int8.tflite (LiteRT int8, activations of 16 bits, weights of 8)",
        'keras.saving.load_model("student.keras")',
    ):
        assert part in text


def test_of_a_pre_set_cost_no_file_keeps_a_bargain():
    report, _ = make_report_2()
    assert "keeps the bargain ✓ yes" in Page(render(report, {})).text()
    report["max_accuracy_loss"] = 1.0
    assert "keeps the bargain ✓ yes" not in Page(render(report, {})).text()


def test_what_repeats_it():
    text = full_page().text()
    for part in (
        "python -m tskd_tf.main --classes='<b>'",
        "seed 1 data a & b precision float32 (the CPU has no bfloat16 instructions) "
        "device CPU python 3.11 tskd_tf 0.1 tensorflow 2.21 keras 3 seconds: data 1",
    ):
        assert part in text


def test_the_search_is_on_the_page_where_there_was_one():
    report = make_report()
    page = Page(render(report, PNGS))
    assert len(page.of("img")) == 3
    assert "2 trials in their order" in page.of("img")[1]["alt"]
    assert "0.25 not enough" in page.of("img")[1]["alt"]
    assert "2 0.25" in page.text() and "1, chosen 0.5" in page.text()
    assert "by the mean" not in page.text()
    again = with_trials(make_report(), (0.5, 0.99, 1), (0.5, 0.98, 2))
    assert "by the mean" in Page(render(again, {})).text()
    one = with_trials(make_report(), (0.5, 0.99, 1))
    assert len(Page(render(one, PNGS)).of("img")) == 2


def positions(page, name):
    return [float(line[name].rstrip("%")) for line in page.of("line") if name in line]


def test_ranges_are_drawn_to_scale():
    shown = Range("student", "student", -0.1, 0.2, 0.4)
    page = Page(range_plot("words", [shown], (0.5, "allowed")))
    limit = [line for line in page.of("line") if line["class"] == "limit"][0]
    across = [line for line in page.of("line") if line["class"] == "span"][0]
    low, high = float(across["x1"][:-1]), float(across["x2"][:-1])
    value = float(page.of("svg")[1]["x"][:-1])
    # Three fifths of the interval, and a fifth of it beyond its end
    assert (value - low) / (high - low) == pytest.approx(0.6, abs=1e-3)
    assert (float(limit["x1"][:-1]) - high) / (high - low) == pytest.approx(0.2, 0.01)
    assert 0 <= min(positions(page, "x1")) and max(positions(page, "x2")) <= 100
    assert {"-0.2", "0.0", "0.2", "0.4"} & set(page.texts) >= {"0.0", "0.2", "0.4"}


def test_a_range_without_extent_is_drawn():
    assert "50.00%" in range_plot("", [Range("all", "teacher", 1.0, 1.0, 1.0)])


def test_numbers_are_written_in_one_piece():
    assert percent(0.98914) == "98.91\N{NO-BREAK SPACE}%"


def test_of_very_many_widths_both_ends_are_shown():
    report = make_report()
    report["search"]["trials"][1]["widths"] = list(range(1, 21))
    text = Page(render(report, {})).text()
    assert "1-2-3-…-19-20" in text and " 2-3 " in text
