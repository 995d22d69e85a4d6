"""The width rule: every layer of a network except the head is scaled by one rate."""

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
    """`rate * width`, rounded half up to a multiple of `round_to`.

    The result is at least `round_to` and at most `width`; at rate 1 it is `width`. The
    small constant corrects binary rounding: 0.7 · 25 is 17.499999999999996.
    """
    if rate == 1.0:
        return width
    steps = math.floor(rate * width / round_to + 0.5 + 1e-9)
    return min(width, max(1, steps) * round_to)


def check_rate(rate: float) -> None:
    """Checks a width rate.

    Raises:
        InputError: If it is not a number in (0, 1].
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
    """A student: the model with all layers except the head thinner.

    LeNet 20-50-500-10 at rate 0.5 is 10-25-250-10 (Shi et al. 2017, section 4). Filters
    and units are scaled, and later layers adapt. Channels that are added or multiplied
    keep fitting. Each group of a layer keeps equally many channels. Channels tied to
    those of the images all stay. Layers that show random views in training
    (`RandomFlip`, …) are removed; use `Augmentation` instead.

    Args:
        model: A built Functional or Sequential classifier that gives logits.
        rate: Width scale in (0, 1].
        task: Its head sets the number of outputs. Default: all outputs of the teacher.
        round_to: Below rate 1, widths are multiples of this number, where possible;
            ≥ 1. Some accelerators are fastest at multiples of 8. Default: 1.
        initialize: `"random"` (default), or `"teacher"` to start from the weights of
            the teacher's most important channels. At rate 1, the student then computes
            the same as the teacher.
        importance: Importance of the teacher's channels, shape `(num_channels,)`, from
            `channel_importance`. Default: the magnitude of their weights.
        dtype_policy: Precision of the student, e.g. `"mixed_bfloat16"`; its head
            computes in float32. Default: each layer keeps its own.

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
            "Layer %r keeps its width: its channels are tied to those of the images",
            name,
        )
    kept = channels.keep(scale_sets(rate, round_to), outputs, importance)
    student = with_widths(model, channels, kept, rate, dtype_policy)
    if initialize == "teacher":
        take_weights(channels, student, kept)
    return student


def output_ids(model: keras.Model, task: Task | None) -> Sequence[int]:
    """Positions of the teacher's outputs that its students have.

    Args:
        model: The teacher.
        task: Its head sets the outputs; None keeps all.

    Raises:
        InputError: If the model is not a classifier of images or does not fit the task.
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
        channels: The channels of the model.
        kept: The channels of the new network.
        rate: The width scale, for messages.
        dtype_policy: Precision of the new model. Default: each layer keeps its own.

    Returns:
        A new, uncompiled model with all layers trainable.

    Raises:
        InputError: If a layer cannot have its new width.
    """
    uses = {id(use.call.layer): use for use in channels.uses}
    # These layers compute in float32, so that logits are not rounded
    last = [channels.head, *output_layers(model)]

    def edit(layer: Any) -> Any:
        _check_is_no_crop(layer)
        if is_random_view(layer):
            # The teacher would see another view
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        if id(layer) in uses:
            config.update(narrowed(config, uses[id(layer)], kept))
        if is_adapted_normalization(layer):
            # Its statistics belong to the preprocessing, not to the trained network
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
    # Layers that are frozen in the teacher must learn here
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
            "only, despite its output shape; replace it by a CenterCrop or Resizing"
        )


def take_weights(channels: Channels, student: keras.Model, kept: Kept) -> None:
    """Gives a student the teacher's weights of the channels that stay.

    Args:
        channels: The channels of the teacher.
        student: The teacher's network with the widths of `kept`.
        kept: The channels that stay.
    """
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


def scale_sets(rate: float, round_to: int = 1) -> Callable[[int, int], int]:
    """A function of `num_sets` and `size`: the number to keep, see `Channels.keep`.

    Args:
        rate: Width rate, in (0, 1].
        round_to: Below rate 1, widths are multiples of this number, where possible;
            ≥ 1. Default: 1.
    """
    return lambda num_sets, size: scaled_width(
        num_sets, rate, round_to // math.gcd(round_to, size)
    )


def narrowed(config: dict[str, Any], use: Use, kept: Kept) -> dict[str, Any]:
    """New values for the settings of a layer that depend on widths.

    Args:
        config: The layer's settings.
        use: The layer's first use.
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
                # Keras infers this size
                shape[axis] = -1 if shape[axis] == -1 else size
            settings[name] = tuple(shape)
    return settings


def _check_widths(
    uses: list[Use], student: keras.Model, kept: Kept, rate: float
) -> None:
    """Checks that the widths of a student are the planned ones.

    Raises:
        InputError: If a layer's inputs or output have another width.
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
    """Filters or units of the layers that have them, in the order of the graph.

    For LeNet they are `[20, 50, 500, 10]`. A shared layer is listed once.
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
    # Finer steps give more candidates than anyone searches, and could fill the memory
    if not 1e-4 <= rate_step <= 1.0:
        raise InputError(f"Expected rate_step from 0.0001 to 1. Received: {rate_step}")
    count = math.ceil(1.0 / rate_step - 1e-9)
    return [round(rate_step * (i + 1), 10) for i in range(count - 1)] + [1.0]


def distinct_rates(model: keras.Model, rates: Sequence[float]) -> list[float]:
    """The rates at which `scale_width` gives distinct widths; no network is built.

    A search chooses from them. Of rates that give equal widths, the largest is kept.

    Args:
        model: The teacher.
        rates: Ascending, each in (0, 1].

    Returns:
        Rates in ascending order, from the cheapest network to the most expensive.

    Raises:
        InputError: If the channels cannot be followed through a layer.
    """
    check_model(model, "the teacher")
    channels = Channels(model)
    outputs = range(model.outputs[0].shape[-1])
    distinct: dict[tuple[int, ...], float] = {}
    for rate in rates:
        kept = channels.keep(scale_sets(rate), outputs)
        everything = [*channels.made.values(), *channels.inner.values()]
        widths = [kept.count(made) for made in everything]
        distinct[tuple(widths)] = rate
    return list(distinct.values())
