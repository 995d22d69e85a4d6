"""A spatial operation without weights: each channel moves by a pixel, or stays.

Xie et al. 2019 (arXiv 1909.13063) replace a 3x3 convolution by this operation and a 1x1
convolution. The rule is that of their code (`OD-cheap-convolution`,
`shiftnet_cuda_v2`).
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.layers.convolution import Convolution, Options, pointwise

_NUM_DIRECTIONS = 9


def shift_offsets(num_channels: int) -> np.ndarray:
    """The offset of each channel c: `out[y, x, c] = in[y + dy, x + dx, c]`.

    The first 9·⌊C/9⌋ of C channels cycle through the nine neighbours:
    dx = c mod 3 − 1, dy = ⌊c/3⌋ mod 3 − 1. The other channels do not move. So with
    fewer than nine channels, none moves.

    Args:
        num_channels: Number of channels C, ≥ 1.

    Returns:
        Integers of shape `(num_channels, 2)`: dy and dx in pixels, each −1, 0 or 1.
    """
    channels = np.arange(num_channels)
    offsets = np.stack([channels // 3 % 3 - 1, channels % 3 - 1], axis=-1)
    offsets[num_channels - num_channels % _NUM_DIRECTIONS :] = 0
    return offsets


@keras.saving.register_keras_serializable("tskd_tf")
class ShiftConv2D(keras.layers.Layer):
    """Moves each channel by at most one pixel per direction, see `shift_offsets`.

    Feature maps `(batch, height, width, channels)` keep their shape; borders are filled
    with zeros. The layer has no weights, and no multiply-adds are counted for it.
    TensorFlow, LiteRT and ONNX lack this operation. They run it as a depthwise 3x3
    convolution with constant kernels, which does take time.

    Raises:
        InputError: If the input is not a feature map with a known number of channels.
    """

    def build(self, input_shape: Any) -> None:
        """Checks the input shape; there are no weights to create."""
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise InputError(
                "Expected feature maps (batch, height, width, channels) of a known "
                f"number of channels. Received: {tuple(input_shape)} at {self.name!r}"
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Returns the moved channels, with the shape and type of the inputs."""
        num_channels = inputs.shape[-1]
        rows, columns = 1 + shift_offsets(num_channels).T
        # Made here, as a constant of the graph: a tensor kept in the layer would become
        # an input of the exported file
        kernel = np.zeros((3, 3, num_channels, 1), "float32")
        kernel[rows, columns, np.arange(num_channels)] = 1
        return keras.ops.depthwise_conv(
            inputs,
            keras.ops.convert_to_tensor(kernel, inputs.dtype),
            padding="same",
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The output shape, equal to the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The settings of every layer; Keras's default refuses a `DTypePolicy`."""
        return dict(super().get_config())


def _replace(layer: keras.layers.Conv2D, _: Options) -> list[keras.layers.Layer]:
    borders = [
        (size - 1) * dilation
        for size, dilation in zip(layer.kernel_size, layer.dilation_rate)
    ]
    stack = [ShiftConv2D(name=f"{layer.name}_shift", dtype=layer.dtype_policy)]
    if layer.padding == "valid":
        cropping = [(border // 2, border - border // 2) for border in borders]
        stack.append(layers.Cropping2D(cropping, name=f"{layer.name}_crop"))
    return [*stack, pointwise(layer, layer.strides)]


CONVOLUTION = Convolution(_replace, own_layers=(ShiftConv2D,))
