"""The report as one self-contained HTML page."""

import numpy as np

from tskd_tf.acceptance import wilson_interval
from tskd_tf.export.loading_snippets import title_of
from tskd_tf.report.page.classes import classes_section
from tskd_tf.report.page.files import files_section, interval_points, microseconds
from tskd_tf.report.page.html import Pngs, percent, table, text
from tskd_tf.report.page.range_plot import Range, range_plot
from tskd_tf.report.page.search import search_section, training_section
from tskd_tf.report.page.style import style
from tskd_tf.report.record import CLASSIFIERS, Classifier, Report
from tskd_tf.report.rows import accuracies, allows_any_loss, budget_rows, cost_rows
from tskd_tf.report.words import (
    broken_files,
    certainty,
    headline,
    loss_and_allowed,
    method_of,
    points,
    short_bytes,
    short_count,
)

# The page loads no other file and runs no script
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_MOST_NAMES = 20


def render(
    report: Report, figures: Pngs, wrong_images: np.ndarray | None = None
) -> str:
    """Renders a report as an HTML page.

    Args:
        report: A report, as in `report.json`.
        figures: PNG files by name, for a light and for a dark page; missing figures are
            left out.
        wrong_images: uint8, shape `(n, height, width, channels)`, in the order of the
            report's `wrong_images`. Default: none.

    Returns:
        HTML that loads no other file.
    """
    body = (
        f"{_header(report)}<main>{_classifiers(report)}{_budgets(report)}"
        f"{search_section(report, figures)}{training_section(report, figures)}"
        f"{classes_section(report, figures, wrong_images)}"
        f"{files_section(report)}{_repetition(report)}</main>"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Smallest student: {text(_classes(report))}</title>
<style>{style()}</style></head><body>
{body}
</body></html>
"""


def _classes(report: Report) -> str:
    names = report["task"]["class_names"]
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} classes"


def _header(report: Report) -> str:
    kept = report["meets_threshold"]
    badge = "✓ Keeps the bargain" if kept else "✗ Does not keep the bargain"
    if allows_any_loss(report):
        badge = "✓ Of the pre-set cost"
    cards = "".join(
        f"<li><b>{text(number)}</b><span>{text(name)}</span>"
        f"<small>{text(details)}</small></li>"
        for number, name, details in _numbers(report)
    )
    data, broken = report["data"], broken_files(report)
    warning = f'<p class="bad">✗ {text(broken)}</p>\n' if broken else ""
    return f"""<header><div class="badge {'good' if kept else 'bad'}">{badge}</div>
<h1>{text(headline(report))}</h1>
<p>{text(certainty(report))}</p>
{warning}<ul class="numbers">{cards}</ul>
<p class="note">Task: {text(_classes(report))}; {text(report["task"]["head"])} head.
Data: {text(data.get("source", "arrays"))}; {data["num_train"]:,} training,
{data["num_validation"]:,} validation and {data["num_test"]:,} test images of the
task.</p></header>
"""


def _numbers(report: Report) -> list[tuple[str, str, str]]:
    """Four numbers, each with its name and details."""
    teacher, student = report["teacher"], report["student"]
    loss, allowed = loss_and_allowed(report)
    if allows_any_loss(report):
        allowed = "any"
    direction = "gained" if report["accuracy_loss"] < 0 else "lost"
    kept = "–"
    if teacher["accuracy"]:
        kept = percent(student["accuracy"] / teacher["accuracy"])
    _, macs, size = cost_rows(report)
    return [
        (
            kept,
            "of the teacher's accuracy kept",
            f"{percent(student['accuracy'])} of test images right, teacher "
            f"{percent(teacher['accuracy'])}: {loss} {direction}, {allowed} allowed",
        ),
        (
            f"{size.ratio:.1f}×",
            "smaller" if size.direction == "fewer" else "larger",
            f"{short_bytes(size.student)} of weights, teacher "
            f"{short_bytes(size.teacher)}",
        ),
        (
            f"{macs.ratio:.1f}×",
            f"{macs.direction} {macs.name}",
            f"{short_count(macs.student)} an image, teacher "
            f"{short_count(macs.teacher)}",
        ),
        _speed(report),
    ]


def _speed(report: Report) -> tuple[str, str, str]:
    by_format = {export["format"]: export for export in report.get("exports", [])}
    for name in ("litert", "litert_float16", "litert_int8"):
        export = by_format.get(name)
        if export is None:
            continue
        ratio = export["speedup"]
        student, teacher = export["latency_us"], export["teacher_latency_us"]
        if ratio and student and teacher:
            return (
                f"{ratio if ratio >= 1 else 1 / ratio:.1f}×",
                "faster" if ratio >= 1 else "slower",
                f"{title_of(name)} on one thread: {microseconds(student, 'p50')} an "
                f"image, teacher {microseconds(teacher, 'p50')}",
            )
    return (
        "–",
        "speed not measured",
        "No LiteRT file was timed beside the teacher's",
    )


def _classifiers(report: Report) -> str:
    teacher = report["teacher"]
    num_test, confidence = report["data"]["num_test"], report["confidence"]
    intervals = {
        who: wilson_interval(
            round(report[who]["accuracy"] * num_test), num_test, confidence
        )
        for who in CLASSIFIERS
    }
    ranges = [
        Range(
            f"{who} {percent(report[who]['accuracy'])}, {_percents(interval)}",
            who,
            100 * interval[0],
            100 * report[who]["accuracy"],
            100 * interval[1],
        )
        for who, interval in intervals.items()
    ]
    share = f"{100 * confidence:g} %"
    return (
        "<h2>Teacher, student and control</h2>\n"
        f"<h3>Accuracy in percent, with {share} intervals</h3>\n"
        f"{range_plot('; '.join(r.name for r in ranges), ranges)}"
        "<h3>What the student loses, in points (below 0 it gains)</h3>\n"
        f"{_loss_plot(report)}"
        f"{_comparison(report, intervals)}"
        '<p class="note">All accuracies are on the task\'s test images. The control is '
        "the student's network trained on the hard labels only. The teacher gets "
        f"{percent(teacher['accuracy_all_outputs'])} right choosing among all its "
        f"outputs and {percent(teacher['accuracy_task_outputs'])} choosing among the "
        "task's. Accuracies have Wilson's score interval. The loss has "
        f"{text(report['accuracy_loss_interval_method'])}: it compares image by image, "
        "and is narrower than the separate intervals suggest.</p>\n"
    )


def _percents(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.2f} to {percent(interval[1])}"


def _loss_plot(report: Report) -> str:
    low, high = report["accuracy_loss_interval"]
    loss = report["accuracy_loss"]
    words = f"{points(loss)}, {interval_points([low, high])}".replace("-", "−")
    shown = Range(words, "student", 100 * low, 100 * loss, 100 * high)
    allowed = report["max_accuracy_loss"]
    if allows_any_loss(report):
        return range_plot(f"The student loses {words}", [shown])
    limit = f"allowed: {points(allowed)}"
    return range_plot(
        f"The student loses {words}; {limit}", [shown], (100 * allowed, limit)
    )


def _comparison(
    report: Report, intervals: dict[Classifier, tuple[float, float]]
) -> str:
    """A table of accuracies and costs; the control costs as much as the student."""
    costs = cost_rows(report)
    of_student = [f"{row.student:,}" for row in costs]
    cost_cells = [[f"{row.teacher:,}" for row in costs], of_student, of_student]
    rows = [
        [who, accuracy, _percents(intervals[who]), *cells]
        for who, accuracy, cells in zip(
            CLASSIFIERS, accuracies(report, percent), cost_cells, strict=True
        )
    ]
    compared = [row.compared("×") for row in costs]
    return table(
        "Accuracy on the test images, and cost",
        ["", "accuracy", "interval", *(row.name for row in costs)],
        [*rows, ["student against teacher", "", "", *compared]],
    )


def _budgets(report: Report) -> str:
    rows = budget_rows(report)
    if not rows:
        return ""
    caption = "Largest allowed costs, and costs of the student"
    return f"<h2>Budgets</h2>\n{table(caption, ['', 'limit', 'student'], rows)}"


def _repetition(report: Report) -> str:
    environment, data = report["environment"], report["data"]
    reason = environment["precision_reason"]
    rows = [
        ("seed", f"{environment['seed']}"),
        ("data", data.get("source", "arrays")),
        *([("method", method)] if (method := method_of(report)) else []),
        (
            "precision",
            environment["precision"] + (f" ({reason})" if reason else ""),
        ),
        ("device", environment["device"]),
        *environment["versions"].items(),
        *(
            (f"seconds: {stage}", f"{seconds:.0f}")
            for stage, seconds in report.get("seconds", {}).items()
        ),
    ]
    return f"<h2>To repeat it</h2>\n<pre>{text(report['command'])}</pre>\n" + table(
        "Seed, data, machine and versions of this run", [], rows, "words"
    )
