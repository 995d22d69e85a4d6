"""A grouped convolution that trains on a CPU as fast as a plain one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.networks.layers.convolution import (
    Convolution,
    Options,
    pointwise,
    positions,
    relative_initializer,
)

_DEFAULT_GROUPS = 4


@keras.saving.register_keras_serializable("tskd_tf")
class GroupedConv2D(keras.layers.Conv2D):
    """Keras's `Conv2D` with `groups`, computed by TensorFlow's own kernels.

    Keras compiles a grouped convolution by XLA. On a CPU this takes about a hundred
    times as long, and it cannot be converted to ONNX. TensorFlow's CPU kernels lack
    some gradients of groups. So gradients are those of the equal plain convolution,
    whose kernel is 0 between groups. TensorFlow may also fuse a convolution with a
    bias, normalisation or activation behind it, and fused CPU kernels lack groups. So
    use this layer only where another convolution follows.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> tf.Tensor:
        """The convolution, without bias and activation."""

        def convolve(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            return tf.nn.convolution(
                images,
                weights,
                self.strides,
                self.padding.upper(),
                dilations=self.dilation_rate,
            )

        @tf.custom_gradient
        def convolve_groups(
            images: tf.Tensor, weights: tf.Tensor
        ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
            def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
                with tf.GradientTape() as tape:
                    tape.watch([images, weights])
                    outputs = convolve(images, _with_zeros(weights, self.groups))
                return tape.gradient(outputs, [images, weights], upstream)

            return convolve(images, weights), gradient

        return convolve_groups(inputs, tf.convert_to_tensor(kernel))

    def kernel_cost(
        self, input_shape: Sequence[int], output_shape: Sequence[int]
    ) -> tuple[int, int]:
        """Kernel weights and multiply-adds of one use; shapes include the batch."""
        channels = input_shape[-1] // self.groups
        kernel = channels * self.filters * math.prod(self.kernel_size)
        return kernel, kernel * positions(output_shape)


def _with_zeros(kernel: tf.Tensor, groups: int) -> tf.Tensor:
    """The kernel of the equal plain convolution: 0 between groups."""
    channels, filters = kernel.shape[2], kernel.shape[3]
    ones = np.ones((channels, filters // groups))
    mask = tf.constant(np.kron(np.eye(groups), ones), kernel.dtype)
    return tf.tile(kernel, (1, 1, groups, 1)) * mask


def _replace(layer: keras.layers.Conv2D, options: Options) -> list[keras.layers.Layer]:
    num_channels = layer.kernel.shape[2]
    groups = options.groups or _DEFAULT_GROUPS
    fitting = next(
        (n for n in range(groups, num_channels) if num_channels % n == 0), num_channels
    )
    settings = {"name": f"{layer.name}_grouped", "groups": fitting}
    settings.update(filters=num_channels, activation="linear", use_bias=False)
    settings["kernel_initializer"] = relative_initializer(layer)
    return [
        GroupedConv2D.from_config({**layer.get_config(), **settings}),
        pointwise(layer),
    ]


CONVOLUTION = Convolution(
    _replace, own_layers=(GroupedConv2D,), default_groups=_DEFAULT_GROUPS
)
