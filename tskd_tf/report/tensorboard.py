"""What a run found, for TensorBoard: its summary as text, its figures as images."""

import html
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tskd_tf.distillation.event_files import fresh_events
from tskd_tf.report.figures import drawings
from tskd_tf.report.words import (
    allows_any_loss,
    broken_files,
    certainty,
    classes_to_show,
    describe_student,
    headline,
    ratio_of,
)

_NUMBERS = (
    ("parameters", "num_params"),
    ("multiply-adds", "num_macs"),
    ("bytes of weights", "size_bytes"),
)


def write_summaries(
    report: dict[str, Any], figures: Mapping[str, bytes], run_dir: pathlib.Path
) -> None:
    """Writes text and images in place of those of an earlier call.

    Args:
        report: Of a finished run.
        figures: PNG files by the names of `drawings.draw_figures`; which of them are
            there depends on the report.
        run_dir: The run's folder.
    """
    with fresh_events(run_dir, ".report") as writer, writer.as_default(step=0):
        tf.summary.text("report/summary", markdown(report))
        for figure in drawings.FIGURES:
            if figure.summary and figure.name in figures:
                picture = tf.io.decode_png(figures[figure.name], channels=3)
                tf.summary.image(
                    f"report/{figure.name}", picture[None], description=figure.summary
                )


def markdown(report: dict[str, Any]) -> str:
    """The report's summary as Markdown with tables."""
    task, data = report["task"], report["data"]
    names = ", ".join(map(_escaped, task["class_names"]))
    parts = [
        f"## {_escaped(headline(report))}",
        _escaped(certainty(report)),
        *([_escaped(broken_files(report))] if broken_files(report) else []),
        f"Student: {describe_student(report)}",
        _table(_numbers(report)),
        f"### By class{_which_classes(report)}",
        _table(_classes(report)),
        *(
            ["### Exported files", _table(_exports(report))]
            if "exports" in report
            else []
        ),
        f"Task: {names} ({task['head']} head)",
        *([f"Data: {_escaped(data['source'])}"] if "source" in data else []),
        *([f"    {report['command']}"] if "command" in report else []),
    ]
    return "\n\n".join(parts)


def _numbers(report: dict[str, Any]) -> list[Sequence[str]]:
    teacher, student, control = (
        report[name] for name in ("teacher", "student", "control")
    )
    accuracies = [_percent(part["accuracy"]) for part in (teacher, student, control)]
    rows: list[Sequence[str]] = [
        ("", "teacher", "student", "hard labels only", "teacher to student"),
        ("accuracy on the task's test images", *accuracies, ""),
    ]
    for name, key in _NUMBERS:
        ratio, direction = ratio_of(teacher, student, key)
        cost = f"{student[key]:,}"
        compared = f"{ratio:.1f} times {direction}"
        rows.append((name, f"{teacher[key]:,}", cost, cost, compared))
    return rows


def _which_classes(report: dict[str, Any]) -> str:
    num_shown, num_classes = len(classes_to_show(report)), len(report["classes"])
    if num_shown == num_classes:
        return ""
    return f": the {num_shown} of {num_classes} that lose most"


def _classes(report: dict[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("class", "teacher", "student", "hard labels only", "test images")
    ]
    for result in classes_to_show(report):
        who = ("teacher", "student", "control")
        accuracies = [_percent(result[f"{name}_accuracy"]) for name in who]
        name = _escaped(result["class_name"])
        rows.append((name, *accuracies, f"{result['num_test']:,}"))
    return rows


def _exports(report: dict[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("file", "bytes", "accuracy", "us an image", "bargain")
    ]
    for export in report["exports"]:
        latency = export["latency_us"]
        kept = "keeps" if export["meets_threshold"] else "does not keep"
        rows.append(
            (
                _escaped(export["path"]),
                f"{export['size_bytes']:,}",
                _percent(export["accuracy"]),
                f"{latency['p50']:.0f}" if latency else "not measured",
                "any loss allowed" if allows_any_loss(report) else kept,
            )
        )
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Names to the left, numbers to the right; the first row is the head."""
    ruler = [":---", *["---:"] * (len(rows[0]) - 1)]
    head, *others = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *others))


def _escaped(text: str) -> str:
    """Whatever Markdown or HTML may be in a user's name, as it is written."""
    return re.sub(r"([\\`*_{}\[\]()#+!|-])", r"\\\1", html.escape(text, quote=False))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
