"""The sentences of a report, and its table for the terminal."""

from collections.abc import Sequence

from tskd_tf.report.record import Report
from tskd_tf.report.rows import (
    FileRow,
    accuracies,
    allows_any_loss,
    balanced_row,
    budget_rows,
    class_rows,
    classes_to_show,
    cost_rows,
    file_rows,
    labels_text,
    percent,
    ratio_of,
    refinement_text,
    task_text,
)
from tskd_tf.report.trials import (
    candidate_of,
    has_feasible_candidate,
    name_of,
    score_by_candidate,
)

_SPACE = "\N{NO-BREAK SPACE}"


def headline(report: Report) -> str:
    """The outcome in one sentence."""
    loss = report["accuracy_loss"]
    size_of_loss, allowed = loss_and_allowed(report)
    student, teacher = report["student"], report["teacher"]
    ratio, direction = ratio_of(teacher, student, "num_macs")
    lost = (
        f"loses {size_of_loss}"
        if loss > 0
        else "loses nothing" if loss == 0 else f"gains {size_of_loss}"
    )
    size = f"A student of {ratio:.3g} times {direction} multiply-adds {lost}"
    if ratio < 1.05:
        size = f"A student as large as the teacher {lost}"
    if allows_any_loss(report):
        return f"{size}; the cost was pre-set, any loss allowed."
    if report["meets_threshold"]:
        return f"{size}; {allowed} were allowed."
    if has_feasible_candidate(report["search"]):
        failure = "The student chosen on validation data fails on the test data."
    elif report["search"]["num_over_budget"]:
        failure = _contradiction(report)
    else:
        failure = "No student keeps the bargain."
    return f"{failure} {size}; {allowed} were allowed."


def broken_files(report: Report) -> str:
    """A sentence that names the files which miss Eq. 4 although the student meets it.

    Empty if there is no such file, or if the student itself misses Eq. 4.
    """
    exports = report.get("exports", [])
    broken = [export["path"] for export in exports if not export["meets_threshold"]]
    if not broken or not report["meets_threshold"]:
        return ""
    if len(broken) == 1:
        return f"By itself, {broken[0]} does not keep the bargain."
    return f"By themselves, {', '.join(broken)} do not keep the bargain."


def _contradiction(report: Report) -> str:
    """A sentence that says how far the budgets and the allowed loss are apart."""
    search, allowed = report["search"], report["max_accuracy_loss"]
    # A search that ends without a feasible student has tried the widest ones
    widest = max(search["trials"], key=lambda trial: (trial["num_macs"], trial["rate"]))
    accuracy = score_by_candidate(search["trials"])[candidate_of(widest)]
    loss = search["validation_teacher_accuracy"] - accuracy
    lost, allowed_points = _distinct_points(loss, allowed)
    return (
        "The budgets and the loss allowed contradict each other: the widest student "
        f"that fits, at {name_of(widest)}, loses {lost} on the validation "
        f"images, {allowed_points} were allowed."
    )


def loss_and_allowed(report: Report) -> tuple[str, str]:
    """The size of the loss or gain, and the allowed loss, in percentage points.

    Decimals are added until the two differ: 15 of 2,999 images are more than 0.5
    points.
    """
    loss, allowed = abs(report["accuracy_loss"]), report["max_accuracy_loss"]
    if report["meets_threshold"]:
        return points(loss), points(allowed)
    return _distinct_points(loss, allowed)


def _distinct_points(loss: float, allowed: float) -> tuple[str, str]:
    for decimals in range(2, 6):
        texts = points(loss, decimals), points(allowed, decimals)
        if texts[0] != texts[1]:
            break
    return texts


def certainty(report: Report) -> str:
    """What the test set can and cannot say, in one or two sentences."""
    low, high = report["accuracy_loss_interval"]
    percent = f"{100 * report['confidence']:g} %"
    smallest = points(report["smallest_certifiable_loss"])
    upper = points(high)
    if not report["certified"]:
        # An upper end of 0.502 points must not look like the allowed 0.50
        upper, _ = _distinct_points(high, report["max_accuracy_loss"])
    head = (
        f"{percent} interval of the loss: {100 * low:.2f} to {upper}, "
        f"from {report['num_only_teacher_correct']} test images that only the teacher "
        f"and {report['num_only_student_correct']} that only the student gets right. "
    )
    if allows_any_loss(report):
        return head.rstrip()
    if report["certified"]:
        return head + "A larger loss than allowed is ruled out."
    limit = (
        f"if teacher and student agreed on all {report['data']['num_test']} test "
        f"images, a loss of {smallest} could be certified."
    )
    return head + "A larger loss than allowed is not ruled out: " + limit


def points(fraction: float, decimals: int = 2) -> str:
    """A difference of accuracies in percentage points: 0.002 → `0.20 points`."""
    return f"{100 * fraction:.{decimals}f} points"


def short_count(count: float) -> str:
    """`203250` → `203 k`: at most three digits, with a no-break space."""
    # Numbers that would be rounded up to the unit use it already
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{_SPACE}{unit}"
    return f"{count:.3g}"


def short_bytes(num_bytes: int) -> str:
    """`116612` → `117 kB`; the units are powers of 1,000."""
    if num_bytes < 1000:
        return f"{num_bytes}{_SPACE}bytes"
    return f"{short_count(num_bytes)}B"


def summary_table(report: Report) -> str:
    """The report as a table for a terminal."""
    lines = [
        f"Task: {task_text(report)}",
        *([f"Data: {report['data']['source']}"] if "source" in report["data"] else []),
        f"Student: {describe_student(report)}",
        *(f"Refined: {text}" for text in [refinement_text(report)] if text),
        "",
        *_comparison_lines(report),
        *_budget_lines(report),
        *_class_lines(report),
        "",
        headline(report),
        certainty(report),
        *map(_file_line, file_rows(report)),
        *filter(None, [labels_text(report)]),
    ]
    return "\n".join(lines) + "\n"


def describe_student(report: Report) -> str:
    """Rate, widths, kind and method of the student, in one line."""
    student = report["student"]
    widths = "-".join(map(str, student["widths"]))
    method = method_of(report)
    parts = [
        f"rate {student['rate']:g}",
        f"widths {widths}",
        describe_kind(report),
        f"method {method}" if method else "",
    ]
    return ", ".join(filter(None, parts))


def describe_kind(report: Report) -> str:
    """The family and the convolutions of students; empty for thin and plain ones."""
    student = report["student"]
    if "family" in student:
        return f"{student['family']} family"
    if "convolutions" not in student:
        return ""
    groups = f" in {student['groups']} groups" if "groups" in student else ""
    return f"{student['convolutions']} convolutions{groups}"


def method_of(report: Report) -> str:
    """The method of distillation, in words; empty for Eq. 8."""
    return report["student"].get("method", "").replace("_", " ")


def _comparison_lines(report: Report) -> list[str]:
    teacher, student, control = accuracies(report, percent)
    return _aligned(
        [
            ("", "teacher", "student", "ratio"),
            ("accuracy on the task", teacher, student, ""),
            ("  on hard labels only", "", control, ""),
            *(
                (row.name, f"{row.teacher:,}", f"{row.student:,}", row.compared("x"))
                for row in cost_rows(report)
            ),
        ]
    )


def _budget_lines(report: Report) -> list[str]:
    rows = budget_rows(report)
    return ["", *_aligned([("budget", "limit", "student"), *rows])] if rows else []


def _class_lines(report: Report) -> list[str]:
    shown, num_classes = classes_to_show(report), len(report["classes"])
    rows = [*class_rows(shown, percent), balanced_row(report, percent)]
    header = ("class", "teacher", "student", "hard labels only", "test images")
    lines = _aligned([header, *((r.name, *r.accuracies, r.num_test) for r in rows)])
    if len(shown) < num_classes:
        most = f"({len(shown)} of {num_classes} classes, those that lose most)"
        lines.insert(-1, most)
    return ["", *lines]


def _file_line(row: FileRow) -> str:
    timing = "" if row.latency_us is None else f", {row.latency_us:.0f} us an image"
    bargain = f", {row.bargain} the bargain" if row.bargain else ""
    return (
        f"{row.name}: {row.size_bytes:,} bytes, {percent(row.accuracy)}{timing}"
        f"{bargain}"
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table: names left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if i else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
