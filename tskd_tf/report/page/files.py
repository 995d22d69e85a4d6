"""The page's section about exported files: a comparison, and how to load them."""

from collections.abc import Callable
from typing import Literal

from tskd_tf.choices import CONVOLUTIONS, PLAIN
from tskd_tf.export.loading_snippets import class_of_outputs, snippet, title_of
from tskd_tf.export.record import ExportRow, IntegerAttempt, Latency
from tskd_tf.networks.layers.convolution import convolution_named
from tskd_tf.report.page.html import note, percent, table, text
from tskd_tf.report.record import Report
from tskd_tf.report.rows import (
    INT8_METHODS,
    allows_any_loss,
    labels_text,
    shipped_method,
)
from tskd_tf.report.words import points, short_bytes

_UNKNOWN = "not measured"
# Rows without meaning if any loss is allowed
_VERDICTS = ("keeps the bargain", "a larger loss than allowed is ruled out")


def files_section(report: Report) -> str:
    """A table of the files, attempts to write an int8 file, and code to load each."""
    exports = report.get("exports", [])
    if not exports:
        return ""
    attempts = "".join(_attempts(export) for export in exports)
    files, loading = _files(report, exports), _loading(report, exports)
    return f"<h2>Files</h2>\n{files}{attempts}{loading}"


def file_name(export: ExportRow) -> str:
    """The file and its format: `student.tflite (LiteRT float32)`."""
    known = title_of(export["format"])
    method = shipped_method(export)
    if method:
        known = f"{known}, {method}"
    return f"{export['path']} ({known})"


def _files(report: Report, exports: list[ExportRow]) -> str:
    """A table with one column per file."""
    teacher_bytes = report["teacher"]["size_bytes"]
    rows: list[tuple[str, Callable[[ExportRow], str]]] = [
        ("size", lambda e: short_bytes(e["size_bytes"])),
        (
            "smaller than the teacher's weights",
            lambda e: _ratio(teacher_bytes / e["size_bytes"]),
        ),
        ("test accuracy", lambda e: percent(e["accuracy"])),
        ("lost against the teacher", lambda e: points(e["accuracy_loss"])),
        (
            f"{100 * report['confidence']:g} % interval of the loss",
            lambda e: interval_points(e["accuracy_loss_interval"]),
        ),
        (_VERDICTS[0], lambda e: _yes_or_no(e["meets_threshold"])),
        (_VERDICTS[1], lambda e: _yes_or_no(e["certified"])),
        ("an image takes, median", lambda e: microseconds(e["latency_us"], "p50")),
        ("90th percentile", lambda e: microseconds(e["latency_us"], "p90")),
        (
            "the teacher takes, median",
            lambda e: microseconds(e["teacher_latency_us"], "p50"),
        ),
        ("faster than the teacher", lambda e: _ratio(e["speedup"])),
        (
            "working memory",
            lambda e: (
                _UNKNOWN if e["arena_bytes"] is None else short_bytes(e["arena_bytes"])
            ),
        ),
        ("same answers as in memory", lambda e: percent(e["equal_predictions"])),
        (
            "largest difference of an output",
            lambda e: f"{e['max_logit_difference']:.2g}",
        ),
        ("outputs", lambda e: e["outputs"]),
    ]
    timed = "one image at a time on one thread, on the machine of this run"
    return table(
        f"Each file, run in its own runtime on all test images of the task; {timed}",
        ["", *(file_name(export) for export in exports)],
        [
            [name, *(write(export) for export in exports)]
            for name, write in rows
            if not (allows_any_loss(report) and name in _VERDICTS)
        ],
        "files",
    )


def _yes_or_no(value: bool) -> str:
    return "✓ yes" if value else "✗ no"


def _ratio(ratio: float | None) -> str:
    return _UNKNOWN if ratio is None else f"{ratio:.1f}×"


def microseconds(latency_us: Latency | None, name: Literal["p50", "p90"]) -> str:
    """`p50` or `p90` of a latency, with a no-break space before the unit."""
    if latency_us is None:
        return _UNKNOWN
    return f"{latency_us[name]:.0f}\N{NO-BREAK SPACE}µs"


def interval_points(interval: list[float]) -> str:
    """`[-0.001, 0.002]` → `−0.10 to 0.20 points`."""
    low, high = (f"{100 * end:.2f}".replace("-", "−") for end in interval)
    return f"{low} to {high} points"


def _attempts(export: ExportRow) -> str:
    attempts = export["attempts"]
    if not attempts:
        return ""
    rows = [_attempt(attempt) for attempt in attempts]
    header = ["method", "test accuracy", "lost", "interval", "size"]
    return table(
        f"Attempts to write {export['path']} so that it keeps the bargain, in order",
        [*header, "keeps the bargain", "was chosen"],
        rows,
    )


def _attempt(attempt: IntegerAttempt) -> list[str]:
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


def _loading(report: Report, exports: list[ExportRow]) -> str:
    """Code to paste."""
    parts = ["<h3>To load them</h3>\n"]
    parts.append(
        note(
            "Run this code in the run's folder. It needs this package only where it "
            "imports it. image is a uint8 array of height × width × channels, 0 to "
            "255; the preprocessing is part of the file. "
            "Integer outputs have the same order as the values they stand for; "
            "run.get_output_details() has their scale and zero point."
        )
    )
    for export in exports:
        code = snippet(
            export["format"],
            export["path"],
            _has_own_layers(report["student"].get("convolutions", PLAIN)),
        )
        if code:
            parts.append(f"<p>{text(file_name(export))}</p><pre>{text(code)}</pre>\n")
    if "labels" in report:
        parts.append("<p>Then, for each format, the name of the class</p><pre>")
        parts.append(f"{text(class_of_outputs(report['labels']))}</pre>\n")
        parts.append(note(f"{labels_text(report)}."))
    return "".join(parts)


def _has_own_layers(convolutions: str) -> bool:
    """Whether convolutions need layers of this package; False for unknown ones."""
    if convolutions not in CONVOLUTIONS:
        return False
    return bool(convolution_named(convolutions).own_layers)
