"""Files to deploy, each run in its own runtime before anything is said about it."""

import importlib.util
import os
import pathlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.acceptance import meets_threshold
from tskd_tf.data import Split
from tskd_tf.errors import InputError
from tskd_tf.evaluate import accuracy, predict_logits
from tskd_tf.files import atomic_path, write_text
from tskd_tf.images import Images, chunks
from tskd_tf.rebuild import copy_weights, load_kept_model, rebuild, same_layer

LABELS_FILE = "labels.txt"
FORMATS = ("keras", "litert", "litert_int8", "onnx")
_NUM_CALIBRATION_IMAGES = 500
_WARM_UP_RUNS = 50
_TIMED_RUNS = 500


def check_formats(formats: tuple[str, ...]) -> None:
    """Checks export formats.

    Raises:
        InputError: If one is unknown, named twice, or needs a package that is missing.
    """
    known = set(formats) <= set(FORMATS)
    if not known or len(set(formats)) < len(formats):
        raise InputError(
            f"Expected exports out of {', '.join(FORMATS)}, each once. "
            f"Received: {', '.join(formats)}"
        )
    needs = ("tf2onnx", "onnxruntime") if "onnx" in formats else ()
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"The onnx export needs {' and '.join(missing)}: "
            "pip install 'tskd_tf[onnx]'"
        )


def write_labels(output_names: list[str], directory: str) -> str:
    """Writes `labels.txt`, all or nothing; returns that name.

    A class name a line, in the order of the exported files' outputs: the form that
    programs around LiteRT read.
    """
    lines = "".join(f"{name}\n" for name in output_names)
    write_text(pathlib.Path(directory) / LABELS_FILE, lines)
    return LABELS_FILE


def export_student(
    student: keras.Model,
    formats: tuple[str, ...],
    directory: str,
    train_images: Images,
    test: Split,
    teacher_accuracy: float,
    max_accuracy_loss: float,
) -> list[dict[str, Any]]:
    """Writes a student in each format and measures each file.

    Args:
        student: In float32; takes raw images, gives logits.
        formats: Out of `FORMATS`.
        directory: Where `student.keras`, `student.tflite` and the others go.
        train_images: The task's training images; some of them set the ranges of
            `litert_int8`.
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
        file_name, write, measure = _FORMATS[name]
        path = pathlib.Path(directory) / file_name
        with atomic_path(path) as temporary:
            write(student, temporary, train_images)
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


def _write_keras(student: keras.Model, path: str, train_images: Images) -> None:
    student.save(path)


def _measure_keras(path: str, test: Split) -> tuple[float, None]:
    model = load_kept_model(path)
    return accuracy(predict_logits(model, test.images), test.class_ids), None


def _write_litert(student: keras.Model, path: str, train_images: Images) -> None:
    student.export(path, format="litert", verbose=False)


def _write_litert_int8(student: keras.Model, path: str, train_images: Images) -> None:
    """Integer weights and activations; takes raw uint8 images, gives float32 logits."""
    step = max(1, len(train_images) // _NUM_CALIBRATION_IMAGES)
    # A byte must stand for its own pixel value, whatever the brightest pixel seen
    sample = np.asarray(train_images[::step])
    whole_range = sample[0].copy()
    whole_range.flat[0], whole_range.flat[-1] = 0, 255

    def calibration_images() -> Iterator[list[np.ndarray]]:
        for image in (whole_range, *sample):
            yield [image[None].astype(np.float32)]

    with warnings.catch_warnings():
        # It asks for statistics that it takes from the calibration images
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")
        student.export(
            path,
            format="litert",
            verbose=False,
            optimizations=[tf.lite.Optimize.DEFAULT],
            representative_dataset=calibration_images,
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
            inference_input_type=tf.uint8,
        )


def _write_onnx(student: keras.Model, path: str, train_images: Images) -> None:
    def edit(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Normalization):
            return same_layer(layer)
        # Its constants would become inputs of the ONNX graph
        deviation = np.maximum(np.sqrt(layer.variance), keras.config.epsilon())
        offset = -np.asarray(layer.mean) / deviation
        return keras.layers.Rescaling((1 / deviation)[0], offset[0], name=layer.name)

    copy = rebuild(student, edit)
    copy_weights(student, copy)
    # Keras exports what has been called
    copy(np.asarray(train_images[:1]))
    with warnings.catch_warnings():
        # Keras's bridge to tf2onnx asks NumPy for a name that is gone
        warnings.filterwarnings("ignore", category=FutureWarning)
        copy.export(path, format="onnx", verbose=False)


def _measure_onnx(path: str, test: Split) -> tuple[float, dict[str, float]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {name: images.astype(np.float32)})[0])

    logits = np.concatenate(
        [run(np.asarray(test.images[p])) for p in chunks(len(test.images))]
    )
    return accuracy(logits, test.class_ids), _latency_us(run, test.images)


def _measure_litert(path: str, test: Split) -> tuple[float, dict[str, float]]:
    logits = litert_logits(path, test.images)
    return accuracy(logits, test.class_ids), _litert_latency_us(path, test.images)


def litert_latency_us(student: keras.Model, images: Images) -> float:
    """What an image takes in LiteRT on this machine, on one thread, in float32.

    Args:
        student: In float32, trained or not: its weights' values do not matter.
        images: Shape `(n, height, width, channels)`, 0 to 255, n ≥ 1.

    Returns:
        Microseconds, the median of 500 runs after a warm-up.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "student.tflite")
        _write_litert(student, path, images)
        return _litert_latency_us(path, images)["p50"]


def _litert_latency_us(path: str, images: Images) -> dict[str, float]:
    interpreter = _interpreter(path)
    return _latency_us(lambda image: _invoke(interpreter, image), images)


def litert_logits(path: str, images: Images) -> np.ndarray:
    """Logits of a LiteRT file, an image at a time as on a device.

    Args:
        path: A `.tflite` file with one input and one output.
        images: Shape `(n, height, width, channels)`, 0 to 255.

    Returns:
        float32, shape `(n, num_outputs)`.
    """
    interpreter = _interpreter(path)
    return np.concatenate([_invoke(interpreter, image[None]) for image in images])


def _latency_us(
    run: Callable[[np.ndarray], np.ndarray], images: Images
) -> dict[str, float]:
    """One image on one thread, after a warm-up: median and 90th percentile."""
    images = np.asarray(images[:_TIMED_RUNS])
    microseconds = []
    for i in range(_WARM_UP_RUNS + _TIMED_RUNS):
        image = images[i % len(images)][None]
        start = time.perf_counter_ns()
        run(image)
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
    "keras": ("student.keras", _write_keras, _measure_keras),
    "litert": ("student.tflite", _write_litert, _measure_litert),
    "litert_int8": ("student_int8.tflite", _write_litert_int8, _measure_litert),
    "onnx": ("student.onnx", _write_onnx, _measure_onnx),
}
