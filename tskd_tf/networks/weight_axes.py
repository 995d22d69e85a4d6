"""The channels along each axis of a layer's weights."""

import numpy as np

from tskd_tf.errors import InputError
from tskd_tf.networks.channels import Use, last_axis
from tskd_tf.networks.graph import layer_width


def axes_of_weights(use: Use) -> list[list[np.ndarray | None]]:
    """The channels along each axis of each of a layer's weights.

    Args:
        use: The layer's first use.

    Returns:
        A list for each of `layer.weights`, with an entry for each axis: channels as
        `Kept.positions` takes them, or None for an axis without channels.

    Raises:
        InputError: If the layout of the layer's weights is unknown.
    """
    layer, kind = use.call.layer, type(use.call.layer).__name__
    inputs, output = last_axis(use.inputs[0]), last_axis(use.output)
    named: dict[str, list[np.ndarray | None]] = {"bias": [output]}
    if hasattr(layer, "weight_channels"):
        named = layer.weight_channels(inputs, use.inner[None], output)
    elif kind == "SeparableConv2D":
        spread = np.repeat(inputs, layer.depth_multiplier, axis=-1)
        named["depthwise_kernel"] = [inputs, None]
        named["pointwise_kernel"] = [spread, output]
    elif kind == "DepthwiseConv2D":
        named["kernel"] = [inputs, None]
    elif kind.endswith("Transpose"):
        named["kernel"] = [output, inputs]
    elif layer_width(layer.get_config()):
        named["kernel"] = [inputs.reshape(getattr(layer, "groups", 1), -1), output]
    else:
        value = use.inputs[0]
        along = [last_axis(np.moveaxis(value, i, -1)) for i in range(value.ndim)]
        own = [None if axis.shape[-1] == 1 else axis for axis in along[:-1]]
        named = {weight.name: [*own, along[-1]] for weight in layer.weights}
    axes: list[list[np.ndarray | None]] = []
    for weight in layer.weights:
        known = named.get(weight.name, [])[-len(weight.shape) :]
        others: list[np.ndarray | None] = [None] * (len(weight.shape) - len(known))
        axes.append(others + known)
        sizes = [
            size if axis is None else axis.shape[-1]
            for axis, size in zip(axes[-1], weight.shape)
        ]
        if not known or sizes != list(weight.shape):
            raise InputError(
                "Expected a layer whose weights are known, to copy some of them. "
                f"Received: {layer.name!r} of type {kind} with {weight.name!r} of "
                f"shape {tuple(weight.shape)}; use initialize='random'"
            )
    return axes
