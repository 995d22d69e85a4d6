"""The words, the table, the page and the figure of a report."""

import copy

import pytest

from tskd_tf.acceptance import paired_interval, smallest_certifiable_loss
from tskd_tf.figures import accuracy_against_macs, open_intervals, search_by_trial
from tskd_tf.report import certainty, summary_table, verdict
from tskd_tf.report_html import render


def class_result(name, class_id, student_accuracy):
    return {
        "class_id": class_id,
        "class_name": name,
        "num_train": 1234,
        "num_test": 100,
        "teacher_accuracy": 0.9,
        "student_accuracy": student_accuracy,
        "control_accuracy": 0.25,
    }


def make_report(num_lost=3, num_gained=1, num_test=2000, allowed=0.005):
    loss = (num_lost - num_gained) / num_test
    low, high = paired_interval(num_test, num_lost, num_gained)
    cost = {"num_params": 1000, "num_macs": 5000, "paper_cost": 900, "size_bytes": 4000}
    trial = {
        "rate": 0.5,
        "widths": [2, 3],
        "num_macs": 500,
        "accuracy": 0.99,
        "feasible": True,
        "epochs": 3,
        "seconds": 1.5,
        "seed": 1,
    }
    return {
        "schema_version": 1,
        "task": {"class_ids": [1, 0], "class_names": ["<b>", "cat"], "head": "full"},
        "data": {
            "source": "a & b",
            "num_train": 10,
            "num_validation": 5,
            "num_test": num_test,
        },
        "max_accuracy_loss": allowed,
        "teacher": {
            "accuracy": 0.99,
            "accuracy_all_outputs": 0.99,
            "accuracy_task_outputs": 1.0,
            "balanced_accuracy": 0.97,
            **cost,
        },
        "student": {
            "rate": 0.5,
            "widths": [2, 3],
            "accuracy": 0.99 - loss,
            "balanced_accuracy": 0.96,
            **{name: value // 10 for name, value in cost.items()},
        },
        "accuracy_loss": loss,
        "accuracy_loss_interval": [low, high],
        "accuracy_loss_interval_method": "Tango",
        "confidence": 0.95,
        "num_only_teacher_correct": num_lost,
        "num_only_student_correct": num_gained,
        "smallest_certifiable_loss": smallest_certifiable_loss(num_test),
        "meets_threshold": loss <= allowed,
        "certified": high <= allowed,
        "control": {"accuracy": 0.98, "balanced_accuracy": 0.95},
        "classes": [class_result("<b>", 1, 0.5), class_result("cat", 0, 0.875)],
        "search": {
            "seconds": 1.5,
            "validation_teacher_accuracy": 0.99,
            "validation_floor": 0.985,
            "trials": [trial, {**trial, "rate": 0.25, "feasible": False}],
        },
        "exports": [
            {
                "format": "litert",
                "path": "student.tflite",
                "size_bytes": 1234,
                "accuracy": 0.99,
                "latency_us": {"p50": 20.0, "p90": 30.0},
                "meets_threshold": True,
            }
        ],
        "environment": {
            "precision": "float32",
            "device": "CPU",
            "seed": 1,
            "versions": {"keras": "3"},
        },
        "command": "python -m tskd_tf.main --classes='<b>'",
    }


def test_verdicts():
    assert "10 times fewer multiply-adds loses 0.10 points; 0.50" in verdict(
        make_report()
    )
    assert "loses nothing" in verdict(make_report(1, 1))
    assert "gains 0.05 points" in verdict(make_report(0, 1))
    lost = make_report(40, 0)
    assert verdict(lost).startswith("The student chosen on validation data fails")
    for trial in lost["search"]["trials"]:
        trial["feasible"] = False
    assert verdict(lost).startswith("No student keeps the bargain. A student of 10")


def test_a_student_of_ones_own_that_is_larger_is_told_so():
    report = make_report()
    report["teacher"]["num_macs"] = report["student"]["num_macs"] // 2
    assert "A student of 2 times more multiply-adds loses" in verdict(report)
    assert "2.0x more" in summary_table(report)
    assert "more multiply-adds" in render(report, b"png", "command")


def test_a_loss_just_over_the_line_is_told_from_it():
    said = verdict(make_report(num_lost=16, num_gained=1, num_test=2999))
    assert "loses 0.5002 points; 0.5000 points were allowed" in said


def with_budgets(report):
    report["budgets"] = {
        "max_macs": {"limit": 1234, "student": 500},
        "max_latency_us": {"limit": 30.0, "student": 21.25},
    }
    report["search"]["num_over_budget"] = 7
    return report


def test_budgets_are_in_the_table_and_on_the_page():
    report = with_budgets(make_report())
    lines = summary_table(report).splitlines()
    start = lines.index("budget               limit  student")
    assert lines[start + 1 : start + 3] == [
        "multiply-adds        1,234      500",
        "us an image, LiteRT   30.0     21.2",
    ]
    page = render(report, b"png", "")
    assert "<h2>Budgets</h2>" in page and "<td>1,234</td><td>500</td>" in page
    report["budgets"] = {}
    assert "budget" not in summary_table(report)
    assert "Budgets" not in render(report, b"png", "")


def test_of_a_pre_set_cost_no_bargain_is_said():
    report = with_budgets(make_report(allowed=1.0))
    report["search"]["validation_floor"] = -0.01
    assert verdict(report).endswith(
        "loses 0.10 points; the cost was pre-set, any loss allowed."
    )
    table, page = summary_table(report), render(report, b"png", "")
    for text in (table, certainty(report)):
        assert "bargain" not in text and "ruled out" not in text
    assert "✓ Of the pre-set cost" in page and "lost; any allowed" in page
    assert "100.00 points" not in page and "-1.00 %" not in page
    (axes,) = accuracy_against_macs(report).axes
    assert not any("needed" in text.get_text() for text in axes.texts)


def test_budgets_and_loss_contradict_each_other_by_so_much():
    report = with_budgets(make_report(40, 0))
    narrow, wide = {"feasible": False, "rate": 0.2}, {"feasible": False, "rate": 0.4}
    trial = report["search"]["trials"][0]
    report["search"]["trials"] = [
        {**trial, **narrow, "accuracy": 0.97},
        {**trial, **wide, "accuracy": 0.9849},
    ]
    said = verdict(report)
    assert said.startswith(
        "The budgets and the loss allowed contradict each other: the widest student "
        "that fits, at rate 0.4, loses 0.51 points on the validation images, 0.50 "
        "points were allowed. A student"
    )
    # Where the budgets leave nothing out, it is not they that contradict
    report["search"]["num_over_budget"] = 0
    assert verdict(report).startswith("No student keeps the bargain.")


def test_certainty_says_what_the_test_set_can_say():
    assert "is ruled out" in certainty(make_report())
    doubtful = certainty(make_report(num_test=200, num_lost=0, num_gained=0))
    assert "not ruled out" in doubtful
    assert "all 200 test images, a loss of 1.88 points could be certified" in doubtful


def test_table_is_aligned_and_complete():
    table = summary_table(make_report())
    rows = [line for line in table.splitlines() if "fewer" in line and "x " in line]
    assert len(rows) == 3
    assert len({row.index("10.0x fewer") for row in rows}) == 1
    for part in ("<b>, cat", "a & b", "2-3", "student.tflite: 1,234 bytes", "20 us"):
        assert part in table


def test_table_by_class():
    lines = summary_table(make_report()).splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith("class ")]
    assert [line.split() for line in lines[start + 1 : start + 5]] == [
        ["<b>", "90.00", "%", "50.00", "%", "25.00", "%", "100"],
        ["cat", "90.00", "%", "87.50", "%", "25.00", "%", "100"],
        ["balanced", "accuracy", "97.00", "%", "96.00", "%", "95.00", "%"],
        [],
    ]
    # Each number ends where its column's name does
    for name, number in (("teacher", "90.00 %"), ("student", "87.50 %")):
        end = lines[start].index(name) + len(name)
        assert lines[start + 2][:end].endswith(number)


def test_of_many_classes_those_that_lose_most_are_shown():
    report = make_report()
    report["classes"] = [
        class_result(f"class {i}", i, 0.1 if i % 10 == 3 else 0.9) for i in range(95)
    ]
    table = summary_table(report)
    wanted = [f"class {i}" for i in range(3, 95, 10)]
    shown = [line[:8].strip() for line in table.splitlines() if line[:6] == "class "]
    assert shown == ["class", *wanted]
    assert "(10 of 95 classes, those that lose most)" in table
    page = render(report, b"png", "")
    short, everything = page.split("<details>")
    assert "class 13<" in short and "class 14<" not in short
    assert all(f"class {i}<" in everything for i in range(95))
    assert "The 10 of 95 classes that lose most" in short


def test_reports_of_earlier_versions_are_drawn_without_classes():
    report = make_report()
    del report["classes"]
    assert "balanced accuracy" not in summary_table(report)
    assert "By class" not in render(report, b"png", "")


def test_page_is_self_contained_and_escaped():
    report = make_report()
    page = render(report, b"png", report["command"])
    assert "<b>, cat" not in page and "&lt;b&gt;, cat" in page
    assert "a &amp; b" in page
    assert "http" not in page and "<script" not in page
    assert 'alt="Validation accuracy' in page
    assert "✓ Keeps the bargain" in page
    assert "<td>1,234</td>" in page and "<details>" not in page
    assert "✗ Does not keep" in render(make_report(40, 0), b"png", "")


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
    assert {"0.5", "0.25", "needed: 98.50 %"} <= notes


def with_trials(report, *trials):
    """Of `(rate, accuracy, seed)`; the student is still that of rate 0.5."""
    trial, floor = report["search"]["trials"][0], report["search"]["validation_floor"]
    report["search"]["trials"] = [
        {**trial, "rate": r, "accuracy": a, "seed": s, "feasible": a >= floor}
        for r, a, s in trials
    ]
    return report


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


def test_the_search_is_on_the_page_where_there_was_one():
    report = make_report()
    page = render(report, b"png", "", b"search")
    assert page.count("<img alt=") == 2 and "c2VhcmNo" in page
    assert "2 trials in their order" in page and "0.25 not enough" in page
    assert render(report, b"png", "").count("<img alt=") == 1
    assert "by the mean" not in page
    assert "by the mean" in render(with_trials(report, *AGAIN), b"png", "")
