"""LiteRT files: float32, float16 weights, and integers; and LiteRT itself."""

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
    """Writes float32 weights, which compute in float32.

    As in every LiteRT file here, one uint8 image goes in, and `labels.txt` is at the
    end of the file, as files that belong to a model are in LiteRT metadata: any
    program that reads ZIP finds it.

    Args:
        model: In float32; takes raw images, gives logits.
        path: Ends with `.tflite`.
        deployment: Outputs and labels.
    """
    _convert(deployed(model, deployment.outputs), path, deployment)


def write_litert_float16(model: keras.Model, path: str, deployment: Deployment) -> None:
    """Writes float16 weights, which compute in float32; see `write_litert`."""
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
    """Writes integers throughout: int8 weights and activations; see `write_litert`.

    A byte of the image stands for its own pixel value. Outputs are uint8 with a scale
    and a zero point, 1/256 and 0 for probabilities. Each channel of weights has a scale
    of its own, each activation one in all.

    Args:
        model: In float32; takes raw images, gives logits.
        path: Ends with `.tflite`.
        deployment: Outputs, labels, and the images that set the activations' ranges.
        num_examples: Of these images, spread over all of them.
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

    The image is cast at the door, as int16 has no byte for a pixel. Outputs are int16
    with a scale.
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
        # The door's cast has no integer form
        target_spec={
            "supported_ops": [sixteen_by_eight, tf.lite.OpsSet.TFLITE_BUILTINS]
        },
        inference_output_type=tf.int16,
    )


def _examples(images: Images, num_examples: int, dtype: Any) -> Iterator[list[Any]]:
    num_taken = min(num_examples, len(images))
    sample = np.asarray(images[np.arange(num_taken) * len(images) // num_taken])
    # A byte must stand for its own pixel value, whatever the brightest pixel seen
    whole_range = sample[0].copy()
    whole_range.flat[0], whole_range.flat[-1] = 0, 255
    for image in (whole_range, *sample):
        yield [image[None].astype(dtype)]


def _convert(
    model: keras.Model, path: str, deployment: Deployment, **settings: Any
) -> None:
    (images,) = model.inputs
    # Of one image, so that shapes are known and no operation computes them
    shape = (1, *images.shape[1:])
    with warnings.catch_warnings():
        # It asks for statistics that it takes from the examples
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
            # Without the time of day, so that the same model gives the same file
            entry = zipfile.ZipInfo(LABELS_FILE)
            archive.writestr(entry, lines_of(deployment.labels), zipfile.ZIP_DEFLATED)


def open_litert(path: str) -> OpenedFile:
    """A LiteRT file of one input and output, run an image at a time as on a device."""
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
    """Bytes that LiteRT's planner gives the values of one inference, without delegates.

    The runtime has no function for it; what it says is where each value lies. Weights,
    which stay in the file, and the interpreter's own structures come on top.

    Args:
        path: A `.tflite` file.

    Returns:
        None where the values do not lie in one block, as those whose size is not known
        beforehand do not.
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
        except ValueError:  # has no memory
            continue
        if isinstance(value, np.generic):  # a scalar comes as a copy
            continue
        start = value.ctypes.data
        if not start_of_file <= start < start_of_file + len(content):
            starts.append(start)
            ends.append(start + value.nbytes)
    extent = max(ends) - min(starts)
    sizes = sum(end - start for start, end in zip(starts, ends))
    return extent if extent <= sizes + _ALIGNMENT * len(starts) else None


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
        write_litert(student, path, Deployment("logits", [], images))
        (latency,) = latencies_us([open_litert(path).run], images)
        return latency["p50"]


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
