"""Writes LiteRT files (float32, float16 weights, integers) and runs them in LiteRT."""

import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.data.images import Images
from tskd_tf.errors import InputError
from tskd_tf.export.deployment import (
    LABELS_FILE,
    Deployment,
    OpenedFile,
    deployed,
    lines_of,
)
from tskd_tf.export.format import Format, Latencies
from tskd_tf.export.latency import latencies_us

NUM_EXAMPLES = 500
# LiteRT places tensors at multiples of this many bytes
_ALIGNMENT = 64


def write_litert(model: keras.Model, path: str, deployment: Deployment) -> None:
    """Writes a LiteRT file with float32 weights and arithmetic.

    Every LiteRT file here takes one uint8 image. `labels.txt` is appended as a ZIP
    archive, as LiteRT metadata does with associated files. Any ZIP program can read it.

    Args:
        model: A float32 model that takes raw images and gives logits.
        path: Path of the file, ending with `.tflite`.
        deployment: Outputs and labels.
    """
    _convert(deployed(model, deployment.outputs), path, deployment)


def write_litert_float16(model: keras.Model, path: str, deployment: Deployment) -> None:
    """Writes float16 weights with float32 arithmetic; see `write_litert`."""
    _convert(
        deployed(model, deployment.outputs),
        path,
        deployment,
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec={"supported_types": [tf.float16]},
    )


def write_litert_int8(
    model: keras.Model,
    path: str,
    deployment: Deployment,
    num_examples: int = NUM_EXAMPLES,
) -> None:
    """Writes int8 weights and activations; see `write_litert`.

    The input scale is 1: each byte of the image is its pixel value. Outputs are uint8
    with a scale and a zero point, 1/256 and 0 for probabilities. Each channel of the
    weights has its own scale, each activation tensor one.

    Args:
        model: A float32 model that takes raw images and gives logits.
        path: Path of the file, ending with `.tflite`.
        deployment: Outputs, labels, and the images that set the ranges of activations.
        num_examples: Number of these images to use, evenly spaced. Default: 500.
    """
    _convert(
        deployed(model, deployment.outputs, "float32"),
        path,
        deployment,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: _examples(
            deployment.images, num_examples, np.float32
        ),
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        inference_input_type=tf.uint8,
        inference_output_type=tf.uint8,
    )


def write_litert_int16x8(
    model: keras.Model,
    path: str,
    deployment: Deployment,
    num_examples: int = NUM_EXAMPLES,
) -> None:
    """Writes int8 weights and int16 activations; see `write_litert_int8`.

    The uint8 image is cast to float32 first, because int16 inputs cannot be bytes.
    Outputs are int16 with a scale.
    """
    sixteen_by_eight = (
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    )
    _convert(
        deployed(model, deployment.outputs),
        path,
        deployment,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: _examples(
            deployment.images, num_examples, np.uint8
        ),
        # The cast of the input has no integer form
        target_spec={
            "supported_ops": [sixteen_by_eight, tf.lite.OpsSet.TFLITE_BUILTINS]
        },
        inference_output_type=tf.int16,
    )


def _examples(images: Images, num_examples: int, dtype: Any) -> Iterator[list[Any]]:
    num_taken = min(num_examples, len(images))
    sample = np.asarray(images[np.arange(num_taken) * len(images) // num_taken])
    # The input range must be 0 to 255, even if no example has a pixel of 0 or 255
    whole_range = sample[0].copy()
    whole_range.flat[0], whole_range.flat[-1] = 0, 255
    for image in (whole_range, *sample):
        yield [image[None].astype(dtype)]


def _convert(
    model: keras.Model, path: str, deployment: Deployment, **settings: Any
) -> None:
    (images,) = model.inputs
    # A fixed batch of one image: all shapes are known, and no operation computes them
    shape = (1, *images.shape[1:])
    with warnings.catch_warnings():
        # TensorFlow warns about missing statistics, which it takes from the examples
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")
        model.export(
            path,
            format="litert",
            verbose=False,
            input_signature=[tf.TensorSpec(shape, images.dtype, name="images")],
            **settings,
        )
    if deployment.labels:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            # Without a time stamp, so that the same model gives the same file
            entry = zipfile.ZipInfo(LABELS_FILE)
            archive.writestr(entry, lines_of(deployment.labels), zipfile.ZIP_DEFLATED)


def open_litert(path: str) -> OpenedFile:
    """Opens a LiteRT file with one input and one output; it runs one image at a time.

    Args:
        path: Path of the `.tflite` file.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    scale, zero_point = target["quantization"]

    def run(image: np.ndarray) -> Any:
        interpreter.set_tensor(source["index"], image.astype(source["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    def outputs(images: Images) -> np.ndarray:
        values = np.concatenate([run(image[None]) for image in images])
        if not scale:
            return values
        return (np.float32(scale) * (values.astype(np.float32) - zero_point)).astype(
            np.float32
        )

    return OpenedFile(run, outputs)


def arena_bytes(path: str) -> int | None:
    """Bytes of LiteRT's arena, which holds the tensors of one inference.

    The runtime has no function for this number, so it is computed from the address of
    each tensor, without delegates. Weights, which stay in the file, and the
    interpreter's own structures need additional memory.

    Args:
        path: Path of a `.tflite` file.

    Returns:
        Bytes, or None if the tensors are not in one block, e.g. for unknown sizes.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = pathlib.Path(path).read_bytes()
    plain_kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=plain_kernels
    )
    interpreter.allocate_tensors()
    start_of_file = np.frombuffer(content, np.uint8).ctypes.data
    starts, ends = [], []
    for details in interpreter.get_tensor_details():
        try:
            value = interpreter.tensor(details["index"])()
        except ValueError:  # the tensor has no memory
            continue
        if isinstance(value, np.generic):  # a scalar is returned as a copy
            continue
        start = value.ctypes.data
        if not start_of_file <= start < start_of_file + len(content):
            starts.append(start)
            ends.append(start + value.nbytes)
    extent = max(ends) - min(starts)
    sizes = sum(end - start for start, end in zip(starts, ends))
    return extent if extent <= sizes + _ALIGNMENT * len(starts) else None


def litert_latency_us(student: keras.Model, images: Images) -> float:
    """Time per image in LiteRT on this machine, on one thread in float32.

    Args:
        student: A float32 model, trained or not: the values of weights do not matter.
        images: Shape `(n, height, width, channels)`, 0 to 255, n ≥ 1.

    Returns:
        Median of 500 runs after a warm-up, in microseconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "student.tflite")
        write_litert(student, path, Deployment("logits", [], images))
        (latency,) = latencies_us([open_litert(path).run], images)
        return latency["p50"]


def int8_bytes(student: keras.Model, images: Images) -> int:
    """Bytes of a student's int8 file.

    Args:
        student: A float32 model, trained or not: the values of weights do not matter.
        images: Shape `(n, height, width, channels)`, 0 to 255, n ≥ 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        return pathlib.Path(_int8_file(student, images, folder)).stat().st_size


def int8_arena_bytes(student: keras.Model, images: Images) -> int:
    """Bytes of LiteRT's arena for a student's int8 file, see `arena_bytes`.

    Args:
        student: A float32 model, trained or not: the values of weights do not matter.
        images: Shape `(n, height, width, channels)`, 0 to 255, n ≥ 1.

    Raises:
        InputError: If LiteRT does not say where a tensor lies.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = arena_bytes(_int8_file(student, images, folder))
    if found is None:
        raise InputError(
            "Expected a student whose LiteRT arena can be measured. Received: "
            f"{student.name!r}, whose tensors are not in one block"
        )
    return found


def _int8_file(student: keras.Model, images: Images, folder: str) -> str:
    """Writes an int8 file; returns its path. One image is enough for its size."""
    path = str(pathlib.Path(folder) / "student.tflite")
    write_litert_int8(student, path, Deployment("logits", [], images), num_examples=1)
    return path


def _time(paths: list[str], images: Images) -> Latencies:
    return latencies_us([open_litert(path).run for path in paths], images)


_SNIPPET = """\
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(model_path="{path}").get_signature_runner()
[name] = run.get_input_details()
[outputs] = run(**{{name: image[None]}}).values()
"""
LITERT = Format(
    title="LiteRT float32",
    file_name="student.tflite",
    write=write_litert,
    open=open_litert,
    time=_time,
    snippet=_SNIPPET,
)
LITERT_FLOAT16 = LITERT._replace(
    title="LiteRT float16",
    file_name="student_float16.tflite",
    write=write_litert_float16,
)
LITERT_INT8 = LITERT._replace(
    title="LiteRT int8",
    file_name="student_int8.tflite",
    write=write_litert_int8,
)
