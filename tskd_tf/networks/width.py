"""The width rule: thinner copies of a network, every layer but the head at one rate."""

import logging
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tskd_tf.data.task import Task, check_num_outputs, check_task
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.networks.channels import Channels, Kept, Use
from tskd_tf.networks.graph import (
    WAY_OUT,
    check_model,
    is_adapted_normalization,
    is_random_crop,
    is_random_view,
    layer_calls,
    layer_width,
    output_layers,
)
from tskd_tf.networks.importance import magnitude
from tskd_tf.networks.rebuild import rebuild, unfreeze
from tskd_tf.networks.weight_axes import axes_of_weights

_logger = logging.getLogger(__name__)

StudentBuilder = Callable[[float], keras.Model]


def scaled_width(width: int, rate: float, round_to: int = 1) -> int:
    """`rate * width`, rounded half up to a multiple of `round_to`, at least one of it.

    Never above `width`, and `width` itself at rate 1. The small constant undoes binary
    rounding: 0.7 · 25 is 17.499999999999996.
    """
    if rate == 1.0:
        return width
    steps = math.floor(rate * width / round_to + 0.5 + 1e-9)
    return min(width, max(1, steps) * round_to)


def check_rate(rate: float) -> None:
    """Checks a width rate.

    Raises:
        InputError: If it is no number, or not in (0, 1].
    """
    if not isinstance(rate, numbers.Real) or not 0.0 < rate <= 1.0:
        raise InputError(f"Expected a rate above 0 and up to 1. Received: {rate!r}")


def scale_width(
    model: keras.Model,
    rate: float,
    task: Task | None = None,
    round_to: int = 1,
    initialize: str = "random",
    importance: np.ndarray | None = None,
    dtype_policy: str | None = None,
) -> keras.Model:
    """A student: the model with every layer but the head thinner (Shi et al. 2017, 4).

    LeNet 20-50-500-10 at rate 0.5 is 10-25-250-10. Filters and units are scaled,
    whatever follows adapts. Channels that are added or multiplied keep fitting, in the
    groups of a layer equally many are kept, and what meets the image is left as wide
    as it. Layers that show random views in training (`RandomFlip`, …) are left out:
    see `Augmentation`.

    Args:
        model: A built Functional or Sequential classifier that gives logits.
        rate: Width scale in (0, 1].
        task: Its head decides the number of outputs; by default the teacher's.
        round_to: Below rate 1, widths are multiples of it, where they can be; at least
            1. Some accelerators are fastest at multiples of 8.
        initialize: `"random"`, or `"teacher"`: the student starts from the teacher's
            weights, of the channels that matter most. At rate 1 it then computes what
            the teacher does.
        importance: Of the teacher's channels, from `channel_importance`; by default
            the magnitude of their weights.
        dtype_policy: Precision of the student, e.g. `"mixed_bfloat16"`; its head
            computes in float32. By default each layer keeps its own.

    Returns:
        A new, uncompiled model, which takes the same images.

    Raises:
        InputError: If the rate is out of range, the model does not fit the task, or
            the channels cannot be followed through a layer.

    Example:

    >>> student = scale_width(teacher, rate=0.25, task=task)
    """
    check_rate(rate)
    _check_choices(initialize, round_to)
    outputs = output_ids(model, task)
    channels = Channels(model)
    if initialize == "teacher" and importance is None:
        importance = magnitude(channels)
    if importance is not None:
        _check_importance(importance, channels.num_channels)
    for name in channels.tied_to_the_images():
        _logger.warning(
            "Layer %r keeps its width: its channels meet those of the images", name
        )
    kept = channels.keep(_scale_sets(rate, round_to), outputs, importance)
    student = with_widths(model, channels, kept, rate, dtype_policy)
    if initialize == "teacher":
        _take_weights(channels, student, kept)
    return student


def output_ids(model: keras.Model, task: Task | None) -> Sequence[int]:
    """The outputs of a teacher that its students have.

    Args:
        model: The teacher.
        task: Its head decides; without one, all outputs stay.

    Raises:
        InputError: If the model is no classifier of images, or does not fit the task.
    """
    check_model(model, "the teacher")
    num_outputs = model.outputs[0].shape[-1]
    if task is None:
        return range(num_outputs)
    check_task(task)
    check_num_outputs(model.name, num_outputs, task)
    return task.output_class_ids


def with_widths(
    model: keras.Model,
    channels: Channels,
    kept: Kept,
    rate: float,
    dtype_policy: str | None = None,
) -> keras.Model:
    """The model with other widths, random weights, and without random views.

    Args:
        model: A built Functional or Sequential classifier that gives logits.
        channels: Its channels.
        kept: Of these, how often each is there.
        rate: Of the widths, for messages.
        dtype_policy: As in `scale_width`.

    Returns:
        A new, uncompiled model, all of it trainable.

    Raises:
        InputError: If a layer cannot have its new width.
    """
    uses = {id(use.call.layer): use for use in channels.uses}
    # Logits are not rounded, nor is what is made of them
    last = [channels.head, *output_layers(model)]

    def edit(layer: Any) -> Any:
        _check_is_no_crop(layer)
        if is_random_view(layer):
            # The teacher's view would be another
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        if id(layer) in uses:
            config.update(narrowed(config, uses[id(layer)], kept))
        if is_adapted_normalization(layer):
            # What it learnt from the data is part of the preprocessing, not of the
            # network that is trained anew
            config["mean"], config["variance"], *_ = layer.get_weights()
        if dtype_policy is not None and isinstance(layer, keras.Layer):
            is_last = any(layer is other for other in last)
            config["dtype"] = "float32" if is_last else dtype_policy
        return type(layer).from_config(config)

    try:
        student = rebuild(model, edit)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Could not build {model.name!r} at rate {rate:g}: a layer does not accept "
            f"the scaled widths; {WAY_OUT}. Keras says: {in_one_line(error)}"
        ) from error
    _check_widths(channels.uses, student, kept, rate)
    # A layer that was frozen in the teacher is to learn here
    unfreeze(student)
    return student


def _check_choices(initialize: str, round_to: int) -> None:
    if initialize not in ("random", "teacher"):
        raise InputError(
            f"Expected initialize out of random, teacher. Received: {initialize!r}"
        )
    if not isinstance(round_to, numbers.Integral) or round_to < 1:
        raise InputError(
            f"Expected round_to to be an integer of at least 1. Received: {round_to!r}"
        )


def _check_importance(importance: np.ndarray, num_channels: int) -> None:
    if np.shape(importance) != (num_channels,):
        raise InputError(
            f"Expected the importance of {num_channels} channels, as "
            f"channel_importance gives it. Received: shape {np.shape(importance)}"
        )
    if not np.isfinite(importance).all():
        raise InputError("Expected finite importance. Received: NaN or infinity")


def _check_is_no_crop(layer: Any) -> None:
    if is_random_crop(layer):
        raise InputError(
            "Expected images of one size in training and inference. Received: "
            f"{layer.name!r} of type RandomCrop, which in Keras crops in training "
            "only, whatever its output shape says; put a CenterCrop or Resizing "
            "in its place"
        )


def _take_weights(channels: Channels, student: keras.Model, kept: Kept) -> None:
    """Gives a student the teacher's weights of the channels that stay."""
    copies = {
        id(use.call.layer): call.layer
        for use, call in zip(channels.uses, layer_calls(student), strict=True)
    }
    for use in channels.weighted():
        layer = use.call.layer
        weights = []
        for weight, axes in zip(layer.get_weights(), axes_of_weights(use)):
            for i, axis in enumerate(axes):
                if axis is not None:
                    weight = weight.take(kept.positions(axis), i)
            weights.append(weight)
        copies[id(layer)].set_weights(weights)


def _scale_sets(rate: float, round_to: int) -> Callable[[int, int], int]:
    """How many of `num_sets` sets of `size` channels each stay, see `Channels.keep`."""
    return lambda num_sets, size: scaled_width(
        num_sets, rate, round_to // math.gcd(round_to, size)
    )


def narrowed(config: dict[str, Any], use: Use, kept: Kept) -> dict[str, Any]:
    """The settings of a layer that depend on widths, as they are in the new network.

    Args:
        config: The layer's settings.
        use: Its first use.
        kept: The channels of the new network.
    """
    settings: dict[str, Any] = {}
    num_stay = kept.count(use.output)
    for name in ("filters", "units", "projection_dim"):
        if name in config:
            settings[name] = num_stay
    if len(use.inner):
        settings[use.call.layer.inner_setting] = kept.count(use.inner)
    if "groups" in config:
        settings["groups"] = kept.num_groups(use.inputs[0], config["groups"])
    for name in ("target_shape", "newshape"):
        if name in config:
            shape = list(config[name])
            for axis, size in kept.sizes(use.output).items():
                # One that Keras works out stays so
                shape[axis] = -1 if shape[axis] == -1 else size
            settings[name] = tuple(shape)
    return settings


def _check_widths(
    uses: list[Use], student: keras.Model, kept: Kept, rate: float
) -> None:
    """Compares a student with what was meant to stay.

    Raises:
        InputError: If a layer's inputs or output came to be otherwise.
    """
    for use, call in zip(uses, layer_calls(student), strict=True):
        values = [*use.inputs, use.output]
        for value, shape in zip(values, [*call.input_shapes, call.output_shape]):
            sizes = kept.sizes(value)
            is_block = math.prod(sizes.values()) == kept.count(value)
            if not is_block or sizes[-1] != shape[-1]:
                raise InputError(
                    f"Expected {sizes[-1]} channels of {value.shape[-1]} at "
                    f"{call.layer.name!r} at rate {rate:g}. Received: {shape[-1]}; its "
                    f"type {type(call.layer).__name__} cannot be thinned; {WAY_OUT}"
                )


def layer_widths(model: keras.Model) -> list[int]:
    """Widths of the layers that have one, in the order of the graph.

    LeNet gives `[20, 50, 500, 10]`. A shared layer is listed once.
    """
    layers = {id(call.layer): call.layer for call in layer_calls(model)}
    widths = [
        layer_width(layer.get_config())
        for layer in layers.values()
        if isinstance(layer, keras.Layer)
    ]
    return [width for width in widths if width is not None]


def spaced_rates(rate_step: float) -> list[float]:
    """`rate_step`, 2·`rate_step`, … 1.0.

    Raises:
        InputError: If `rate_step` is not in [0.0001, 1].
    """
    # Finer steps are more candidates than anyone searches, and soon fill the memory
    if not 1e-4 <= rate_step <= 1.0:
        raise InputError(f"Expected rate_step from 0.0001 to 1. Received: {rate_step}")
    count = math.ceil(1.0 / rate_step - 1e-9)
    return [round(rate_step * (i + 1), 10) for i in range(count - 1)] + [1.0]


def distinct_rates(model: keras.Model, rates: Sequence[float]) -> list[float]:
    """The rates at which `scale_width` gives distinct widths, without building any.

    They are what a search may choose from. Of rates that give the same widths the
    largest stands for them.

    Args:
        model: The teacher.
        rates: Ascending, each in (0, 1].

    Returns:
        From the rate of the cheapest network to that of the dearest.

    Raises:
        InputError: If the channels cannot be followed through a layer.
    """
    check_model(model, "the teacher")
    channels = Channels(model)
    outputs = range(model.outputs[0].shape[-1])
    distinct: dict[tuple[int, ...], float] = {}
    for rate in rates:
        kept = channels.keep(_scale_sets(rate, 1), outputs)
        everything = [*channels.made.values(), *channels.inner.values()]
        widths = [kept.count(made) for made in everything]
        distinct[tuple(widths)] = rate
    return list(distinct.values())
