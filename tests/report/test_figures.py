"""What the figures show: every trial, every count, every picture; readable colours."""

import copy
import warnings

import numpy as np
import pytest
from reports import make_report, make_report_2, with_refinement, with_trials

from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.figures.pictures import as_picture, png_bytes
from tskd_tf.report.figures.results import confusion, training_curves, wrong_images
from tskd_tf.report.figures.search import accuracy_against_macs
from tskd_tf.report.figures.trials import search_by_trial
from tskd_tf.report.trials import open_intervals


@pytest.mark.parametrize("feasible", [True, False])
def test_figure_shows_every_trial_the_teacher_and_the_line(feasible):
    report = copy.deepcopy(make_report())
    report["search"]["trials"][0]["feasible"] = feasible
    figure = accuracy_against_macs(report)
    (axes,) = figure.axes
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"loses too much", "chosen", "teacher"} | (
        {"keeps the bargain"} if feasible else set()
    )
    notes = {text.get_text() for text in axes.texts}
    assert {"1", "2", "needed: 98.50 %"} <= notes


def test_the_steps_of_a_refinement_that_were_kept_are_a_line():
    figure = accuracy_against_macs(with_refinement(make_report()))
    (axes,) = figure.axes
    (line,) = (line for line in axes.lines if line.get_label() == "refined")
    assert line.get_xydata().tolist() == [[900, 99], [500, 99]]
    assert "refined" in [text.get_text() for text in figure.legends[0].get_texts()]
    undone = with_refinement(make_report())
    undone["refinement"]["steps"] = undone["refinement"]["steps"][1:2]
    accuracy_against_macs(undone)


AGAIN = ((0.5, 0.99, 1), (0.25, 0.986, 1), (0.1, 0.9, 1), (0.25, 0.98, 2))


def test_the_interval_closes_in_on_the_means():
    report = with_trials(make_report(), *AGAIN)
    expected = [(0.0, 1.0), (0.0, 0.5), (0.0, 0.25), (0.1, 0.25), (0.25, 0.5)]
    assert open_intervals(report) == expected
    # The same seed for more epochs is no other opinion
    report = with_trials(make_report(), (0.5, 0.9, 1), (0.5, 0.99, 1))
    assert open_intervals(report) == [(0.0, 1.0), (0.5, 1.0), (0.0, 0.5)]


def test_the_search_figure_shows_every_trial_and_the_chosen():
    figure = search_by_trial(with_trials(make_report(), *AGAIN))
    (axes,) = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    points = {c.get_label(): c.get_offsets().tolist() for c in axes.collections}
    kept, lost = "keeps the bargain", "loses too much"
    band = "where the smallest may lie"
    assert names == [band, kept, lost, f"{lost}, trained again", "chosen"]
    assert points[kept] == [[1, 0.5], [2, 0.25]] and points[lost] == [[3, 0.1]]
    assert points[f"{lost}, trained again"] == [[4, 0.25]]
    assert points["chosen"] == [[1, 0.5]]
    assert [t.get_text() for t in axes.texts] == ["99.00", "98.60", "90.00", "98.00"]


def test_of_one_trial_no_band_is_drawn():
    figure = search_by_trial(with_trials(make_report(), (0.5, 0.99, 1)))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["keeps the bargain", "chosen"]


def test_trials_have_their_numbers_and_the_path_joins_them():
    report = with_trials(make_report(), *AGAIN)
    (axes,) = accuracy_against_macs(report).axes
    texts = [text.get_text() for text in axes.texts]
    assert {"1", "2, 4", "3"} <= set(texts) and texts.count("") == 3
    report["search"]["trials"] *= 4
    (axes,) = accuracy_against_macs(report).axes
    assert "" not in {text.get_text() for text in axes.texts}


def test_curves_of_all_that_was_trained():
    report, _ = make_report_2()
    accuracy_axes, loss_axes = training_curves(report).axes
    assert len(accuracy_axes.lines) == 5 == len(loss_axes.lines)
    student = accuracy_axes.lines[1]
    assert student.get_label() == "student"
    np.testing.assert_allclose(student.get_xydata(), [[1, 90], [2, 97], [3, 99]])
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in accuracy_axes.lines
    }
    # Each line differs from the others without its colour, too
    assert len({look[1:] for look in looks}) == len(looks) == 4
    report["teacher"]["curve"] = None
    assert len(training_curves(report).axes[0].lines) == 4


def test_the_confusion_figure_has_every_count():
    report, _ = make_report_2()
    figure = confusion(report)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.texts] == ["90", "7", "0", "2", "91", "0"]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["class 0", 'x<script>"&$1$']
    assert axes.images[0].get_array().mask.tolist() == [[0, 1, 1], [1, 0, 1]]
    many, _ = make_report_2(num_classes=60)
    (axes,) = confusion(many).axes
    assert not axes.texts and len(axes.get_yticks()) < 20
    assert axes.get_xlabel() == "the student says (place in the task, from 0)"
    most, _ = make_report_2(num_classes=40)
    (axes,) = confusion(most).axes
    assert len(axes.get_xticks()) == 41 and axes.get_xlabel() == "the student says"


def test_the_wrong_images_have_their_names():
    report, images = make_report_2(num_wrong=8)
    figure = wrong_images(report, images)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 8 and len(figure.axes) == 10
    assert shown[0].get_title() == 'class 0\nfor x<script>"&…'
    np.testing.assert_array_equal(shown[7].images[0].get_array(), images[7, ..., 0])


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 30, 3), (9, 5, 2), (9, 5, 13)])
def test_a_small_picture_is_its_image(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    picture = as_picture(image)
    np.testing.assert_array_equal(picture, image[..., : 3 if shape[2] >= 3 else 1])
    assert png_bytes(picture).startswith(b"\x89PNG")


def test_a_large_picture_is_the_means_of_squares():
    image = np.random.default_rng(0).integers(0, 256, (321, 1, 3)).astype(np.uint8)
    picture = as_picture(image)
    assert picture.shape == (107, 1, 3)
    means = image[:, 0].reshape(107, 3, 3).mean(axis=1)
    np.testing.assert_allclose(picture[:, 0], means, atol=0.5)
    assert as_picture(np.zeros((1000, 2000, 1), np.uint8)).shape == (76, 153, 1)


def test_figures_are_drawn_of_what_the_report_tells():
    report, images = make_report_2()
    pngs = draw_figures(report, images)
    always = {"accuracy_against_macs", "search", "training_curves", "confusion"}
    assert set(pngs) == always | {"wrong_images"}
    assert all(light != dark for light, dark in pngs.values())
    assert set(draw_figures(make_report())) == always
    assert "wrong_images" not in draw_figures(report, images[:0])


def test_a_name_that_no_font_has_warns_of_nothing():
    report, images = make_report_2()
    report["confusion"]["row_names"][0] = "猫"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_figures(report, images)


@pytest.mark.parametrize("num_classes", [2, 12, 40])
def test_nothing_is_cut_off(num_classes):
    report, images = make_report_2(num_classes, num_wrong=5)
    report["confusion"]["row_names"][0] = "a very long name of a class"
    report["wrong_images"][0]["student_prediction"] = "a very long name of a class"
    again = with_trials(make_report(), *AGAIN)
    for figure in (
        search_by_trial(again),
        search_by_trial(report),
        accuracy_against_macs(report),
        training_curves(report),
        confusion(report),
        wrong_images(report, images),
    ):
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        # In inches
        assert -0.01 <= drawn.x0 and drawn.x1 <= width + 0.01
        assert -0.01 <= drawn.y0 and drawn.y1 <= height + 0.01


def with_families():
    """Trials of two families; the second compact one is the smallest feasible."""
    report = with_trials(
        make_report(), (0.5, 0.99, 1), (0.25, 0.986, 1), (0.1, 0.9, 1), (0.05, 0.8, 1)
    )
    trials = report["search"]["trials"]
    for trial, family, num_macs in zip(
        trials, ("compact", "compact", "thin", "compact"), (9000, 4000, 3000, 1000)
    ):
        trial["num_macs"] = num_macs
        if family != "thin":
            trial["family"] = family
    report["teacher"]["num_macs"] = 20_000
    report["student"].update(family="compact", rate=0.25)
    return report


def test_with_families_the_search_figure_shows_multiply_adds():
    report = with_families()
    (axes,) = search_by_trial(report).axes
    assert axes.get_ylabel() == "multiply-adds of one inference"
    points = {c.get_label(): c.get_offsets().tolist() for c in axes.collections}
    assert points["keeps the bargain"] == [[1, 9000], [2, 4000]]
    assert points["loses too much"] == [[3, 3000], [4, 1000]]
    assert points["chosen"] == [[2, 4000]]
    notes = [text.get_text() for text in axes.texts]
    assert notes == [
        "99.00\ncompact",
        "98.60\ncompact",
        "90.00\nthin",
        "80.00\ncompact",
    ]
    (line,) = axes.lines
    assert list(line.get_ydata()) == [9000, 4000, 4000, 4000, 4000]


def test_with_families_a_line_joins_those_of_each():
    (axes,) = accuracy_against_macs(with_families()).axes
    lines = [list(line.get_xdata()) for line in axes.lines]
    assert [1000, 4000, 9000] in lines and [3000] in lines
    assert {"compact", "thin"} <= {text.get_text() for text in axes.texts}
