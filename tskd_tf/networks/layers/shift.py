"""A spatial operation without weights: each channel moves by a pixel, or stays.

What Xie et al. 2019 (arXiv 1909.13063) put before a 1x1 convolution in the place of a
3x3 one; the rule is that of their code (`OD-cheap-convolution`, `shiftnet_cuda_v2`).
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.layers.convolution import Convolution, Options, pointwise

_NUM_DIRECTIONS = 9


def shift_offsets(num_channels: int) -> np.ndarray:
    """Where each channel looks: `out[y, x] = in[y + dy, x + dx]`.

    Of C channels the first 9·⌊C/9⌋ go round the nine neighbours, channel by channel:
    dx = c mod 3 − 1, dy = ⌊c/3⌋ mod 3 − 1. The others stay, so that fewer than nine
    channels do not move at all.

    Args:
        num_channels: ≥ 1.

    Returns:
        Pixels, int, shape `(num_channels, 2)`: dy and dx, each of −1, 0 and 1.
    """
    channels = np.arange(num_channels)
    offsets = np.stack([channels // 3 % 3 - 1, channels % 3 - 1], axis=-1)
    offsets[num_channels - num_channels % _NUM_DIRECTIONS :] = 0
    return offsets


@keras.saving.register_keras_serializable("tskd_tf")
class ShiftConv2D(keras.layers.Layer):
    """Moves each channel by up to a pixel in both directions, see `shift_offsets`.

    Feature maps `(batch, height, width, channels)` keep their shape; zeros come in from
    outside. The layer has no weights at all, stored or trained, and no multiply-adds
    are counted for it. TensorFlow, LiteRT and ONNX have no such operation: there it is
    a depthwise 3x3 convolution with constant kernels of one 1, which takes its time.

    Raises:
        InputError: If its input is no such feature map.
    """

    def build(self, input_shape: Any) -> None:
        """Checks the shape; there is nothing to make."""
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise InputError(
                "Expected feature maps (batch, height, width, channels) of a known "
                f"number of channels. Received: {tuple(input_shape)} at {self.name!r}"
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """The moved channels, of the shape and type of the inputs."""
        num_channels = inputs.shape[-1]
        rows, columns = 1 + shift_offsets(num_channels).T
        # Made here, where it is a constant of the graph: a tensor that is kept would
        # be an input of the exported file
        kernel = np.zeros((3, 3, num_channels, 1), "float32")
        kernel[rows, columns, np.arange(num_channels)] = 1
        return keras.ops.depthwise_conv(
            inputs,
            keras.ops.convert_to_tensor(kernel, inputs.dtype),
            padding="same",
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As that of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What any layer has; Keras's default refuses a `DTypePolicy` as `dtype`."""
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
