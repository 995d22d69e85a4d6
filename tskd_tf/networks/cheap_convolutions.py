"""Replaces the convolutions of a network by cheaper operations.

A k×k convolution filters in space and combines channels in one step. Each replacement
takes two steps: a spatial operation, then a 1x1 convolution. Shift, depthwise and
grouped follow Xie et al. 2019 (arXiv 1909.13063); dominant is `DominantConv2D`. As in
their blocks, nothing stands between the two operations.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from tskd_tf.choices import CONVOLUTIONS, PLAIN
from tskd_tf.errors import InputError
from tskd_tf.networks.graph import (
    LayerCall,
    check_graph,
    follow,
    is_adapted_normalization,
    layer_width,
)
from tskd_tf.networks.layers.convolution import (
    Convolution,
    Options,
    check_groups,
    convolution_named,
)
from tskd_tf.networks.rebuild import rebuild, same_layer

_Replaced = list[tuple[keras.layers.Conv2D, Sequence[keras.layers.Layer]]]


def replace_convolutions(
    model: keras.Model,
    kind: str,
    *,
    groups: int | None = None,
    rank: int | None = None,
    multiplier: int = 1,
    replace_first: bool = False,
    from_kernels: bool = True,
) -> keras.Model:
    """A copy of a model with cheap convolutions in place of its plain ones.

    Each `Conv2D` larger than 1x1 and without groups is replaced, with its bias and
    activation, for any stride and padding. Shapes and the weights of all other layers
    stay. New layers are named after the old one (`conv2_shift`, `conv2_pointwise`).
    The spatial operation depends on the kind:

    - `"shift"`: a `ShiftConv2D`, which moves channels by one pixel for any kernel size.
      The 1x1 convolution takes the stride. Without padding, a `Cropping2D` removes the
      border.
    - `"grouped"`: a convolution to the same number of channels in `groups` groups. If
      the channels are not divisible by `groups`, the next larger divisor is used, at
      most one group per channel. So the cost never exceeds the requested one.
    - `"depthwise"`: a `DepthwiseConv2D`.
    - `"dominant"`: a `DominantConv2D`, which includes the 1x1 convolution.

    Args:
        model: A built Functional or Sequential model.
        kind: One of `choices.CONVOLUTIONS`, except plain.
        groups: Number of groups of `"grouped"`, ≥ 1. Default: 4.
        rank: Number of full kernels of `"dominant"` in reading A, ≥ 1. Default: reading
            B. Both are limited to the number that reproduces the plain kernel.
        multiplier: Kernels per channel of `"dominant"` in reading B, ≥ 1. Default: 1.
        replace_first: Whether to replace also convolutions with only preprocessing
            before them. They have few channels, so that little is gained.
        from_kernels: Whether new layers approximate the old kernel and keep its bias,
            where their kind can: dominant convolutions do. Other new layers start at
            random.

    Returns:
        A new, uncompiled model.

    Raises:
        InputError: If the model is not a built Functional or Sequential one, if an
            argument is out of range or does not belong to the kind, or if there is
            nothing to replace.

    Example:

    >>> student = replace_convolutions(scale_width(teacher, 0.5), "shift")
    """
    check_graph(model, "the model")
    options = Options(groups, rank, multiplier)
    convolution = _checked(kind, options)
    replace = convolution.replace
    assert replace is not None
    of_images = set() if replace_first else _of_images(model)
    copies: list[tuple[Any, Any]] = []
    replaced: _Replaced = []

    def edit(layer: Any) -> Any:
        if id(layer) in of_images or not _is_replaceable(layer):
            copies.append((layer, same_layer(layer)))
            return copies[-1][1]
        replaced.append((layer, replace(layer, options)))
        return list(replaced[-1][1])

    changed = rebuild(model, edit)
    if not replaced:
        raise InputError(
            "Expected a model with convolutions larger than 1x1, behind the first. "
            f"Received: {model.name!r}, which has none"
        )
    _copy_weights(copies)
    if convolution.start_from is not None and from_kernels:
        for layer, new in replaced:
            convolution.start_from(new, layer.get_weights())
    return changed


def _copy_weights(copies: list[tuple[Any, Any]]) -> None:
    for layer, copy in copies:
        if getattr(layer, "weights", ()):
            copy.set_weights(layer.get_weights())
        if is_adapted_normalization(layer):
            copy.finalize_state()


def _checked(kind: str, options: Options) -> Convolution:
    """The record of a kind, after a check that the arguments fit it."""
    if kind not in CONVOLUTIONS or kind == PLAIN:
        kinds = [name for name in CONVOLUTIONS if name != PLAIN]
        raise InputError(
            f"Expected a kind out of {', '.join(kinds)}. Received: {kind!r}"
        )
    check_groups(kind, options.groups)
    convolution = convolution_named(kind)
    rank, multiplier = options.rank, options.multiplier
    if (rank, multiplier) != (None, 1) and not convolution.has_rank:
        raise InputError(
            "Expected rank and multiplier with dominant convolutions only. Received: "
            f"rank={rank}, multiplier={multiplier} with {kind!r}"
        )
    if multiplier < 1 or (rank is not None and (rank < 1 or multiplier != 1)):
        raise InputError(
            "Expected either rank or multiplier, of at least 1. Received: "
            f"rank={rank}, multiplier={multiplier}"
        )
    return convolution


def _of_images(model: keras.Model) -> set[int]:
    """The `id`s of layers whose inputs are images, raw or preprocessed."""
    found: set[int] = set()

    def step(call: LayerCall, values: list[bool]) -> list[bool]:
        is_of_images = all(values)
        if is_of_images:
            found.add(id(call.layer))
        config = call.layer.get_config() if isinstance(call.layer, keras.Layer) else {}
        mixes = layer_width(config) is not None or "depth_multiplier" in config
        return [is_of_images and not mixes] * max(1, call.num_outputs)

    follow(model, [True] * len(model.inputs), step)
    return found


def _is_replaceable(layer: Any) -> bool:
    """Whether a layer is exactly a `Conv2D`: a subclass may do something else."""
    if type(layer) is not layers.Conv2D:
        return False
    if layer.data_format != "channels_last":
        raise InputError(
            f"Expected layers with their channels last. Received: {layer.name!r} with "
            f"data_format={layer.data_format!r}"
        )
    return layer.groups == 1 and math.prod(layer.kernel_size) > 1
