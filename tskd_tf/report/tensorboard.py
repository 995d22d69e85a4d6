"""Shows the results of a run in TensorBoard: a text summary, and figures as images."""

import html
import pathlib
import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tskd_tf.distillation.event_files import fresh_events
from tskd_tf.report.figures import drawings
from tskd_tf.report.record import Report
from tskd_tf.report.rows import (
    accuracies,
    balanced_row,
    budget_rows,
    class_rows,
    classes_to_show,
    cost_rows,
    file_rows,
    percent,
    refinement_text,
    task_text,
)
from tskd_tf.report.words import broken_files, certainty, describe_student, headline


def write_summaries(
    report: Report, figures: Mapping[str, bytes], run_dir: pathlib.Path
) -> None:
    """Writes text and images; they replace those of an earlier call.

    Args:
        report: The report of a finished run.
        figures: PNG files by name, as far as `drawings.draw_figures` drew them.
        run_dir: Folder of the run in TensorBoard.
    """
    with fresh_events(run_dir, ".report") as writer, writer.as_default(step=0):
        tf.summary.text("report/summary", markdown(report))
        for figure in drawings.FIGURES:
            if figure.summary and figure.name in figures:
                picture = tf.io.decode_png(figures[figure.name], channels=3)
                tf.summary.image(
                    f"report/{figure.name}", picture[None], description=figure.summary
                )


def markdown(report: Report) -> str:
    """The report's summary as Markdown with tables."""
    broken = broken_files(report)
    parts = [
        f"## {_escaped(headline(report))}",
        _escaped(certainty(report)),
        *([_escaped(broken)] if broken else []),
        f"Student: {describe_student(report)}",
        *(f"Refined: {text}" for text in [refinement_text(report)] if text),
        _table(_comparison(report)),
        *(["### Budgets", _table(_budgets(report))] if report["budgets"] else []),
        f"### By class{_which_classes(report)}",
        _table(_classes(report)),
        *(
            ["### Exported files", _table(_files(report))]
            if "exports" in report
            else []
        ),
        f"Task: {_escaped(task_text(report))}",
        *(
            [f"Data: {_escaped(report['data']['source'])}"]
            if "source" in report["data"]
            else []
        ),
        *([f"    {report['command']}"] if "command" in report else []),
    ]
    return "\n\n".join(parts)


def _comparison(report: Report) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("", "teacher", "student", "hard labels only", "teacher to student"),
        ("accuracy on the task's test images", *accuracies(report, percent), ""),
    ]
    for row in cost_rows(report):
        student = f"{row.student:,}"
        compared = row.compared(" times")
        rows.append((row.name, f"{row.teacher:,}", student, student, compared))
    return rows


def _budgets(report: Report) -> list[Sequence[str]]:
    return [("budget", "limit", "student"), *budget_rows(report)]


def _which_classes(report: Report) -> str:
    num_shown, num_classes = len(classes_to_show(report)), len(report["classes"])
    if num_shown == num_classes:
        return ""
    return f": the {num_shown} of {num_classes} that lose most"


def _classes(report: Report) -> list[Sequence[str]]:
    shown = class_rows(classes_to_show(report), percent)
    return [
        ("class", "teacher", "student", "hard labels only", "test images"),
        *(
            (_escaped(row.name), *row.accuracies, row.num_test)
            for row in (*shown, balanced_row(report, percent))
        ),
    ]


def _files(report: Report) -> list[Sequence[str]]:
    return [
        ("file", "bytes", "accuracy", "us an image", "bargain"),
        *(
            (
                _escaped(row.name),
                f"{row.size_bytes:,}",
                percent(row.accuracy),
                "not measured" if row.latency_us is None else f"{row.latency_us:.0f}",
                row.bargain or "any loss allowed",
            )
            for row in file_rows(report)
        ),
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: names left, numbers right; the first row is the header."""
    ruler = [":---", *["---:"] * (len(rows[0]) - 1)]
    head, *others = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *others))


def _escaped(text: str) -> str:
    """Escapes Markdown and HTML in text of the user, such as class names."""
    return re.sub(r"([\\`*_{}\[\]()#+!|-])", r"\\\1", html.escape(text, quote=False))
