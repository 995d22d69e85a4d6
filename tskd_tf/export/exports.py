"""Writes files to deploy, and measures each one in its own runtime."""

import importlib.util
import logging
import pathlib
import tempfile
from typing import NamedTuple

import keras
import numpy as np

from tskd_tf.acceptance import meets_threshold, paired_loss
from tskd_tf.choices import FORMATS
from tskd_tf.data.splits import Split
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.export.deployment import OUTPUTS, Deployment, as_outputs
from tskd_tf.export.format import Format, format_named
from tskd_tf.export.int8_rescue import Retraining, rescue
from tskd_tf.export.litert import (
    arena_bytes,
    open_litert,
    write_litert,
)
from tskd_tf.export.record import (
    Comparison,
    ExportRow,
    IntegerAttempt,
    JudgedOutputs,
    Timing,
)
from tskd_tf.files import atomic_path, size_bytes
from tskd_tf.networks.evaluate import is_correct, predict_logits

_logger = logging.getLogger(__name__)
_NOT_TIMED = Timing(latency_us=None, teacher_latency_us=None, speedup=None)


class Bargain(NamedTuple):
    """The requirement on each file: Eq. 4 on the task's test images.

    Attributes:
        test: The task's test images, with the student's labels as class ids.
        teacher_is_correct: Whether the teacher is right, bool of shape `(n,)`.
        max_accuracy_loss: Largest allowed loss of accuracy (Tacc_loss), in [0, 1].
        confidence: Confidence level of the paired interval, in (0, 1).
    """

    test: Split
    teacher_is_correct: np.ndarray
    max_accuracy_loss: float
    confidence: float

    def judge(self, outputs: np.ndarray) -> JudgedOutputs:
        """Accuracy, loss and verdict for outputs of shape `(n, num_outputs)`."""
        student_is_correct = is_correct(outputs, self.test.class_ids)
        paired = paired_loss(
            self.teacher_is_correct, student_is_correct, self.confidence
        )
        return {
            "accuracy": float(student_is_correct.mean()),
            "accuracy_loss": paired.accuracy_loss,
            "accuracy_loss_interval": [paired.low, paired.high],
            "certified": meets_threshold(paired.high, self.max_accuracy_loss),
            "meets_threshold": meets_threshold(
                paired.accuracy_loss, self.max_accuracy_loss
            ),
        }


def check_formats(formats: tuple[str, ...]) -> None:
    """Checks export formats.

    Raises:
        InputError: If a format is unknown, named twice, or needs a missing package.
    """
    known = set(formats) <= set(FORMATS)
    if not known or len(set(formats)) < len(formats):
        raise InputError(
            f"Expected exports out of {', '.join(FORMATS)}, each once. "
            f"Received: {', '.join(formats)}"
        )
    for name in formats:
        needs = format_named(name).needs
        if any(importlib.util.find_spec(package) is None for package in needs):
            raise InputError(
                f"The {name} export needs {', '.join(needs)}: "
                f"pip install 'tskd_tf[{name}]'"
            )


def packages_of(formats: tuple[str, ...]) -> list[str]:
    """The optional packages that formats need."""
    return [package for name in formats for package in format_named(name).needs]


def check_outputs(outputs: str) -> None:
    """Checks the outputs of files.

    Raises:
        InputError: If `outputs` is not one of `deployment.OUTPUTS`.
    """
    if outputs not in OUTPUTS:
        raise InputError(
            f"Expected outputs out of {', '.join(OUTPUTS)}. Received: {outputs}"
        )


def export_student(
    student: keras.Model,
    teacher: keras.Model,
    formats: tuple[str, ...],
    directory: str,
    deployment: Deployment,
    bargain: Bargain,
    retraining: Retraining | None = None,
) -> list[ExportRow]:
    """Writes a student in each format, opens each file and measures it.

    If only the integer file misses Eq. 4, and the float32 file meets it, other ways to
    write the integer file are tried; see `int8_rescue`.

    Args:
        student: A float32 model that takes raw images and gives logits.
        teacher: A float32 model that takes raw images and gives logits. Its file of
            each format is timed alternately with the student's, and then deleted.
        formats: Names from `choices.FORMATS`.
        directory: Folder for `student.keras`, `student.tflite` and the other files.
        deployment: Outputs, labels and typical images; `student.keras` always gives
            logits.
        bargain: The requirement on each file.
        retraining: Settings for training the student again for an integer file. None:
            the student is not trained again.

    Returns:
        One row per file, as in the report's `exports`.

    Raises:
        InputError: If a format or the outputs are unknown; nothing is written then.
    """
    check_formats(formats)
    check_outputs(deployment.outputs)
    in_memory = predict_logits(student, bargain.test.images)
    rows: list[ExportRow] = []
    for name in formats:
        made = format_named(name)
        path = pathlib.Path(directory) / made.file_name
        with atomic_path(path) as temporary:
            made.write(student, temporary, deployment)
        found = made.open(str(path)).outputs(bargain.test.images)
        attempts: list[IntegerAttempt] = []
        if name == "litert_int8" and not bargain.judge(found)["meets_threshold"]:
            if _float_keeps(student, rows, deployment, bargain):
                found, attempts = rescue(
                    student,
                    path,
                    found,
                    deployment,
                    bargain.judge,
                    bargain.test.images,
                    retraining,
                )
        outputs = "logits" if made.gives_logits else deployment.outputs
        rows.append(
            {
                "format": name,
                "path": path.name,
                "size_bytes": size_bytes(path),
                "outputs": outputs,
                **bargain.judge(found),
                **_compared(found, in_memory, outputs),
                **_timed(made, path, teacher, deployment),
                "arena_bytes": (
                    arena_bytes(str(path)) if path.suffix == ".tflite" else None
                ),
                "attempts": attempts,
            }
        )
    return rows


def _float_keeps(
    student: keras.Model,
    rows: list[ExportRow],
    deployment: Deployment,
    bargain: Bargain,
) -> bool:
    """Whether the float32 LiteRT file meets Eq. 4; it is written if there is none."""
    for row in rows:
        if row["format"] == "litert":
            return row["meets_threshold"]
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "student.tflite")
        write_litert(student, path, deployment)
        outputs = open_litert(path).outputs(bargain.test.images)
    return bargain.judge(outputs)["meets_threshold"]


def _compared(found: np.ndarray, in_memory: np.ndarray, outputs: str) -> Comparison:
    """Compares the outputs of a file with those of the model in memory."""
    expected = as_outputs(in_memory, outputs)
    is_equal = found.argmax(axis=-1) == in_memory.argmax(axis=-1)
    return {
        "max_logit_difference": float(np.abs(found - expected).max()),
        "equal_predictions": float(is_equal.mean()),
    }


def _timed(
    made: Format, path: pathlib.Path, teacher: keras.Model, deployment: Deployment
) -> Timing:
    """Time per image, alternately with the teacher's file if one can be written."""
    if made.time is None:
        return _NOT_TIMED
    paths = [str(path)]
    with tempfile.TemporaryDirectory() as folder:
        teacher_path = str(pathlib.Path(folder) / made.file_name)
        try:
            made.write(teacher, teacher_path, deployment._replace(labels=[]))
        except OSError:
            raise
        except Exception as error:  # a converter may raise anything
            _logger.warning(
                "%s is timed alone, as the teacher has no such file: %s",
                path.name,
                in_one_line(error),
            )
        else:
            paths.append(teacher_path)
        found = made.time(paths, deployment.images)
    if found is None:
        return _NOT_TIMED
    of_student, *of_teacher = found
    if not of_teacher:
        return {**_NOT_TIMED, "latency_us": of_student}
    return {
        "latency_us": of_student,
        "teacher_latency_us": of_teacher[0],
        "speedup": of_teacher[0]["p50"] / of_student["p50"],
    }
