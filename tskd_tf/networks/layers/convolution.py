"""What the package knows of a kind of convolution: one record a kind.

A kind may bring layers of its own. Such a layer says itself what others must know of
it, by these members of its class. One without kernels needs none of them:

- `kernel_cost(input_shape, output_shape)`: its kernel weights and multiply-adds, as
  `costs.complexity` counts them. Both shapes are with the batch.
- `weight_channels(inputs, inner, output)`: for each weight by name, the channels along
  its last axes, as `weight_axes.axes_of_weights` gives them. A layer that has this, and
  neither `filters` nor `units`, gives the channels it takes.
- `inner_setting`: name of the argument that is its number of inner channels, as
  `DominantConv2D.rank`; only where it has some.
- `kernel_scale_axes`: for each kernel by attribute, the axes over which int8 shares one
  scale.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from tskd_tf.choices import CONVOLUTIONS
from tskd_tf.errors import InputError


class Options(NamedTuple):
    """What a user can ask of a kind, see `replace_convolutions`.

    Attributes:
        groups: ≥ 1, of kinds with groups; None for the default.
        rank: ≥ 1, of kinds with a rank; None for none.
        multiplier: ≥ 1, of the same kinds.
    """

    groups: int | None = None
    rank: int | None = None
    multiplier: int = 1


class Convolution(NamedTuple):
    """The record of a kind of convolution.

    Attributes:
        replace: Gives the layers that take the place of a plain convolution, one after
            the other. None where it stays.
        own_layers: Classes of this package that it is made of. A `.keras` file names
            them and does not bring them along.
        default_groups: Groups where none are asked for. None where it has no groups.
        has_rank: Whether it takes `rank` and `multiplier`.
        start_from: Gives the built layers of `replace` the weights of the convolution
            whose place they take, as near as can be. None where they start at random.
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
        InputError: If there is no such kind.
    """
    if name not in CONVOLUTIONS:
        raise InputError(
            f"Expected convolutions out of {', '.join(CONVOLUTIONS)}. Received: "
            f"{name!r}"
        )
    convolution: Convolution = CONVOLUTIONS[name].load()
    return convolution


def check_groups(name: str, groups: int | None) -> None:
    """Checks the groups that are asked of a kind.

    Args:
        name: One of `choices.CONVOLUTIONS`.
        groups: None asks for the default.

    Raises:
        InputError: If it has no groups, or they are below 1.
    """
    has_groups = convolution_named(name).default_groups is not None
    if groups is not None and (not has_groups or groups < 1):
        raise InputError(
            "Expected groups of at least 1, with grouped convolutions only. Received: "
            f"groups={groups} with {name!r}"
        )


def own_layers() -> dict[str, type[keras.layers.Layer]]:
    """All layers of this package that a student may have, by the name of the class."""
    records = [convolution_named(name) for name in CONVOLUTIONS]
    return {kind.__name__: kind for record in records for kind in record.own_layers}


def positions(shape: Sequence[int | None]) -> int:
    """How many places a feature map has.

    Args:
        shape: `(batch, height, width, channels)`; a size of None counts as 1.
    """
    return math.prod(size for size in shape[1:-1] if size is not None)


def pointwise(layer: keras.layers.Conv2D, strides: Any = 1) -> keras.layers.Layer:
    """The 1x1 convolution that ends with what a convolution ended with.

    Args:
        layer: Whose place is taken: filters, bias and activation are as there.
        strides: One number or two, in pixels.
    """
    settings = {"name": f"{layer.name}_pointwise", "kernel_size": 1}
    settings.update(strides=strides, padding="valid", dilation_rate=1)
    settings["kernel_initializer"] = relative_initializer(layer)
    return layers.Conv2D.from_config({**layer.get_config(), **settings})


def relative_initializer(layer: keras.layers.Conv2D) -> Any:
    """That of a convolution, if it goes by the number of inputs, which changes."""
    given = layer.kernel_initializer
    is_relative = isinstance(given, keras.initializers.VarianceScaling)
    return given.clone() if is_relative else "glorot_uniform"


def check_equal_strides(layer: keras.layers.Conv2D) -> None:
    """Checks that depthwise kernels can take a convolution's place.

    Raises:
        InputError: If its strides differ.
    """
    if layer.strides[0] != layer.strides[1]:
        raise InputError(
            "Expected the same stride in both directions for depthwise kernels. "
            f"Received: {layer.name!r} with strides={layer.strides}"
        )
