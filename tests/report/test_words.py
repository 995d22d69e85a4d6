"""The words and the table of a report, and what the page says of the same."""

import pytest
from reports import (
    class_result,
    make_report,
    make_report_2,
    with_budgets,
    with_refinement,
)
from schemas import check_schema

from tskd_tf.report.figures.search import accuracy_against_macs
from tskd_tf.report.page.page import render
from tskd_tf.report.tensorboard import markdown
from tskd_tf.report.words import (
    broken_files,
    certainty,
    headline,
    short_bytes,
    short_count,
    summary_table,
)


def test_verdicts():
    assert "10 times fewer multiply-adds loses 0.10 points; 0.50" in headline(
        make_report()
    )
    assert "loses nothing" in headline(make_report(1, 1))
    assert "gains 0.05 points" in headline(make_report(0, 1))
    lost = make_report(40, 0)
    assert headline(lost).startswith("The student chosen on validation data fails")
    for trial in lost["search"]["trials"]:
        trial.update(feasible=False, accuracy=lost["search"]["validation_floor"] - 0.01)
    assert headline(lost).startswith("No student keeps the bargain. A student of 10")


def test_files_that_break_what_the_student_keeps_are_told_at_the_top():
    report, _ = make_report_2()
    assert broken_files(report) == "" and 'class="bad"' not in render(report, {})
    report["exports"][2]["meets_threshold"] = False
    told = "By itself, student_int8.tflite does not keep the bargain."
    page, text = render(report, {}), markdown(report)
    assert broken_files(report) == told
    assert page.index(told) < page.index("accuracy kept")
    assert text.index("student\\_int8.tflite does not keep") < text.index("By class")
    report["exports"][1]["meets_threshold"] = False
    several = "By themselves, student.tflite, student_int8.tflite do not"
    assert broken_files(report).startswith(several)
    report["meets_threshold"] = False
    assert broken_files(report) == ""


def test_a_student_of_ones_own_that_is_larger_is_told_so():
    report = make_report()
    report["teacher"]["num_macs"] = report["student"]["num_macs"] // 2
    assert "A student of 2 times more multiply-adds loses" in headline(report)
    assert "2.0x more" in summary_table(report)
    assert "more multiply-adds" in render(report, {})


def test_a_loss_just_over_the_line_is_told_from_it():
    said = headline(make_report(num_lost=16, num_gained=1, num_test=2999))
    assert "loses 0.5002 points; 0.5000 points were allowed" in said


def test_budgets_are_in_the_table_and_on_the_page():
    report = with_budgets(make_report())
    lines = summary_table(report).splitlines()
    start = lines.index("budget               limit  student")
    assert lines[start + 1 : start + 3] == [
        "multiply-adds        1,234      500",
        "us an image, LiteRT   30.0     21.2",
    ]
    page = render(report, {})
    assert "<h2>Budgets</h2>" in page and "<td>1,234</td><td>500</td>" in page
    report["budgets"] = {}
    assert "budget" not in summary_table(report)
    assert "Budgets" not in render(report, {})


def test_a_refinement_has_its_row_and_its_table():
    report = with_refinement(make_report())
    check_schema(report)
    row = "1,500 to 500 multiply-adds, 300 to 100 parameters; 2 of 3 steps kept"
    assert f"Refined: {row}\n" in summary_table(report)
    assert f"Refined: {row}" in markdown(report)
    page = render(report, {})
    assert f"The chosen student refined: {row}" in page
    assert page.count("✓ kept") == 2 and page.count("✗ undone") == 1
    for whole in (summary_table(make_report()), render(make_report(), {})):
        assert "efined" not in whole


def test_of_a_pre_set_cost_no_bargain_is_said():
    report = with_budgets(make_report(allowed=1.0))
    report["search"]["validation_floor"] = -0.01
    assert headline(report).endswith(
        "loses 0.10 points; the cost was pre-set, any loss allowed."
    )
    table, page = summary_table(report), render(report, {})
    for text in (table, certainty(report)):
        assert "bargain" not in text and "ruled out" not in text
    assert "✓ Of the pre-set cost" in page and "lost, any allowed" in page
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
    said = headline(report)
    assert said.startswith(
        "The budgets and the loss allowed contradict each other: the widest student "
        "that fits, at rate 0.4, loses 0.51 points on the validation images, 0.50 "
        "points were allowed. A student"
    )
    # Where the budgets leave nothing out, it is not they that contradict
    report["search"]["num_over_budget"] = 0
    assert headline(report).startswith("No student keeps the bargain.")


def test_the_verdict_is_that_of_the_search_where_a_rate_was_executed_twice():
    report = with_budgets(make_report(40, 0))
    trial = {**report["search"]["trials"][0], "rate": 0.4}
    floor = report["search"]["validation_floor"]

    def said(*trials):
        report["search"]["trials"] = [
            {**trial, "accuracy": a, "feasible": a >= floor, "seed": seed}
            for a, seed in trials
        ]
        return headline(report)

    # The first was enough, the mean of both is not
    contradiction = said((floor + 0.002, 0), (floor - 0.004, 1))
    assert contradiction.startswith("The budgets and the loss allowed contradict")
    assert "loses 0.60 points on the validation images" in contradiction
    assert said((floor - 0.002, 0), (floor + 0.004, 1)).startswith("The student chosen")
    # Hyperband's trials of a rate differ in their epochs, and the best counts
    assert said((floor - 0.3, 7), (floor, 7)).startswith("The student chosen")


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (7, "7"),
        (999, "999"),
        (999.7, "1_k"),
        (203250, "203_k"),
        (999_499, "999_k"),
        (999_500, "1_M"),
        (2_293_000, "2.29_M"),
        (999_999_999, "1_G"),
    ],
)
def test_counts_are_short_and_in_one_piece(count, written):
    assert short_count(count).replace("\N{NO-BREAK SPACE}", "_") == written


def test_bytes_are_short_and_in_one_piece():
    counts = (999, 1000, 999_950, 1_724_320, 4 * 10**9)
    written = [short_bytes(n).replace("\N{NO-BREAK SPACE}", "_") for n in counts]
    assert written == ["999_bytes", "1_kB", "1_MB", "1.72_MB", "4_GB"]


def test_an_interval_that_just_misses_is_told_apart_from_what_is_allowed():
    report = make_report()
    report |= {"certified": False, "accuracy_loss_interval": [0.0013, 0.00502]}
    assert " 0.13 to 0.502 points" in certainty(report | {"max_accuracy_loss": 0.005})
    assert " 0.13 to 0.50 points" in certainty(report | {"max_accuracy_loss": 0.002})


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


def test_another_method_than_equation_8_is_told():
    report = make_report()
    assert "widths 2-3\n" in summary_table(report)
    assert "adversarial" not in render(report, {})
    report["student"]["method"] = "adversarial"
    assert "widths 2-3, method adversarial\n" in summary_table(report)
    page = render(report, {})
    assert "adversarial" in page[page.index("To repeat it") :]


def test_a_file_that_was_rescued_says_how():
    report = make_report()
    (plain,) = [line for line in summary_table(report).splitlines() if "20 us" in line]
    assert plain.startswith("student.tflite: 1,234 bytes")
    tries = [("int8", False), ("int8_more_examples", False), ("int16x8", True)]
    attempts = [{"method": m, "is_shipped": shipped} for m, shipped in tries]
    report["exports"][0]["attempts"] = attempts
    told = "student.tflite (activations of 16 bits, weights of 8): 1,234 bytes"
    assert told in summary_table(report)
    # The plain one stays where nothing else is better
    attempts[0]["is_shipped"], attempts[2]["is_shipped"] = True, False
    assert plain in summary_table(report)


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
    page = render(report, {})
    short, everything = page.split("<details>", 1)
    assert "class 13<" in short and "class 14<" not in short
    assert all(f"class {i}<" in everything for i in range(95))
    assert "the 10 of 95 classes that lose most" in short
