"""Keras's depthwise convolution, followed by a 1x1 convolution."""

import math

import keras
from keras import layers

from tskd_tf.networks.layers.convolution import (
    Convolution,
    Options,
    check_equal_strides,
    pointwise,
)


def _replace(layer: keras.layers.Conv2D, _: Options) -> list[keras.layers.Layer]:
    check_equal_strides(layer)
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        # Keras's default computes the fan over all channels, so kernels start too small
        depthwise_initializer=keras.initializers.RandomNormal(
            stddev=1 / math.sqrt(math.prod(layer.kernel_size))
        ),
        depthwise_regularizer=layer.kernel_regularizer,
        depthwise_constraint=layer.kernel_constraint,
        name=f"{layer.name}_depthwise",
        dtype=layer.dtype_policy,
    )
    return [depthwise, pointwise(layer)]


CONVOLUTION = Convolution(_replace)
