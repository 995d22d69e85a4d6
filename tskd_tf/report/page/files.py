"""The page's part about the exported files: which to take, and how to load it."""

from collections.abc import Callable
from typing import Any

from tskd_tf.choices import CONVOLUTIONS, PLAIN
from tskd_tf.export.loading_snippets import class_of_outputs, snippet, title_of
from tskd_tf.networks.layers.convolution import convolution_named
from tskd_tf.report.page.html import note, percent, table, text
from tskd_tf.report.words import (
    INT8_METHODS,
    allows_any_loss,
    labels_note,
    points,
    shipped_method,
    short_bytes,
)

_UNKNOWN = "not measured"


def files_section(report: dict[str, Any]) -> str:
    """Table of the files, how an int8 file was rescued, lines to load each."""
    exports = report.get("exports", [])
    if not exports:
        return ""
    attempts = "".join(_attempts(export) for export in exports)
    return f"<h2>Files</h2>\n{_files(report)}{attempts}{_loading(report)}"


def file_name(export: dict[str, Any]) -> str:
    """The file and what it is: `student.tflite (LiteRT float32)`."""
    known = title_of(export["format"])
    method = shipped_method(export)
    if method:
        known = f"{known}, {method}"
    return f"{export['path']} ({known})"


def _files(report: dict[str, Any]) -> str:
    """A column a file; rows that no file has a value for are left out."""
    exports = report["exports"]
    teacher_bytes = report["teacher"]["size_bytes"]
    rows: list[tuple[str, str, Callable[[Any], str]]] = [
        ("size", "size_bytes", short_bytes),
        (
            "smaller than the teacher's weights",
            "size_bytes",
            lambda size: f"{teacher_bytes / size:.1f}×",
        ),
        ("test accuracy", "accuracy", percent),
        ("lost against the teacher", "accuracy_loss", points),
        (
            f"{100 * report['confidence']:g} % interval of the loss",
            "accuracy_loss_interval",
            interval_points,
        ),
        ("keeps the bargain", "meets_threshold", _yes_or_no),
        ("a larger loss than allowed is ruled out", "certified", _yes_or_no),
        ("an image takes, median", "latency_us", lambda us: microseconds(us, "p50")),
        ("90th percentile", "latency_us", lambda us: microseconds(us, "p90")),
        (
            "the teacher takes, median",
            "teacher_latency_us",
            lambda us: microseconds(us, "p50"),
        ),
        ("faster than the teacher", "speedup", lambda ratio: f"{ratio:.1f}×"),
        ("working memory", "arena_bytes", short_bytes),
        ("same answers as in memory", "equal_predictions", percent),
        (
            "largest difference of an output",
            "max_logit_difference",
            lambda difference: f"{difference:.2g}",
        ),
        ("outputs", "outputs", str),
    ]
    if allows_any_loss(report):
        rows = [row for row in rows if row[1] not in ("meets_threshold", "certified")]
    cells = [
        [name, *(_cell(export.get(key), write) for export in exports)]
        for name, key, write in rows
        if any(key in export for export in exports)
    ]
    timed = "one image at a time on one thread, on the machine of this run"
    return table(
        f"Each file, run in its own runtime on all test images of the task; {timed}",
        ["", *(file_name(export) for export in exports)],
        cells,
        "files",
    )


def _cell(value: Any, write: Callable[[Any], str]) -> str:
    return _UNKNOWN if value is None else write(value)


def _yes_or_no(value: bool) -> str:
    return "✓ yes" if value else "✗ no"


def microseconds(latency_us: dict[str, float], name: str) -> str:
    """`p50` or `p90` of a latency, in one piece."""
    return f"{latency_us[name]:.0f}\N{NO-BREAK SPACE}µs"


def interval_points(interval: list[float]) -> str:
    """`[-0.001, 0.002]` → `−0.10 to 0.20 points`."""
    low, high = (f"{100 * end:.2f}".replace("-", "−") for end in interval)
    return f"{low} to {high} points"


def _attempts(export: dict[str, Any]) -> str:
    attempts = export["attempts"]
    if not attempts:
        return ""
    rows = [_attempt(attempt) for attempt in attempts]
    header = ["method", "test accuracy", "lost", "interval", "size"]
    return table(
        f"What was tried so that {export['path']} keeps the bargain, in this order",
        [*header, "keeps the bargain", "is the file"],
        rows,
    )


def _attempt(attempt: dict[str, Any]) -> list[str]:
    method = INT8_METHODS[attempt["method"]]
    if "failure" in attempt:
        return [method, f"no file: {attempt['failure']}", *[""] * 3, "✗ no", "✗ no"]
    return [
        method,
        percent(attempt["accuracy"]),
        points(attempt["accuracy_loss"]),
        interval_points(attempt["accuracy_loss_interval"]),
        short_bytes(attempt["size_bytes"]),
        _yes_or_no(attempt["meets_threshold"]),
        _yes_or_no(attempt["is_shipped"]),
    ]


def _loading(report: dict[str, Any]) -> str:
    """Lines to paste."""
    parts = ["<h3>To load them</h3>\n"]
    parts.append(
        note(
            "From the run's folder, without this package unless it is imported. image "
            "is a uint8 array of height × width × channels, 0 to 255; its preparation "
            "is inside the file. "
            "Integers that a file gives rank as what they stand for; "
            "run.get_output_details() has their scale and zero point."
        )
    )
    for export in report["exports"]:
        code = snippet(
            export["format"],
            export["path"],
            _has_own_layers(report["student"].get("convolutions", PLAIN)),
        )
        if code:
            parts.append(f"<p>{text(file_name(export))}</p><pre>{text(code)}</pre>\n")
    if "labels" in report:
        parts.append("<p>Then, after any of them, the class by name</p><pre>")
        parts.append(f"{text(class_of_outputs(report['labels']))}</pre>\n")
        parts.append(note(f"{report['labels']}: {labels_note(report)}."))
    return "".join(parts)


def _has_own_layers(convolutions: str) -> bool:
    """Whether they are layers of this package; not if this version does not know."""
    if convolutions not in CONVOLUTIONS:
        return False
    return bool(convolution_named(convolutions).own_layers)
