"""What a user can choose by name: each name once, with its help and its record.

A record is what the package knows of a choice. It lies in a module of its own and is
loaded when it is needed, so that `--help` does not wait for TensorFlow.
"""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from tskd_tf.errors import InputError


class Choice(NamedTuple):
    """One name that a user can choose.

    Attributes:
        help: What it does, in `--help`; a sentence or more.
        record: `module:NAME` of its record.
    """

    help: str
    record: str

    def load(self) -> Any:
        """The record; imports its module."""
        module, _, name = self.record.partition(":")
        return getattr(importlib.import_module(module), name)


def check_choice(kind: str, name: str, choices: Mapping[str, Choice]) -> None:
    """Checks a name.

    Args:
        kind: What is chosen, for the message.
        name: As the user gave it.
        choices: The names there are.

    Raises:
        InputError: If there is no such name.
    """
    if name not in choices:
        raise InputError(
            f"Expected {kind} out of {', '.join(choices)}. Received: {name}"
        )


def help_of(choices: Mapping[str, Choice]) -> str:
    """The help of all names, one after the other."""
    return " ".join(f"{name}: {choice.help}" for name, choice in choices.items())


_METHODS = "tskd_tf.distillation.methods"

METHODS: dict[str, Choice] = {
    "distillation": Choice(
        "by Eq. 8, from labels and soft targets.", f"{_METHODS}.distillation:METHOD"
    ),
    "hint": Choice(
        "at first, for --hint_share of the steps, from the teacher's feature map in "
        "the middle (FitNets, Romero et al. 2015). It runs the teacher in these steps.",
        f"{_METHODS}.hint:METHOD",
    ),
    "pre_regression": Choice(
        "from labels, soft targets, and class scores of heads at the ends of stages "
        "(inspired by Wang et al. 2016). It runs the teacher in every step.",
        f"{_METHODS}.pre_regression:METHOD",
    ),
    "online": Choice(
        "--num_students at once, from a head over the maps of all of them (Xie et al. "
        "2019). It has no use for soft targets and lambda, and keeps the student that "
        "is best on validation data. The teacher only says what accuracy is needed.",
        f"{_METHODS}.online:METHOD",
    ),
    "mutual": Choice(
        "--num_students at once, from each other (Zhang et al. 2018); the rest as for "
        "online.",
        f"{_METHODS}.mutual:METHOD",
    ),
    "adversarial": Choice(
        "from labels, the distance to the teacher's logits, and a discriminator that "
        "tells the two apart (Xu et al. 2018). It has no --temperature and no "
        "--soft_loss_weight.",
        f"{_METHODS}.adversarial:METHOD",
    ),
}

_LAYERS = "tskd_tf.networks.layers"
PLAIN = "plain"

CONVOLUTIONS: dict[str, Choice] = {
    PLAIN: Choice("convolutions stay.", f"{_LAYERS}.convolution:PLAIN"),
    "dominant": Choice(
        "few kernels and a 1x1 convolution of what they give, which start from the "
        "teacher's kernels with --initialize=teacher.",
        f"{_LAYERS}.dominant:CONVOLUTION",
    ),
    "shift": Choice(
        "each channel moves by a pixel, with a 1x1 convolution behind.",
        f"{_LAYERS}.shift:CONVOLUTION",
    ),
    "grouped": Choice(
        "convolutions in --groups groups, with a 1x1 convolution behind.",
        f"{_LAYERS}.grouped:CONVOLUTION",
    ),
    "depthwise": Choice(
        "a kernel a channel, with a 1x1 convolution behind.",
        f"{_LAYERS}.depthwise:CONVOLUTION",
    ),
}

_EXPORT = "tskd_tf.export"

FORMATS: dict[str, Choice] = {
    "keras": Choice("for Keras, to train on.", f"{_EXPORT}.keras_file:KERAS"),
    "litert": Choice("LiteRT in float32.", f"{_EXPORT}.litert:LITERT"),
    "litert_float16": Choice(
        "LiteRT of half the bytes.", f"{_EXPORT}.litert:LITERT_FLOAT16"
    ),
    "litert_int8": Choice(
        "LiteRT with integers throughout.", f"{_EXPORT}.litert:LITERT_INT8"
    ),
    "onnx": Choice("ONNX (needs the onnx extra).", f"{_EXPORT}.onnx:ONNX"),
    "saved_model": Choice(
        "TensorFlow's SavedModel.", f"{_EXPORT}.saved_model:SAVED_MODEL"
    ),
}
