"""The record of each kind of convolution.

A kind may bring its own layers. The class of such a layer describes itself to the
package by these members. A layer without kernels needs none of them:

- `kernel_cost(input_shape, output_shape)` returns kernel weights and multiply-adds, as
  `costs.complexity` counts them. Both shapes include the batch.
- `weight_channels(inputs, inner, output)` maps the name of each weight to the channels
  along its last axes, see `weight_axes.axes_of_weights`. A layer with this method, and
  without `filters` and `units`, keeps the channels of its input.
- `inner_setting` names the argument for the number of inner channels, e.g.
  `DominantConv2D.rank`. Layers without inner channels lack it.
- `kernel_scale_axes` maps the attribute of each kernel to the axes over which int8
  quantization shares one scale.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from tskd_tf.choices import CONVOLUTIONS, check_choice
from tskd_tf.errors import InputError


class Options(NamedTuple):
    """Options of a kind of convolution, see `replace_convolutions`.

    Attributes:
        groups: Number of groups, ≥ 1, for kinds with groups. None: the kind's default.
        rank: Number of full kernels, ≥ 1, for kinds with a rank. None: no rank.
        multiplier: Kernels per channel, ≥ 1, for kinds with a rank.
    """

    groups: int | None = None
    rank: int | None = None
    multiplier: int = 1


class Convolution(NamedTuple):
    """The record of a kind of convolution.

    Attributes:
        replace: Returns the layers that replace a plain convolution, in order. None if
            plain convolutions stay.
        own_layers: Layer classes of this package that the kind uses. A `.keras` file
            names them but does not contain them.
        default_groups: Default number of groups. None if the kind has no groups.
        has_rank: Whether the kind takes `rank` and `multiplier`.
        start_from: Sets the weights of the built layers of `replace` to approximate the
            replaced convolution. None if they start at random.
    """

    replace: (
        Callable[[keras.layers.Conv2D, Options], Sequence[keras.layers.Layer]] | None
    )
    own_layers: tuple[type[keras.layers.Layer], ...] = ()
    default_groups: int | None = None
    has_rank: bool = False
    start_from: (
        Callable[[Sequence[keras.layers.Layer], Sequence[np.ndarray]], None] | None
    ) = None


PLAIN = Convolution(replace=None)


def convolution_named(name: str) -> Convolution:
    """The record of a kind of convolution.

    Args:
        name: One of `choices.CONVOLUTIONS`.

    Raises:
        InputError: If the kind is unknown.
    """
    check_choice("convolutions", name, CONVOLUTIONS)
    convolution: Convolution = CONVOLUTIONS[name].load()
    return convolution


def check_groups(name: str, groups: int | None) -> None:
    """Checks the number of groups of a kind.

    Args:
        name: One of `choices.CONVOLUTIONS`.
        groups: Number of groups, ≥ 1; None for the default.

    Raises:
        InputError: If the kind has no groups, or `groups` is below 1.
    """
    has_groups = convolution_named(name).default_groups is not None
    if groups is not None and (not has_groups or groups < 1):
        raise InputError(
            "Expected groups of at least 1, with grouped convolutions only. Received: "
            f"groups={groups} with {name!r}"
        )


def own_layers() -> dict[str, type[keras.layers.Layer]]:
    """All layer classes of this package that students may have, by name."""
    records = [convolution_named(name) for name in CONVOLUTIONS]
    return {kind.__name__: kind for record in records for kind in record.own_layers}


def positions(shape: Sequence[int | None]) -> int:
    """Number of positions (height times width) of a feature map.

    Args:
        shape: `(batch, height, width, channels)`; a size of None counts as 1.
    """
    return math.prod(size for size in shape[1:-1] if size is not None)


def pointwise(layer: keras.layers.Conv2D, strides: Any = 1) -> keras.layers.Layer:
    """A 1x1 convolution with a layer's filters, bias and activation.

    Args:
        layer: The convolution that is replaced.
        strides: One integer or two, in pixels. Default: 1.
    """
    settings = {"name": f"{layer.name}_pointwise", "kernel_size": 1}
    settings.update(strides=strides, padding="valid", dilation_rate=1)
    settings["kernel_initializer"] = relative_initializer(layer)
    return layers.Conv2D.from_config({**layer.get_config(), **settings})


def relative_initializer(layer: keras.layers.Conv2D) -> Any:
    """A convolution's initializer if it scales with the fan; else `glorot_uniform`."""
    given = layer.kernel_initializer
    is_relative = isinstance(given, keras.initializers.VarianceScaling)
    return given.clone() if is_relative else "glorot_uniform"


def check_equal_strides(layer: keras.layers.Conv2D) -> None:
    """Checks that depthwise kernels can replace a convolution.

    Raises:
        InputError: If its strides down and across differ.
    """
    if layer.strides[0] != layer.strides[1]:
        raise InputError(
            "Expected the same stride in both directions for depthwise kernels. "
            f"Received: {layer.name!r} with strides={layer.strides}"
        )
