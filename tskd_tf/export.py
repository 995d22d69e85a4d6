"""Files to deploy, each run in its own runtime before anything is said about it."""

import os
import pathlib
import time
from typing import Any

import keras
import numpy as np

from tskd_tf.acceptance import meets_threshold
from tskd_tf.data import Split
from tskd_tf.errors import InputError
from tskd_tf.evaluate import accuracy, predict_logits
from tskd_tf.files import atomic_path

FORMATS = ("keras", "litert")
_WARM_UP_RUNS = 50
_TIMED_RUNS = 500


def check_formats(formats: tuple[str, ...]) -> None:
    """Checks export formats.

    Raises:
        InputError: If one is unknown or named twice.
    """
    known = set(formats) <= set(FORMATS)
    if not known or len(set(formats)) < len(formats):
        raise InputError(
            f"Expected exports out of {', '.join(FORMATS)}, each once. "
            f"Received: {', '.join(formats)}"
        )


def export_student(
    student: keras.Model,
    formats: tuple[str, ...],
    directory: str,
    test: Split,
    teacher_accuracy: float,
    max_accuracy_loss: float,
) -> list[dict[str, Any]]:
    """Writes a student in each format and measures each file.

    Args:
        student: In float32; takes raw images, gives logits.
        formats: Out of `FORMATS`.
        directory: Where `student.keras`, `student.tflite` go.
        test: The task's test images, with the student's labels for class ids.
        teacher_accuracy: On the same images, for Eq. 4.
        max_accuracy_loss: Tacc_loss.

    Returns:
        A record a file: its format, path in `directory`, size in bytes, accuracy,
        latency in microseconds an image (None where none is measured), and whether
        this file meets Eq. 4.
    """
    check_formats(formats)
    records = []
    for name in formats:
        suffix, write, measure = _FORMATS[name]
        path = pathlib.Path(directory) / f"student{suffix}"
        with atomic_path(path) as temporary:
            write(student, temporary)
        file_accuracy, latency_us = measure(str(path), test)
        records.append(
            {
                "format": name,
                "path": path.name,
                "size_bytes": os.path.getsize(path),
                "accuracy": file_accuracy,
                "latency_us": latency_us,
                "meets_threshold": meets_threshold(
                    teacher_accuracy - file_accuracy, max_accuracy_loss
                ),
            }
        )
    return records


def _write_keras(student: keras.Model, path: str) -> None:
    student.save(path)


def _measure_keras(path: str, test: Split) -> tuple[float, None]:
    model = keras.saving.load_model(path, compile=False)
    return accuracy(predict_logits(model, test.images), test.class_ids), None


def _write_litert(student: keras.Model, path: str) -> None:
    student.export(path, format="litert", verbose=False)


def _measure_litert(path: str, test: Split) -> tuple[float, dict[str, float]]:
    logits = litert_logits(path, test.images)
    return accuracy(logits, test.class_ids), _litert_latency_us(path, test.images)


def litert_logits(path: str, images: np.ndarray) -> np.ndarray:
    """Logits of a LiteRT file, an image at a time as on a device.

    Args:
        path: A `.tflite` file with one input and one output.
        images: Shape `(n, height, width, channels)`, 0 to 255.

    Returns:
        float32, shape `(n, num_outputs)`.
    """
    interpreter = _interpreter(path)
    return np.concatenate([_invoke(interpreter, image[None]) for image in images])


def _litert_latency_us(path: str, images: np.ndarray) -> dict[str, float]:
    """One image on one thread, after a warm-up: median and 90th percentile."""
    interpreter = _interpreter(path)
    microseconds = []
    for run in range(_WARM_UP_RUNS + _TIMED_RUNS):
        image = images[run % len(images)][None]
        start = time.perf_counter_ns()
        _invoke(interpreter, image)
        microseconds.append((time.perf_counter_ns() - start) / 1000)
    p50, p90 = np.percentile(microseconds[_WARM_UP_RUNS:], (50, 90))
    return {"p50": float(p50), "p90": float(p90)}


def _interpreter(path: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _invoke(interpreter: Any, image: np.ndarray) -> np.ndarray:
    source = interpreter.get_input_details()[0]
    target = interpreter.get_output_details()[0]
    interpreter.set_tensor(source["index"], image.astype(source["dtype"]))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(target["index"]))


_FORMATS: dict[str, tuple[str, Any, Any]] = {
    "keras": (".keras", _write_keras, _measure_keras),
    "litert": (".tflite", _write_litert, _measure_litert),
}
