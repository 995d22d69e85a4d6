"""The training curve: accuracy and loss of each epoch."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TypedDict

from tskd_tf.errors import InputError
from tskd_tf.files import read_json


class Curve(TypedDict):
    """A training curve with one number per epoch.

    Keys:
        validation_accuracy: Accuracy after the epoch, in [0, 1], in the precision of
            the training.
        loss: Mean training loss over the examples of the epoch, ≥ 0.
    """

    validation_accuracy: list[float]
    loss: list[float]


def curve_of(history: Mapping[str, Sequence[float]]) -> Curve:
    """The curve from the `history` of `keras.callbacks.History`."""
    return Curve(
        validation_accuracy=[float(value) for value in history["val_accuracy"]],
        loss=[float(value) for value in history["loss"]],
    )


def read_curve(path: pathlib.Path) -> Curve:
    """Reads a curve from a JSON file.

    Raises:
        InputError: If the file is missing or damaged.
    """
    found = read_json(path)
    if not isinstance(found, dict) or set(found) != set(Curve.__annotations__):
        raise InputError(
            f"Expected {path} to be a training curve. Received: another file, so its "
            "run cannot go on; use another folder"
        )
    curve: Curve = found  # type: ignore[assignment]
    return curve
