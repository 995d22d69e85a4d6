"""Cheaper operations that replace a network's convolutions.

A k×k convolution looks around and combines channels at once; each of these does the two
one after the other, the second by a 1x1 convolution. Shift, depthwise and grouped are
those of Xie et al. 2019 (arXiv 1909.13063), dominant is `DominantConv2D`. Nothing is
between the two operations, as in their blocks.
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
    """A copy of a model in which cheap convolutions replace plain ones.

    Replaced is each `Conv2D` larger than 1x1 and without groups, of any stride and
    padding, with its bias and activation. Shapes stay, and so do the weights of all
    other layers. New layers are named after the old one (`conv2_shift`,
    `conv2_pointwise`). A 1x1 convolution follows:

    - `"shift"`: `ShiftConv2D`, whose rule is of 3x3 pixels whatever the size of the
      kernel: one of 5x5 is replaced by moves of one pixel. The stride is that of the
      1x1 convolution; without padding, the border goes by a `Cropping2D`.
    - `"grouped"`: a convolution of as many channels in `groups` groups. Where these do
      not divide the channels, the next larger number that does is taken, at most one a
      channel: so it is never dearer than was asked.
    - `"depthwise"`: a `DepthwiseConv2D`.
    - `"dominant"`: one `DominantConv2D` is both.

    Args:
        model: A built Functional or Sequential model.
        kind: One of `choices.CONVOLUTIONS`, but plain.
        groups: Of `"grouped"`, ≥ 1; 4 by default.
        rank: Of `"dominant"`: reading A with that many full kernels; by default
            reading B. Neither has more kernels than reproduce the plain one.
        multiplier: Of `"dominant"`, reading B: kernels a channel, ≥ 1.
        replace_first: Whether convolutions of the images themselves, with only
            preprocessing before them, are also replaced. They have few channels, so
            that little is gained.
        from_kernels: Whether new layers start from the old kernel, as near as can be,
            and with its bias, where their kind can: a dominant convolution does. All
            else that is new starts at random.

    Returns:
        A new, uncompiled model.

    Raises:
        InputError: If the model is of another kind, an argument is out of range or
            does not belong to the kind, or there is nothing to replace.

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
    """The kind's record, once the arguments fit it."""
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
    """Layers, by `id`, whose inputs are the images or made of them by preprocessing."""
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
    """A subclass may do something else."""
    if type(layer) is not layers.Conv2D:
        return False
    if layer.data_format != "channels_last":
        raise InputError(
            f"Expected layers with their channels last. Received: {layer.name!r} with "
            f"data_format={layer.data_format!r}"
        )
    return layer.groups == 1 and math.prod(layer.kernel_size) > 1
