"""The page in a browser: nothing overflows at any width, and no request leaves."""

import os
import re

import pytest
from browser import NAMES, View, find_chromium, look_at
from reports import make_report, make_report_2

from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.figures.palette import DARK, LIGHT
from tskd_tf.report.page.page import render

WIDTHS = (360, 768, 1280)
LONG = "a" * 60


def with_long_words(report, images):
    for names in (report["task"]["class_names"], report["confusion"]["column_names"]):
        names[0] = LONG
    report["classes"][0]["class_name"] = LONG
    report["wrong_images"][0]["student_prediction"] = LONG
    report["command"] = f"python -m tskd_tf.main --image_dir=/{LONG}{LONG}/{LONG}"
    report["data"]["source"] = LONG + LONG
    for trial in report["search"]["trials"]:
        trial["widths"] = list(range(10, 90))
    return report, images


@pytest.fixture(scope="module", autouse=True)
def _chromium():
    if find_chromium() is None:
        told = f"needs a Chromium on the path: one of {', '.join(NAMES)}"
        if "CI" in os.environ:
            pytest.fail(told)
        pytest.skip(told)


@pytest.fixture(scope="module")
def pages():
    report, images = make_report_2(num_classes=12, num_wrong=24)
    # All figures are of one shape
    pngs = draw_figures(report, images)
    reports = {
        "few": (report, images),
        "many": make_report_2(num_classes=40),
        "long": with_long_words(*make_report_2(num_classes=3)),
        "old": (make_report(), None),
    }
    return {
        name: render(report, pngs, images) for name, (report, images) in reports.items()
    }


@pytest.fixture(scope="module")
def seen(pages):
    views = [
        View(name, page, width, scheme)
        for name, page in pages.items()
        for width in WIDTHS
        for scheme in ("light", "dark")
    ]
    measured, _ = look_at(views)
    return list(zip(views, measured, strict=True))


def test_nothing_overflows_at_any_width(seen):
    assert len(seen) == 4 * 3 * 2
    for view, measured in seen:
        assert measured["width"] == view.width
        assert measured["scroll_width"] <= view.width, measured
        assert not measured["beyond"], measured


def rgb(colour):
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


def test_light_and_dark_each_have_their_colours_and_figures(seen):
    shown = {}
    for view, measured in seen:
        paper = {"light": LIGHT, "dark": DARK}[view.scheme].paper
        assert measured["background"] == rgb(paper)
        # The policy lets them through
        assert measured["images_shown"] == measured["num_images"] >= 2
        shown[view.name, view.width, view.scheme] = measured["sources"]
    for (name, width, scheme), sources in shown.items():
        assert (sources[0] == shown[name, width, "light"][0]) == (scheme == "light")


def test_no_request_leaves(pages):
    # The policy would stop requests before they show
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
    assert all(re.search(policy, page) for page in pages.values())
    views = [
        View(name, re.sub(policy, "", page), 768, "light")
        for name, page in pages.items()
    ]
    _, addresses = look_at(views)
    assert addresses == []


def test_what_overflows_or_asks_for_more_is_seen():
    outside = "http://outside.invalid/picture.png"
    page = f'<p style="width:2000px">wide</p><img src="{outside}">'
    (measured,), addresses = look_at([View("wide", page, 360, "light")])
    assert measured["scroll_width"] >= 2000
    assert measured["beyond"][0].startswith("<p style=")
    assert measured["images_shown"] == 0
    assert addresses == [outside]
