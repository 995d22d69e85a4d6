"""The rules that make a teacher's network compact; each maps a model to a model.

They change the structure and keep the widths. The resulting models have new weights.
"""

import math
from collections import defaultdict
from typing import Any, NamedTuple

import keras
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.cheap_convolutions import replace_convolutions
from tskd_tf.networks.graph import (
    LayerCall,
    Shape,
    follow,
    head_layer,
    is_adapted_normalization,
    is_per_channel,
    layer_calls,
    layer_width,
)
from tskd_tf.networks.rebuild import rebuild

_POOLING = (layers.MaxPooling2D, layers.AveragePooling2D)
_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
# Layers that may stand between a convolution and its activation
_PASSING = {
    "AveragePooling2D",
    "Concatenate",
    "Cropping2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Identity",
    "MaxPooling2D",
    "Permute",
    "Reshape",
    "SpatialDropout2D",
    "UpSampling2D",
    "ZeroPadding2D",
}
_NOT_NORMALIZING = ("LayerScale", "Normalization", "PReLU")
# In short trainings, moving statistics must adapt within few steps
_MOMENTUM = 0.9

# Where a tensor of the graph is: before the stem, between the stem and the first stride
# behind it, behind that stride, or nowhere, for a tensor without height and width
_IMAGE, _FULL, _BEHIND, _NOWHERE = "image", "full", "behind", "nowhere"


class FirstStride(NamedTuple):
    """The first halving of a network's feature maps.

    Attributes:
        stems: The convolutions of the images, all with stride 1.
        strided: The layers behind them that reduce the size of feature maps.
        strides: Strides of these layers, down and across, in positions.
    """

    stems: list[Any]
    strided: list[Any]
    strides: tuple[int, int]


def stems(model: keras.Model) -> list[Any]:
    """The first layers with kernels: only preprocessing stands before them."""
    found: dict[int, Any] = {}

    def step(call: LayerCall, values: list[bool]) -> list[bool]:
        is_mixing = _mixes(call.layer)
        if all(values) and is_mixing:
            found[id(call.layer)] = call.layer
        return [all(values) and not is_mixing] * max(1, call.num_outputs)

    follow(model, [True], step)
    return list(found.values())


def first_stride(model: keras.Model) -> FirstStride | None:
    """The first stride behind the stem, if it can be moved to the stem.

    Args:
        model: A built Functional or Sequential classifier of images.

    Returns:
        None if the stem has a stride already, if no layer has one, or if the strides
        cannot be moved. They cannot if they differ, are larger than the stem's kernel,
        belong to a layer that is used elsewhere, or if paths with and without one meet.
    """
    roles: dict[int, set[str]] = defaultdict(set)
    found: dict[int, Any] = {}
    fits = True

    def step(call: LayerCall, values: list[str]) -> list[str]:
        nonlocal fits
        layer = call.layer
        places = set(values) - {_NOWHERE}
        strides = _strides(layer)
        role, output = "other", places.pop() if len(places) == 1 else _NOWHERE
        if places:
            # Paths of several sizes meet; with a moved stride they would not fit
            fits = fits and _FULL not in places
            output = _BEHIND
        elif output == _IMAGE and _mixes(layer):
            fits = fits and type(layer) is layers.Conv2D and strides == (1, 1)
            role, output = "stem", _FULL
        elif output == _FULL and strides != (1, 1):
            fits = fits and isinstance(layer, _POOLING + _CONVOLUTIONS)
            role, output = "strided", _BEHIND
        found[id(layer)] = layer
        roles[id(layer)].add(role)
        if not _has_places(call.output_shape):
            output = _NOWHERE
        return [output] * max(1, call.num_outputs)

    follow(model, [_IMAGE], step)

    def of_role(role: str) -> list[Any]:
        return [found[key] for key, its in roles.items() if role in its]

    stems_, strided = of_role("stem"), of_role("strided")
    if not fits or not strided or any(len(its) > 1 for its in roles.values()):
        return None
    strides = _strides(strided[0])
    if any(_strides(layer) != strides for layer in strided):
        return None
    for stem in stems_:
        if any(size < step for size, step in zip(stem.kernel_size, strides)):
            return None
    return FirstStride(stems_, strided, strides)


def with_strided_stem(model: keras.Model) -> keras.Model:
    """Moves the first stride of a model to its stem; a pooling with it is removed.

    The stem is the convolution of the images. Feature maps between the stem and the
    first stride become smaller. Behind it, sizes change by at most a pixel or two.

    Args:
        model: A built Functional or Sequential classifier of images.

    Returns:
        A new model; the model itself if `first_stride` finds nothing to move, or if
        later layers do not accept the smaller maps.

    Raises:
        InputError: If a layer cannot be rebuilt from its settings.
    """
    moved = first_stride(model)
    if moved is None:
        return model
    is_stem = {id(layer) for layer in moved.stems}
    is_strided = {id(layer) for layer in moved.strided}

    def edit(layer: Any) -> Any:
        if id(layer) in is_stem:
            return _like(layer, strides=moved.strides)
        if id(layer) in is_strided and isinstance(layer, _POOLING):
            return layers.Identity(name=layer.name)
        if id(layer) in is_strided:
            return _like(layer, strides=(1, 1))
        return _like(layer)

    try:
        return rebuild(model, edit)
    except InputError:
        raise
    except (ValueError, TypeError):
        # Without padding, maps may become smaller than a kernel, or not fit in a sum
        return model


def with_normalization(model: keras.Model) -> keras.Model:
    """Adds batch normalisation and ReLU to a model without normalisation.

    They follow each convolution and dense layer except the head. The layer's own
    activation follows the normalisation. ReLU is added only if neither the layer nor
    its followers have an activation, and not at the end of a branch that is added or
    multiplied.

    Args:
        model: A built Functional or Sequential classifier of images.

    Returns:
        A new model; the model itself if one of its layers normalises.

    Raises:
        InputError: If a layer cannot be rebuilt from its settings, or there is no
            head.
    """
    if any(_normalizes(call.layer) for call in layer_calls(model)):
        return model
    head, decided = head_layer(model), _decided_by_what_follows(model)

    def edit(layer: Any) -> Any:
        if layer is head or not _has_width(layer) or not hasattr(layer, "use_bias"):
            return _like(layer)
        names = {"name": f"{layer.name}_norm", "dtype": layer.dtype_policy}
        stack = [
            _like(layer, activation="linear", use_bias=False),
            layers.BatchNormalization(momentum=_MOMENTUM, **names),
        ]
        activation = layer.activation.__name__
        if activation != "linear":
            names["name"] = f"{layer.name}_{activation}"
            stack.append(layers.Activation(layer.activation, **names))
        elif id(layer) not in decided:
            names["name"] = f"{layer.name}_relu"
            stack.append(layers.ReLU(**names))
        return stack

    return rebuild(model, edit)


def with_separable_convolutions(model: keras.Model) -> keras.Model:
    """Replaces convolutions behind the stem by depthwise and 1x1 convolutions.

    Each convolution larger than 1x1 and without groups is replaced.

    Args:
        model: A built Functional or Sequential classifier of images.

    Returns:
        A new model; the model itself if there is nothing to replace.

    Raises:
        InputError: If a convolution has different strides down and across.
    """
    of_images = {id(layer) for layer in stems(model)}
    for call in layer_calls(model):
        layer = call.layer
        if type(layer) is not layers.Conv2D or id(layer) in of_images:
            continue
        if layer.groups == 1 and math.prod(layer.kernel_size) > 1:
            return replace_convolutions(model, "depthwise")
    return model


def _like(layer: Any, **changes: Any) -> Any:
    """A copy of a layer with other settings; adapted statistics are kept."""
    config = {**layer.get_config(), **changes}
    if is_adapted_normalization(layer):
        config["mean"], config["variance"], *_ = layer.get_weights()
    return type(layer).from_config(config)


def _has_width(layer: Any) -> bool:
    is_layer = isinstance(layer, layers.Layer)
    return is_layer and layer_width(layer.get_config()) is not None


def _mixes(layer: Any) -> bool:
    return _has_width(layer) or isinstance(layer, layers.DepthwiseConv2D)


def _normalizes(layer: Any) -> bool:
    return is_per_channel(layer) and type(layer).__name__ not in _NOT_NORMALIZING


def _strides(layer: Any) -> tuple[int, int]:
    strides = getattr(layer, "strides", None) or (1, 1)
    down, across = (strides, strides) if isinstance(strides, int) else strides
    return down, across


def _has_places(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1:3] != (1, 1)


def _decided_by_what_follows(model: keras.Model) -> set[int]:
    """The `id`s of layers that an activation, a sum or a similar layer follows."""
    decided: set[int] = set()

    def step(call: LayerCall, values: list[frozenset[int]]) -> list[frozenset[int]]:
        layer = call.layer
        before: frozenset[int] = frozenset().union(*values)
        output = before
        if _mixes(layer):
            output = frozenset([id(layer)])
        elif type(layer).__name__ not in _PASSING and not _is_linear(layer):
            decided.update(before)
            output = frozenset()
        return [output] * max(1, call.num_outputs)

    follow(model, [frozenset()], step)
    return decided


def _is_linear(layer: Any) -> bool:
    is_activation = isinstance(layer, layers.Activation)
    return is_activation and layer.activation.__name__ == "linear"
