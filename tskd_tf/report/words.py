"""The words of a report, and its table for the end of a log."""

import statistics
from collections.abc import Sequence
from typing import Any

from tskd_tf.choices import Budgets, mark_of

_CLASSIFIERS = ("teacher", "student", "control")
_MOST_CLASSES = 10
_SPACE = "\N{NO-BREAK SPACE}"
INT8_METHODS = {
    "int8": "8 bits, as usual",
    "int8_more_examples": "8 bits, ranges from more images",
    "int16x8": "activations of 16 bits, weights of 8",
    "int8_distilled": "8 bits, after a distillation that feels the rounding",
}


def headline(report: dict[str, Any]) -> str:
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
    if _found_a_feasible_rate(report["search"]):
        failure = "The student chosen on validation data fails on the test data."
    elif report["search"]["num_over_budget"]:
        failure = _contradiction(report)
    else:
        failure = "No student keeps the bargain."
    return f"{failure} {size}; {allowed} were allowed."


def broken_files(report: dict[str, Any]) -> str:
    """Which files break the bargain that the student keeps, in a sentence.

    Empty where there are none, or where the student itself breaks it.
    """
    exports = report.get("exports", [])
    broken = [e["path"] for e in exports if not e["meets_threshold"]]
    if not broken or not report["meets_threshold"]:
        return ""
    if len(broken) == 1:
        return f"By itself, {broken[0]} does not keep the bargain."
    return f"By themselves, {', '.join(broken)} do not keep the bargain."


def allows_any_loss(report: dict[str, Any]) -> bool:
    """Whether the cost was pre-set, and Eq. 4 with it holds whatever is lost."""
    allowed: float = report["max_accuracy_loss"]
    return allowed >= 1.0


def _found_a_feasible_rate(search: dict[str, Any]) -> bool:
    """As the search judges: by the mean, where a rate was executed more than once."""
    return max(_accuracies(search).values()) >= search["validation_floor"]


def _accuracies(search: dict[str, Any]) -> dict[float, float]:
    """What the search judged each of its rates by."""
    by_rate: dict[float, dict[int, float]] = {}
    for trial in search["trials"]:
        by_seed = by_rate.setdefault(trial["rate"], {})
        # One seed's differ in their epochs, as Hyperband's do
        by_seed[trial["seed"]] = max(
            trial["accuracy"], by_seed.get(trial["seed"], trial["accuracy"])
        )
    return {rate: statistics.fmean(by_rate[rate].values()) for rate in by_rate}


def _contradiction(report: dict[str, Any]) -> str:
    """By how much the budgets and the loss allowed miss each other."""
    search, allowed = report["search"], report["max_accuracy_loss"]
    # The widest is tried before a search ends without a feasible one
    widest, accuracy = max(_accuracies(search).items())
    loss = search["validation_teacher_accuracy"] - accuracy
    lost, allowed_points = _told_apart(loss, allowed)
    return (
        "The budgets and the loss allowed contradict each other: the widest student "
        f"that fits, at rate {widest:g}, loses {lost} on the validation "
        f"images, {allowed_points} were allowed."
    )


def ratio_of(
    teacher: dict[str, Any], student: dict[str, Any], key: str
) -> tuple[float, str]:
    """How many times `"fewer"` a student has, or `"more"`, as one's own may."""
    ratio = teacher[key] / student[key]
    return (ratio, "fewer") if ratio >= 1 else (1 / ratio, "more")


def loss_and_allowed(report: dict[str, Any]) -> tuple[str, str]:
    """The size of the loss or gain, and the loss allowed, in points.

    With as many decimals as tell the two apart: 15 of 2,999 images are more than 0.5
    points.
    """
    loss, allowed = abs(report["accuracy_loss"]), report["max_accuracy_loss"]
    if report["meets_threshold"]:
        return points(loss), points(allowed)
    return _told_apart(loss, allowed)


def _told_apart(loss: float, allowed: float) -> tuple[str, str]:
    for decimals in range(2, 6):
        texts = points(loss, decimals), points(allowed, decimals)
        if texts[0] != texts[1]:
            break
    return texts


def certainty(report: dict[str, Any]) -> str:
    """What the test set can and cannot say, in one or two sentences."""
    low, high = report["accuracy_loss_interval"]
    percent = f"{100 * report['confidence']:g} %"
    smallest = points(report["smallest_certifiable_loss"])
    upper = points(high)
    if not report["certified"]:
        # 0.502 points are not ruled out where 0.50 are allowed
        upper, _ = _told_apart(high, report["max_accuracy_loss"])
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
    """`203250` → `203 k`, three digits at most and in one piece."""
    # From where it would be rounded up to the unit
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{_SPACE}{unit}"
    return f"{count:.3g}"


def short_bytes(num_bytes: int) -> str:
    """`116612` → `117 kB`; the units are powers of 1,000."""
    if num_bytes < 1000:
        return f"{num_bytes}{_SPACE}bytes"
    return f"{short_count(num_bytes)}B"


def classes_to_show(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The classes for a table that is to be read, in the task's order.

    All of them or, of more than ten, those that lose most.
    """
    classes: list[dict[str, Any]] = report["classes"]
    losses = [c["student_accuracy"] - c["teacher_accuracy"] for c in classes]
    most = sorted(range(len(classes)), key=lambda i: losses[i])[:_MOST_CLASSES]
    return [classes[i] for i in sorted(most)]


def summary_table(report: dict[str, Any]) -> str:
    """The report as a table for a terminal."""
    teacher, student = report["teacher"], report["student"]
    rows = [
        ("", "teacher", "student", "ratio"),
        (
            "accuracy on the task",
            _percent(teacher["accuracy"]),
            _percent(student["accuracy"]),
            "",
        ),
        ("  on hard labels only", "", _percent(report["control"]["accuracy"]), ""),
    ]
    for key, name in (
        ("num_params", "parameters"),
        ("num_macs", "multiply-adds"),
        ("size_bytes", "bytes of weights"),
    ):
        ratio, direction = ratio_of(teacher, student, key)
        compared = f"{ratio:.1f}x {direction}"
        rows.append((name, f"{teacher[key]:,}", f"{student[key]:,}", compared))
    task = report["task"]
    names = ", ".join(task["class_names"])
    lines = [
        f"Task: {names} ({task['head']} head)",
        *([f"Data: {report['data']['source']}"] if "source" in report["data"] else []),
        f"Student: {describe_student(report)}",
        "",
        *_aligned(rows),
        *_budget_lines(report),
        *_class_lines(report),
        "",
        headline(report),
        certainty(report),
        *(
            _export_line(export, allows_any_loss(report))
            for export in report.get("exports", [])
        ),
        *([f"{report['labels']}: {labels_note(report)}"] if "labels" in report else []),
    ]
    return "\n".join(lines) + "\n"


def describe_student(report: dict[str, Any]) -> str:
    """What kind of network the student is, in one line."""
    student = report["student"]
    widths = "-".join(map(str, student["widths"]))
    method = method_of(report)
    told = [
        f"rate {student['rate']:g}",
        f"widths {widths}",
        describe_convolutions(report),
    ]
    told.append(f"method {method}" if method else "")
    return ", ".join(filter(None, told))


def describe_convolutions(report: dict[str, Any]) -> str:
    """What students have in the place of plain convolutions; empty if those."""
    student = report["student"]
    if "convolutions" not in student:
        return ""
    groups = f" in {student['groups']} groups" if "groups" in student else ""
    return f"{student['convolutions']} convolutions{groups}"


def method_of(report: dict[str, Any]) -> str:
    """By which method the students learnt; empty for distillation by Eq. 8."""
    method: str = report["student"].get("method", "")
    return method.replace("_", " ")


def labels_note(report: dict[str, Any]) -> str:
    """What the labels file says, in one line."""
    num_outputs = len(report["task"]["output_names"])
    return f"the class of each of the {num_outputs} outputs, a line each"


def budget_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """What each budget limits, the limit, and what the student costs of it.

    None without budgets.
    """
    rows = []
    for name, budget in report["budgets"].items():
        cells = (
            f"{cost:,.1f}" if mark_of(Budgets, name, "kept_in") else f"{cost:,}"
            for cost in (budget["limit"], budget["student"])
        )
        rows.append((mark_of(Budgets, name, "title"), *cells))
    return rows


def _budget_lines(report: dict[str, Any]) -> list[str]:
    rows = budget_rows(report)
    return ["", *_aligned([("budget", "limit", "student"), *rows])] if rows else []


def _class_lines(report: dict[str, Any]) -> list[str]:
    shown = classes_to_show(report)
    if not shown:
        return []
    header = ("class", "teacher", "student", "hard labels only", "test images")
    rows = [
        (
            result["class_name"],
            *(_percent(result[f"{who}_accuracy"]) for who in _CLASSIFIERS),
            f"{result['num_test']:,}",
        )
        for result in shown
    ]
    balanced = [_percent(report[who]["balanced_accuracy"]) for who in _CLASSIFIERS]
    lines = _aligned([header, *rows, ("balanced accuracy", *balanced, "")])
    num_classes = len(report["classes"])
    if len(shown) < num_classes:
        most = f"({len(shown)} of {num_classes} classes, those that lose most)"
        lines.insert(-1, most)
    return ["", *lines]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of a table: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if i else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shipped_method(export: dict[str, Any]) -> str:
    """How the file was made that took the place of the plain one; empty if none did."""
    methods = [a["method"] for a in export["attempts"] if a["is_shipped"]]
    return INT8_METHODS[methods[0]] if methods and methods != ["int8"] else ""


def _export_line(export: dict[str, Any], any_loss: bool) -> str:
    latency = export["latency_us"]
    timing = f", {latency['p50']:.0f} us an image" if latency else ""
    keeps = "keeps" if export["meets_threshold"] else "does not keep"
    bargain = "" if any_loss else f", {keeps} the bargain"
    method = shipped_method(export)
    made = f" ({method})" if method else ""
    return (
        f"{export['path']}{made}: {export['size_bytes']:,} bytes, "
        f"{_percent(export['accuracy'])}{timing}{bargain}"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
