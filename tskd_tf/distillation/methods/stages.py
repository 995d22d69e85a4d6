"""The feature maps of a network at the ends of its stages.

A stage is what is between two poolings, strided convolutions included. What is read
are shapes alone, so that a network and its thinner copy have the same stages.
"""

import functools
import math
from typing import Any, NamedTuple

import keras

from tskd_tf.errors import InputError
from tskd_tf.networks.graph import is_graph


class _Value(NamedTuple):
    """What a use of a layer gave."""

    tensor: keras.KerasTensor
    has_kernel: bool


def with_stages(model: keras.Model, name: str) -> keras.Model:
    """A network that also gives its feature maps.

    A stage ends at the last map before the height or the width falls to half (rounded
    up) or less, and at the last map of all. Maps of one place, such as the gates of
    squeeze-and-excitation, and stages without a convolution of their own do not count:
    LeNet ends its stages at `conv1` and `conv2`, `cifar10_full` at `conv1`, `relu2` and
    `relu3`. A convolution without padding that halves a map counts as a pooling.

    Args:
        model: A Functional or Sequential classifier; its nested models are entered.
        name: What the caller calls it, for the message.

    Returns:
        A model of the same layers and weights that gives a list: the logits, then a
        map `(batch, height, width, channels)` for each stage, from the image on. Of
        some of its outputs alone, `keras.Model(m.inputs[0], m.outputs[i])`, only what
        they need is run.

    Raises:
        InputError: If there is no map of known size with a convolution before it.
    """
    values: list[_Value] = []
    (image,) = (keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in model.inputs)
    logits = _call(model, image, values)
    maps = [value for value in values if _size(value.tensor)]
    ends = _ends_of_stages(maps)
    if not ends:
        raise InputError(
            f"Expected {name} to have feature maps (batch, height, width, channels) of "
            f"known size, made by convolutions. Received: {model.name!r}, which has "
            "none; choose another method, or a network with them"
        )
    return keras.Model(image, [logits, *ends], name=f"{model.name}_with_stages")


def _call(model: keras.Model, value: Any, values: list[_Value]) -> Any:
    """Calls a model's own layers one by one, and notes what each of them gives."""
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            value = _enter(values, layer, value)
        return value
    called = keras.models.clone_model(
        model,
        input_tensors=keras.tree.pack_sequence_as(model.input, [value]),
        clone_function=lambda layer: layer,
        call_function=functools.partial(_enter, values),
    )
    return called.outputs[0]


def _enter(values: list[_Value], layer: Any, *args: Any, **kwargs: Any) -> Any:
    if is_graph(layer) and len(layer.inputs) == len(layer.outputs) == 1:
        return _call(layer, args[0], values)
    result = layer(*args, **kwargs)
    weights = getattr(layer, "weights", ())
    has_kernel = any("kernel" in weight.name for weight in weights)
    given = [_size(value) for value in keras.tree.flatten((args, kwargs))]
    for tensor in keras.tree.flatten(result):
        # Larger than before without a kernel is the same map with a border
        if has_kernel or _size(tensor) <= max(given):
            values.append(_Value(tensor, has_kernel))
    return result


def _size(value: Any) -> int:
    """Places of a map; 0 for what is none, such as a single place or a number."""
    shape = value.shape if keras.utils.is_keras_tensor(value) else ()
    is_map = len(shape) == 4 and None not in shape[1:] and shape[1:3] != (1, 1)
    return math.prod(shape[1:3]) if is_map else 0


def _ends_of_stages(maps: list[_Value]) -> list[keras.KerasTensor]:
    ends, has_kernel = [], False
    for index, value in enumerate(maps):
        has_kernel = has_kernel or value.has_kernel
        sides = value.tensor.shape[1:3]
        later = [other.tensor.shape[1:3] for other in maps[index + 1 :]]
        # What a map is followed by need not be smaller: a gate, for one, is not the end
        following = max(later, key=math.prod, default=(0, 0))
        is_halved = any(
            small < large and 2 * small <= large + 1
            for small, large in zip(following, sides)
        )
        if has_kernel and is_halved and math.prod(following) < math.prod(sides):
            ends.append(value.tensor)
            has_kernel = False
    return ends
