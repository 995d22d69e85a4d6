"""Costs of a network with fewer or more channels, without building it."""

import math
from collections.abc import Callable

from tskd_tf.networks.channels import Channels, Kept
from tskd_tf.networks.costs import cost_of_call
from tskd_tf.networks.weight_axes import axes_of_weights
from tskd_tf.networks.width import narrowed


def macs_of_kept(channels: Channels) -> Callable[[Kept], int]:
    """A function that maps the channels of a new network to its multiply-adds.

    Args:
        channels: The channels of the present network.

    Raises:
        InputError: If multiply-adds cannot be counted.
    """
    multiplying = [
        (use, use.call.layer.get_config())
        for use in channels.uses
        if cost_of_call(use.call.layer, use.call.input_shapes[0])[1]
    ]
    # Layers that differ only by name cost the same, and building a layer is slow
    known: dict[str, int] = {}

    def count(kept: Kept) -> int:
        num_macs = 0
        for use, config in multiplying:
            kind = type(use.call.layer)
            config = {**config, **narrowed(config, use, kept), "name": "counted"}
            shape = list(use.call.input_shapes[0])
            for axis, size in kept.sizes(use.inputs[0]).items():
                shape[axis] = size
            key = f"{kind} {config} {shape}"
            if key not in known:
                known[key] = cost_of_call(kind.from_config(config), tuple(shape))[1]
            num_macs += known[key]
        return num_macs

    return count


def params_of_kept(channels: Channels) -> Callable[[Kept], int]:
    """A function that maps the channels of a thinner network to its parameters.

    Adapted preprocessing is not counted: it has the same size in every network.

    Args:
        channels: The channels of the present network.

    Raises:
        InputError: If the layout of a layer's weights is unknown.
    """
    weights = [
        (weight.shape, axes)
        for use in channels.weighted()
        for weight, axes in zip(use.call.layer.weights, axes_of_weights(use))
    ]

    def count(kept: Kept) -> int:
        return sum(
            math.prod(
                size if axis is None else int(kept.stays[axis].any(axis=0).sum())
                for size, axis in zip(shape, axes)
            )
            for shape, axes in weights
        )

    return count
