"""A convolution with few dominant kernels and a 1x1 convolution of their outputs.

Inspired by Wang, Deng, Wang 2016 ("Accelerating convolutional neural networks with
dominant convolutional kernel and knowledge pre-regression", ECCV 2016). Only the
abstract and half a page of that paper were available. They describe a low-rank
decomposition into feature extraction and feature combination. The structure, the ranks
and the start from singular values are our reading; no result of theirs is claimed.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tskd_tf.errors import InputError
from tskd_tf.networks.layers.convolution import (
    Convolution,
    Options,
    check_equal_strides,
    positions,
    relative_initializer,
)
from tskd_tf.networks.layers.low_rank import depthwise_factors, low_rank_factors

READINGS = ("A", "B")


@keras.saving.register_keras_serializable("tskd_tf")
class DominantConv2D(keras.layers.Layer):
    """A cheaper `Conv2D`: few kernels extract features, a 1x1 kernel combines them.

    Number of weights for k×k kernels, C input channels and N filters, without biases:

    | reading | extraction | weights |
    |---|---|---|
    | `"A"` | `rank` full kernels, d | k²·C·d + d·N |
    | `"B"` | `multiplier` kernels per channel, m | k²·C·m + C·m·N |

    Each output position costs as many multiply-adds. Nothing stands between the two
    steps, so that the layer is a convolution of low rank. Both readings are ours; see
    the module.

    Args:
        filters: Number of output channels N, ≥ 1.
        kernel_size: One integer or two, ≥ 1, in pixels.
        strides: Strides of the extraction: one integer or two, ≥ 1, in pixels; reading
            B needs equal ones. Default: 1.
        padding: `"valid"` (default) or `"same"`.
        dilation_rate: Dilation of the extraction: one integer or two, ≥ 1. Default: 1.
        activation: Activation of the outputs, as in `Conv2D`. Default: none.
        use_bias: Whether to add a bias to the outputs. Default: True.
        reading: `"A"` or `"B"` (default).
        rank: Number of full kernels of reading A, ≥ 1.
        multiplier: Kernels per channel of reading B, ≥ 1. Default: 1.
        kernel_initializer: Initializer of the extraction. Default: Glorot uniform for
            reading A, N(0, 1/k²) for reading B. Keras's defaults would compute the fan
            over all channels, so that depthwise kernels start too small.
        pointwise_initializer: Initializer of the 1x1 kernel. Default: Glorot uniform.
        bias_initializer: Initializer of the bias. Default: zeros.
        kernel_regularizer: Regularizer of both kernels. Default: none.
        **kwargs: For `keras.layers.Layer`.

    Raises:
        InputError: If an argument is out of range.
    """

    inner_setting = "rank"
    kernel_scale_axes = {
        "kernel": (0, 1, 2),
        "depthwise_kernel": (0, 1),
        "pointwise_kernel": (0, 1, 2),
    }

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        reading: str = "B",
        rank: int | None = None,
        multiplier: int = 1,
        kernel_initializer: Any = None,
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_sizes(filters, reading, rank, multiplier)
        if padding not in ("valid", "same"):
            raise InputError(f"Expected padding valid or same. Received: {padding!r}")
        self.filters, self.rank, self.multiplier = filters, rank, multiplier
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.strides = _pair("strides", strides)
        self.dilation_rate = _pair("dilation_rate", dilation_rate)
        self.padding, self.use_bias, self.reading = padding, use_bias, reading
        self.activation = keras.activations.get(activation)
        if reading == "B" and self.strides[0] != self.strides[1]:
            raise InputError(
                "Expected the same stride in both directions with reading B. Received: "
                f"{self.strides}"
            )
        if kernel_initializer is None:
            kernel_initializer = "glorot_uniform"
            if reading == "B":
                kernel_initializer = keras.initializers.RandomNormal(
                    stddev=1 / math.sqrt(math.prod(self.kernel_size))
                )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.pointwise_initializer = keras.initializers.get(pointwise_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        """Creates the two kernels and the bias."""
        channels = input_shape[-1]
        is_depthwise = self.rank is None
        kernel = self.add_weight(
            shape=(*self.kernel_size, channels, self.rank or self.multiplier),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="depthwise_kernel" if is_depthwise else "kernel",
        )
        self.kernel = None if is_depthwise else kernel
        self.depthwise_kernel = kernel if is_depthwise else None
        num_responses = self.rank or channels * self.multiplier
        self.pointwise_kernel = self.add_weight(
            shape=(1, 1, num_responses, self.filters),
            initializer=self.pointwise_initializer,
            regularizer=self.kernel_regularizer,
            name="pointwise_kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.filters,), initializer=self.bias_initializer, name="bias"
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Returns feature maps of shape `(batch, height, width, filters)`."""
        settings = {
            "strides": self.strides,
            "padding": self.padding,
            "data_format": "channels_last",
            "dilation_rate": self.dilation_rate,
        }
        if self.rank is None:
            outputs = keras.ops.depthwise_conv(
                inputs, self.depthwise_kernel, **settings
            )
        else:
            outputs = keras.ops.conv(inputs, self.kernel, **settings)
        outputs = keras.ops.conv(
            outputs, self.pointwise_kernel, data_format="channels_last"
        )
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return self.activation(outputs)

    def start_from(self, kernel: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Sets the kernels to the best approximation of a plain kernel.

        Args:
            kernel: Kernel of a plain convolution, shape `(height, width, channels,
                filters)`. The layer must be built for these channels.
            bias: Shape `(filters,)`, for a layer with a bias. Default: none.

        Raises:
            InputError: If rank or multiplier is larger than such a kernel allows.
        """
        if self.rank is None:
            factors = depthwise_factors(kernel, self.multiplier)
        else:
            factors = low_rank_factors(kernel, self.rank)
        self.set_weights([*factors, *([] if bias is None else [bias])])

    def kernel_cost(
        self, input_shape: Sequence[int], output_shape: Sequence[int]
    ) -> tuple[int, int]:
        """Kernel weights and multiply-adds of one use; shapes include the batch."""
        num_kernels = self.rank or self.multiplier
        extraction = math.prod(self.kernel_size) * input_shape[-1] * num_kernels
        num_responses = self.rank or input_shape[-1] * self.multiplier
        kernel = extraction + num_responses * self.filters
        return kernel, kernel * positions(output_shape)

    def weight_channels(
        self, inputs: np.ndarray, inner: np.ndarray, output: np.ndarray
    ) -> dict[str, list[np.ndarray | None]]:
        """The channels along the last axes of each weight, by the weight's name.

        Args:
            inputs: Input channels, shape `(1, channels)`.
            inner: Channels between the two kernels in reading A, shape `(1, rank)`.
            output: Output channels, shape `(1, filters)`.
        """
        if self.rank is None:
            responses = np.repeat(inputs, self.multiplier, axis=-1)
        else:
            responses = inner
        return {
            "kernel": [inputs, inner],
            "depthwise_kernel": [inputs, None],
            "pointwise_kernel": [responses, output],
            "bias": [output],
        }

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The output shape, as for a `Conv2D`."""
        extents = [
            (size - 1) * dilation + 1 if self.padding == "valid" else 1
            for size, dilation in zip(self.kernel_size, self.dilation_rate)
        ]
        sides = [
            None if side is None else (side - extent) // stride + 1
            for side, extent, stride in zip(input_shape[1:3], extents, self.strides)
        ]
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, serialized."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "reading": self.reading,
            "rank": self.rank,
            "multiplier": self.multiplier,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "pointwise_initializer": keras.initializers.serialize(
                self.pointwise_initializer
            ),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _check_sizes(filters: int, reading: str, rank: int | None, multiplier: int) -> None:
    if reading not in READINGS:
        raise InputError(
            f"Expected reading out of {', '.join(READINGS)}. Received: {reading!r}"
        )
    if (rank is None) == (reading == "A") or (rank is not None and rank < 1):
        raise InputError(
            "Expected rank of at least 1 with reading A, and none with B. "
            f"Received: rank={rank} with reading={reading!r}"
        )
    if filters < 1 or multiplier < 1:
        raise InputError(
            "Expected filters and multiplier of at least 1. Received: "
            f"filters={filters}, multiplier={multiplier}"
        )


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(
            f"Expected {name} of one or two numbers ≥ 1. Received: {value}"
        )
    return pair


def _replace(layer: keras.layers.Conv2D, options: Options) -> list[keras.layers.Layer]:
    size, channels = math.prod(layer.kernel_size), layer.kernel.shape[2]
    rank, is_depthwise = options.rank, options.rank is None
    if is_depthwise:
        check_equal_strides(layer)
    dominant = DominantConv2D(
        layer.filters,
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.dilation_rate,
        layer.activation,
        layer.use_bias,
        reading="B" if is_depthwise else "A",
        rank=None if rank is None else min(rank, size * channels, layer.filters),
        multiplier=min(options.multiplier, size, layer.filters),
        kernel_initializer=None if is_depthwise else relative_initializer(layer),
        pointwise_initializer=relative_initializer(layer),
        bias_initializer=layer.bias_initializer,
        kernel_regularizer=layer.kernel_regularizer,
        name=f"{layer.name}_dominant",
        dtype=layer.dtype_policy,
    )
    return [dominant]


def _start_from(
    new: Sequence[keras.layers.Layer], weights: Sequence[np.ndarray]
) -> None:
    [dominant] = new
    dominant.start_from(*weights)


CONVOLUTION = Convolution(
    _replace, own_layers=(DominantConv2D,), has_rank=True, start_from=_start_from
)
