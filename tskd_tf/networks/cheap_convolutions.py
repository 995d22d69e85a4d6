"""Cheaper operations in the place of a network's convolutions.

A k×k convolution looks around and combines channels at once; each of these does the two
one after the other, the second by a 1x1 convolution. Shift, depthwise and grouped are
those of Xie et al. 2019 (arXiv 1909.13063), dominant is `DominantConv2D`. Nothing is
between the two operations, as in their blocks.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.graph import (
    LayerCall,
    check_graph,
    follow,
    is_adapted_normalization,
    layer_width,
)
from tskd_tf.networks.layers.dominant import DominantConv2D
from tskd_tf.networks.layers.grouped import GroupedConv2D
from tskd_tf.networks.layers.shift import ShiftConv2D
from tskd_tf.networks.rebuild import rebuild, same_layer

KINDS = ("dominant", "shift", "grouped", "depthwise")
DEFAULT_GROUPS = 4
_Replace = Callable[[keras.layers.Conv2D], list[keras.layers.Layer]]


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
    """A copy of a model with cheap convolutions in the place of its plain ones.

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
        kind: One of `KINDS`.
        groups: Of `"grouped"`, ≥ 1; 4 by default.
        rank: Of `"dominant"`: reading A with that many full kernels; by default
            reading B. Neither has more kernels than reproduce the plain one.
        multiplier: Of `"dominant"`, reading B: kernels a channel, ≥ 1.
        replace_first: Whether convolutions of the images themselves, with only
            preprocessing before them, are replaced, too. They have few channels, so
            that little is gained.
        from_kernels: Whether a dominant convolution starts from the old kernel, as near
            as it can be, and with its bias. All else that is new starts at random.

    Returns:
        A new, uncompiled model.

    Raises:
        InputError: If the model is of another kind, an argument is out of range or
            does not belong to the kind, or there is nothing to replace.

    Example:

    >>> student = replace_convolutions(scale_width(teacher, 0.5), "shift")
    """
    check_graph(model, "the model")
    _check_arguments(kind, groups, rank, multiplier)
    of_images = set() if replace_first else _of_images(model)
    replacements: dict[str, _Replace] = {
        "dominant": lambda layer: [_dominant(layer, rank, multiplier)],
        "shift": _shift,
        "grouped": lambda layer: _grouped(layer, groups or DEFAULT_GROUPS),
        "depthwise": _depthwise,
    }
    copies: list[tuple[Any, Any]] = []
    replaced: list[tuple[keras.layers.Conv2D, list[keras.layers.Layer]]] = []

    def edit(layer: Any) -> Any:
        if id(layer) in of_images or not _is_replaceable(layer):
            copies.append((layer, same_layer(layer)))
            return copies[-1][1]
        replaced.append((layer, replacements[kind](layer)))
        return replaced[-1][1]

    changed = rebuild(model, edit)
    if not replaced:
        raise InputError(
            "Expected a model with convolutions larger than 1x1, behind the first. "
            f"Received: {model.name!r}, which has none"
        )
    for layer, copy in copies:
        if getattr(layer, "weights", ()):
            copy.set_weights(layer.get_weights())
        if is_adapted_normalization(layer):
            copy.finalize_state()
    for layer, (first, *_) in replaced:
        if isinstance(first, DominantConv2D) and from_kernels:
            first.start_from(*layer.get_weights())
    return changed


def _check_arguments(
    kind: str, groups: int | None, rank: int | None, multiplier: int
) -> None:
    if kind not in KINDS:
        raise InputError(
            f"Expected a kind out of {', '.join(KINDS)}. Received: {kind!r}"
        )
    if groups is not None and (kind != "grouped" or groups < 1):
        raise InputError(
            "Expected groups of at least 1, with grouped convolutions only. Received: "
            f"groups={groups} with {kind!r}"
        )
    if (rank, multiplier) != (None, 1) and kind != "dominant":
        raise InputError(
            "Expected rank and multiplier with dominant convolutions only. Received: "
            f"rank={rank}, multiplier={multiplier} with {kind!r}"
        )
    if multiplier < 1 or (rank is not None and (rank < 1 or multiplier != 1)):
        raise InputError(
            "Expected either rank or multiplier, of at least 1. Received: "
            f"rank={rank}, multiplier={multiplier}"
        )


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


def _shift(layer: keras.layers.Conv2D) -> list[keras.layers.Layer]:
    borders = [
        (size - 1) * dilation
        for size, dilation in zip(layer.kernel_size, layer.dilation_rate)
    ]
    stack = [ShiftConv2D(name=f"{layer.name}_shift", dtype=layer.dtype_policy)]
    if layer.padding == "valid":
        cropping = [(border // 2, border - border // 2) for border in borders]
        stack.append(layers.Cropping2D(cropping, name=f"{layer.name}_crop"))
    return [*stack, _pointwise(layer, layer.strides)]


def _grouped(layer: keras.layers.Conv2D, groups: int) -> list[keras.layers.Layer]:
    num_channels = layer.kernel.shape[2]
    fitting = next(
        (n for n in range(groups, num_channels) if num_channels % n == 0), num_channels
    )
    settings = {"name": f"{layer.name}_grouped", "groups": fitting}
    settings.update(filters=num_channels, activation="linear", use_bias=False)
    settings["kernel_initializer"] = _initializer(layer)
    return [
        GroupedConv2D.from_config({**layer.get_config(), **settings}),
        _pointwise(layer),
    ]


def _depthwise(layer: keras.layers.Conv2D) -> list[keras.layers.Layer]:
    _check_strides(layer)
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        # Keras's own takes the kernel for one over all channels
        depthwise_initializer=keras.initializers.RandomNormal(
            stddev=1 / math.sqrt(math.prod(layer.kernel_size))
        ),
        depthwise_regularizer=layer.kernel_regularizer,
        depthwise_constraint=layer.kernel_constraint,
        name=f"{layer.name}_depthwise",
        dtype=layer.dtype_policy,
    )
    return [depthwise, _pointwise(layer)]


def _dominant(
    layer: keras.layers.Conv2D, rank: int | None, multiplier: int
) -> DominantConv2D:
    size, channels = math.prod(layer.kernel_size), layer.kernel.shape[2]
    is_depthwise = rank is None
    if is_depthwise:
        _check_strides(layer)
    return DominantConv2D(
        layer.filters,
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.dilation_rate,
        layer.activation,
        layer.use_bias,
        reading="B" if is_depthwise else "A",
        rank=None if rank is None else min(rank, size * channels, layer.filters),
        multiplier=min(multiplier, size, layer.filters),
        kernel_initializer=None if is_depthwise else _initializer(layer),
        pointwise_initializer=_initializer(layer),
        bias_initializer=layer.bias_initializer,
        kernel_regularizer=layer.kernel_regularizer,
        name=f"{layer.name}_dominant",
        dtype=layer.dtype_policy,
    )


def _pointwise(layer: keras.layers.Conv2D, strides: Any = 1) -> keras.layers.Layer:
    """The 1x1 convolution that ends with what the old one ended with."""
    settings = {"name": f"{layer.name}_pointwise", "kernel_size": 1}
    settings.update(strides=strides, padding="valid", dilation_rate=1)
    settings["kernel_initializer"] = _initializer(layer)
    return layers.Conv2D.from_config({**layer.get_config(), **settings})


def _initializer(layer: keras.layers.Conv2D) -> Any:
    """That of the old layer, if it goes by the number of inputs, which changes."""
    given = layer.kernel_initializer
    is_relative = isinstance(given, keras.initializers.VarianceScaling)
    return given.clone() if is_relative else "glorot_uniform"


def _check_strides(layer: keras.layers.Conv2D) -> None:
    if layer.strides[0] != layer.strides[1]:
        raise InputError(
            "Expected the same stride in both directions for depthwise kernels. "
            f"Received: {layer.name!r} with strides={layer.strides}"
        )
