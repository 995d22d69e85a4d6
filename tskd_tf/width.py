"""The width rule: thinner copies of a network, every layer but the head at one rate."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from tskd_tf.errors import InputError
from tskd_tf.graph import (
    check_model,
    head_layer,
    is_adapted_normalization,
    is_random_view,
    layer_calls,
    layer_width,
    rebuild,
    same_layer,
)
from tskd_tf.task import Task

_MERGES = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)


def scaled_width(width: int, rate: float) -> int:
    """`rate * width`, rounded half up, at least 1.

    The small constant undoes binary rounding: 0.7 · 25 is 17.499999999999996.
    """
    return max(1, math.floor(rate * width + 0.5 + 1e-9))


def check_rate(rate: float) -> None:
    """Checks a width rate.

    Raises:
        InputError: If it is not in (0, 1].
    """
    if not 0.0 < rate <= 1.0:
        raise InputError(f"Expected a rate above 0 and up to 1. Received: {rate}")


def scale_width(
    model: keras.Model,
    rate: float,
    task: Task | None = None,
    dtype_policy: str | None = None,
) -> keras.Model:
    """A student: the model with every layer but the head thinner (Shi et al. 2017, 4).

    LeNet 20-50-500-10 at rate 0.5 is 10-25-250-10. Filters and units are scaled,
    whatever follows adapts. Layers of equal width in the teacher keep equal widths,
    so that residual additions still fit. Layers that show random views in training
    (`RandomFlip`, …) are left out: see `Augmentation`.

    Args:
        model: A built Functional or Sequential classifier that gives logits.
        rate: Width scale in (0, 1].
        task: Its head decides the number of outputs; by default the teacher's.
        dtype_policy: Precision of the student, e.g. `"mixed_bfloat16"`; its head
            computes in float32. By default each layer keeps its own.

    Returns:
        A new, uncompiled model with random weights, which takes the same images.

    Raises:
        InputError: If the rate is out of range, the model does not fit the task, or
            the graph cannot be built with these widths.

    Example:

    >>> student = scale_width(teacher, rate=0.25, task=task)
    """
    check_rate(rate)
    check_model(model, "the teacher")
    head = head_layer(model)
    num_outputs = model.outputs[0].shape[-1]
    if task is not None and task.num_classes != num_outputs:
        raise InputError(
            f"Expected a teacher with an output for each of the {task.num_classes} "
            f"classes of the data. Received: {model.name!r} with {num_outputs} outputs"
        )

    def edit(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):
            return same_layer(layer)
        if is_random_view(layer):
            # The teacher's view would be another
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        width = layer_width(config)
        if width is not None:
            key = "filters" if "filters" in config else "units"
            if layer is not head:
                config[key] = scaled_width(width, rate)
            elif task is not None:
                config[key] = task.num_outputs
        if is_adapted_normalization(layer):
            # What it learnt from the data is part of the preprocessing, not of the
            # network that is trained anew
            config["mean"], config["variance"], *_ = layer.get_weights()
        if dtype_policy is not None:
            config["dtype"] = "float32" if layer is head else dtype_policy
        return type(layer).from_config(config)

    try:
        student = rebuild(model, edit)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"Could not build {model.name!r} at rate {rate}: a layer does not accept "
            f"the scaled widths. Keras says: {reason[:300]}"
        ) from error
    _check_merges(model, student, rate)
    # A frozen layer of the teacher would keep random weights here
    _unfreeze(student)
    return student


def _unfreeze(model: keras.Model) -> None:
    model.trainable = True
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _unfreeze(layer)
        else:
            layer.trainable = True


def _check_merges(model: keras.Model, student: keras.Model, rate: float) -> None:
    """Refuses a student in which equal branches came to differ and are broadcast.

    Raises:
        InputError: If one is found.
    """
    for call, scaled in zip(layer_calls(model), layer_calls(student)):
        widths = {shape[-1] for shape in call.input_shapes}
        scaled_to = {shape[-1] for shape in scaled.input_shapes}
        is_merge = isinstance(call.layer, _MERGES) and len(call.input_shapes) > 1
        if is_merge and len(widths) == 1 and len(scaled_to) > 1:
            raise InputError(
                f"Could not build {model.name!r} at rate {rate}: the inputs of "
                f"{call.layer.name!r}, all {widths.pop()} wide, came to be "
                f"{' and '.join(map(str, scaled_to))} wide"
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


def scaled_widths(widths: Sequence[int], rate: float, num_outputs: int) -> list[int]:
    """Widths at a rate of a network whose widths are given; the head is the last."""
    return [scaled_width(width, rate) for width in widths[:-1]] + [num_outputs]


def candidate_rates(model: keras.Model, rate_step: float) -> list[float]:
    """Rates `rate_step`, 2·`rate_step`, … 1.0 that give distinct width vectors.

    They are what a search may choose from, ordered from the cheapest network to the
    dearest. Of rates that give the same widths, the largest stands for them.

    Args:
        model: The teacher.
        rate_step: Distance of the rates, in (0, 1].

    Raises:
        InputError: If `rate_step` is out of range.
    """
    if not 0.0 < rate_step <= 1.0:
        raise InputError(
            f"Expected rate_step above 0 and up to 1. Received: {rate_step}"
        )
    widths = layer_widths(model)
    count = math.ceil(1.0 / rate_step - 1e-9)
    rates = [round(rate_step * (i + 1), 10) for i in range(count - 1)] + [1.0]
    distinct: dict[tuple[int, ...], float] = {}
    for rate in rates:
        distinct[tuple(scaled_widths(widths, rate, widths[-1]))] = rate
    return list(distinct.values())
