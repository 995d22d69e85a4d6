"""A model as it is deployed: images as bytes in, logits or probabilities out."""

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
    """What the files of a model have in common.

    Attributes:
        outputs: One of `OUTPUTS`, what the files give.
        labels: A class name an output, in their order.
        images: uint8, shape `(n, height, width, channels)`, n ≥ 1, like those that the
            files will see; they set the ranges of integer files.
    """

    outputs: str
    labels: list[str]
    images: Images


class OpenedFile(NamedTuple):
    """A file in its own runtime, on one thread where that can be set.

    Attributes:
        run: Takes one image, uint8 of shape `(1, height, width, channels)`, and gives
            what the runtime gives; this is what is timed.
        outputs: Takes images, uint8 of shape `(n, height, width, channels)`, and gives
            float32 of shape `(n, num_outputs)`, integers scaled back.
    """

    run: Callable[[np.ndarray], Any]
    outputs: Callable[[Images], np.ndarray]


def deployed(
    model: keras.Model, outputs: str, input_dtype: str = "uint8"
) -> keras.Model:
    """The model behind a door for raw images, and before a softmax if it is wanted.

    Args:
        model: In float32; takes raw images of a known size, gives logits. It is shared,
            not copied.
        outputs: One of `OUTPUTS`.
        input_dtype: `"uint8"`, cast to float32 at the door, or `"float32"`.
    """
    images = keras.Input(model.inputs[0].shape[1:], dtype=input_dtype, name="images")
    values = images if input_dtype == "float32" else keras.ops.cast(images, "float32")
    values = model(values)
    if outputs == "probabilities":
        values = keras.layers.Softmax(dtype="float32", name="probabilities")(values)
    return keras.Model(images, values, name=f"{model.name}_deployed")


def as_outputs(logits: np.ndarray, outputs: str) -> np.ndarray:
    """What files give for logits `(n, num_outputs)`: these, or their softmax."""
    if outputs == "logits":
        return logits
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def lines_of(labels: list[str]) -> str:
    """A class name a line: the form that programs around LiteRT read.

    A line break inside a name, as a folder's may have, becomes a space.
    """
    return "".join(" ".join(label.splitlines()) + "\n" for label in labels)


def write_labels(output_names: list[str], directory: str) -> str:
    """Writes `labels.txt`, all or nothing; returns that name.

    A class name a line, in the order of the exported files' outputs.
    """
    write_text(pathlib.Path(directory) / LABELS_FILE, lines_of(output_names))
    return LABELS_FILE
