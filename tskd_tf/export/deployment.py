"""The deployed form of a model: uint8 images in, logits or probabilities out."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from tskd_tf.data.images import Images
from tskd_tf.files import write_text

LABELS_FILE = "labels.txt"
OUTPUTS = ("logits", "probabilities")


class Deployment(NamedTuple):
    """Settings that all files of a model share.

    Attributes:
        outputs: One of `OUTPUTS`: what the files return.
        labels: One class name per output, in the order of the outputs.
        images: uint8, shape `(n, height, width, channels)`, n ≥ 1: typical images. They
            set the ranges of activations in integer files.
    """

    outputs: str
    labels: list[str]
    images: Images


class OpenedFile(NamedTuple):
    """A file opened in its own runtime, on one thread where the runtime allows it.

    Attributes:
        run: Maps one image, uint8 of shape `(1, height, width, channels)`, to the raw
            result of the runtime. This function is timed.
        outputs: Maps images, uint8 of shape `(n, height, width, channels)`, to outputs,
            float32 of shape `(n, num_outputs)`. Integer outputs are dequantized.
    """

    run: Callable[[np.ndarray], Any]
    outputs: Callable[[Images], np.ndarray]


def deployed(
    model: keras.Model, outputs: str, input_dtype: str = "uint8"
) -> keras.Model:
    """A model with an input for raw images and, for probabilities, a softmax.

    Args:
        model: A float32 model that takes raw images of a known size and gives logits.
            Its layers are shared, not copied.
        outputs: One of `OUTPUTS`.
        input_dtype: `"uint8"` (default), cast to float32 first, or `"float32"`.
    """
    images = keras.Input(model.inputs[0].shape[1:], dtype=input_dtype, name="images")
    values = images if input_dtype == "float32" else keras.ops.cast(images, "float32")
    values = model(values)
    if outputs == "probabilities":
        values = keras.layers.Softmax(dtype="float32", name="probabilities")(values)
    return keras.Model(images, values, name=f"{model.name}_deployed")


def as_outputs(logits: np.ndarray, outputs: str) -> np.ndarray:
    """Outputs of a file for logits `(n, num_outputs)`: the logits or their softmax."""
    if outputs == "logits":
        return logits
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def lines_of(labels: list[str]) -> str:
    """The text of a label file as LiteRT tools read it: one class name per line.

    A line break inside a name (a folder's name may have one) becomes a space.
    """
    return "".join(" ".join(label.splitlines()) + "\n" for label in labels)


def write_labels(output_names: list[str], directory: str) -> str:
    """Writes `labels.txt` atomically; returns that name.

    Each line has one class name, in the order of the exported files' outputs.
    """
    write_text(pathlib.Path(directory) / LABELS_FILE, lines_of(output_names))
    return LABELS_FILE
