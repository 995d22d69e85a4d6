"""The feature maps of a network at the ends of its stages.

A stage lies between two poolings or strided convolutions. Stages are found by shapes
alone, so a network and its thinner copy have the same stages.
"""

import functools
import math
from typing import Any, NamedTuple

import keras

from tskd_tf.errors import InputError
from tskd_tf.networks.graph import is_graph


class _Value(NamedTuple):
    """An output of a layer."""

    tensor: keras.KerasTensor
    has_kernel: bool


def with_stages(model: keras.Model, name: str) -> keras.Model:
    """Extends the outputs of a network by its feature maps.

    A stage ends at the last map before the height or the width falls to half (rounded
    up) or less. The last stage ends at the last map. Maps of size 1x1, such as the
    gates of squeeze-and-excitation, and stages without a convolution do not count.
    LeNet's stages end at `conv1` and `conv2`, those of `cifar10_full` at `conv1`,
    `relu2` and `relu3`. A convolution without padding that halves a map counts as a
    pooling.

    Args:
        model: A Functional or Sequential classifier; its nested models are read, too.
        name: Name of the network in the error message.

    Returns:
        A model of the same layers and weights. Its outputs are a list: the logits, then
        a map `(batch, height, width, channels)` per stage, from the image on. A model
        of some outputs, `keras.Model(m.inputs[0], m.outputs[i])`, runs only the layers
        that these outputs need.

    Raises:
        InputError: If there is no map of known size behind a convolution.
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
    """Calls the layers of a model one by one, and adds their outputs to `values`."""
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
        # A larger map from a layer without a kernel is the same map with padding
        if has_kernel or _size(tensor) <= max(given):
            values.append(_Value(tensor, has_kernel))
    return result


def _size(value: Any) -> int:
    """Height times width of a map; 0 for a 1x1 map and for anything else."""
    shape = value.shape if keras.utils.is_keras_tensor(value) else ()
    is_map = len(shape) == 4 and None not in shape[1:] and shape[1:3] != (1, 1)
    return math.prod(shape[1:3]) if is_map else 0


def _ends_of_stages(maps: list[_Value]) -> list[keras.KerasTensor]:
    ends, has_kernel = [], False
    for index, value in enumerate(maps):
        has_kernel = has_kernel or value.has_kernel
        sides = value.tensor.shape[1:3]
        later = [other.tensor.shape[1:3] for other in maps[index + 1 :]]
        # The largest later map, as a small one may follow at once: a gate ends no stage
        following = max(later, key=math.prod, default=(0, 0))
        is_halved = any(
            small < large and 2 * small <= large + 1
            for small, large in zip(following, sides)
        )
        if has_kernel and is_halved and math.prod(following) < math.prod(sides):
            ends.append(value.tensor)
            has_kernel = False
    return ends
