"""Quantisation-aware training: fake quantisation simulates an int8 file.

Values are rounded to the steps of LiteRT's 8-bit quantisation
(https://ai.google.dev/edge/litert/models/quantization_spec) and stay floats. Gradients
ignore the rounding (Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", CVPR 2018).
"""

from typing import Any

import keras
import tensorflow as tf

from tskd_tf.networks.graph import LayerCall, follow
from tskd_tf.networks.rebuild import copy_weights, rebuild, same_layer

_LARGEST = 127
_NUM_STEPS = 255
# Avoids a division by 0 where all values are 0
_SMALLEST_RANGE = 1e-30
# For each kernel by attribute, the axes over which one scale is shared. This package's
# own layers bring theirs, see `networks.layers.convolution`
_KERNELS: tuple[tuple[type, dict[str, tuple[int, ...]]], ...] = (
    (keras.layers.DepthwiseConv2D, {"kernel": (0, 1)}),
    (
        keras.layers.SeparableConv2D,
        {"depthwise_kernel": (0, 1), "pointwise_kernel": (0, 1, 2)},
    ),
    (keras.layers.Conv2D, {"kernel": (0, 1, 2)}),
    (keras.layers.Dense, {"kernel": (0,)}),
)
# LiteRT fuses these into the layer before them, and rounds only the fused outputs
_FUSED = (keras.layers.BatchNormalization, keras.layers.Activation, keras.layers.ReLU)
_ROUNDED = (*(kind for kind, _ in _KERNELS), *_FUSED, keras.layers.Add)


def round_kernel(kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """Rounds a kernel to the nearest of 255 int8 steps, symmetric around 0.

    Args:
        kernel: float32, any shape.
        axes: Axes that share one scale. Each entry along the other axes is a channel
            with its own scale.
    """
    largest = tf.reduce_max(tf.abs(kernel), axis=axes, keepdims=True)
    scale = tf.math.maximum(largest, _SMALLEST_RANGE) / _LARGEST
    return _straight_through(kernel, scale * tf.round(kernel / scale))


def round_activations(values: tf.Tensor) -> tf.Tensor:
    """Rounds the activations of a batch to 256 steps from minimum to maximum.

    The range always includes 0, and 0 is one of the steps.

    Args:
        values: float32, any shape.
    """
    low = tf.math.minimum(tf.reduce_min(values), 0.0)
    high = tf.math.maximum(tf.reduce_max(values), 0.0)
    scale = tf.math.maximum(high - low, _SMALLEST_RANGE) / _NUM_STEPS
    # Counted from the lowest step
    zero_point = tf.round(-low / scale)
    steps = tf.clip_by_value(tf.round(values / scale) + zero_point, 0.0, _NUM_STEPS)
    return _straight_through(values, scale * (steps - zero_point))


def _straight_through(values: tf.Tensor, rounded: tf.Tensor) -> tf.Tensor:
    return values + tf.stop_gradient(rounded - values)


@keras.saving.register_keras_serializable("tskd_tf")
class FakeQuantized(keras.layers.Wrapper):
    """A layer whose kernels and, optionally, outputs are rounded to int8 steps.

    Args:
        layer: The layer to wrap. Only kernels of `Dense` and 2-D convolutions are
            rounded.
        rounds_outputs: Whether to round the outputs. False where LiteRT fuses the layer
            with the next one. Default: True.
        **kwargs: For `keras.layers.Wrapper`.
    """

    def __init__(
        self, layer: keras.layers.Layer, rounds_outputs: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(layer, **{"name": layer.name, **kwargs})
        self.rounds_outputs = rounds_outputs

    def call(self, inputs: Any) -> tf.Tensor:
        """Returns the layer's outputs, with rounding."""
        rounded = [
            (kernel, round_kernel(tf.convert_to_tensor(kernel), axes))
            for kernel, axes in _kernels(self.layer)
        ]
        with keras.StatelessScope(state_mapping=rounded):
            outputs = self.layer(inputs)
        return round_activations(outputs) if self.rounds_outputs else outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The output shape of the wrapped layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, serialized."""
        return {**super().get_config(), "rounds_outputs": self.rounds_outputs}


def _kernels(layer: Any) -> list[tuple[keras.Variable, tuple[int, ...]]]:
    of_keras = (names for kind, names in _KERNELS if isinstance(layer, kind))
    names = getattr(layer, "kernel_scale_axes", None) or next(of_keras, {})
    kernels = [(getattr(layer, name), axes) for name, axes in names.items()]
    # A layer with two possible kernels has only one of them
    return [(kernel, axes) for kernel, axes in kernels if kernel is not None]


def quantization_aware(student: keras.Model) -> keras.Model:
    """A copy of a student, weights included, that computes nearly like its int8 file.

    Args:
        student: A Functional or Sequential model in float32.

    Returns:
        A model with `FakeQuantized` layers; `without_fake_quantization` removes them.
    """
    followers: dict[int, list[Any]] = {}

    def step(call: LayerCall, makers: list[Any]) -> list[Any]:
        for maker in makers:
            followers.setdefault(id(maker), []).append(call.layer)
        return [call.layer] * max(1, call.num_outputs)

    follow(student, [None], step)

    def edit(layer: Any) -> Any:
        copy = same_layer(layer)
        is_own = hasattr(layer, "kernel_scale_axes")
        if not is_own and not isinstance(layer, _ROUNDED):
            return copy
        behind = followers.get(id(layer), [])
        is_fused = bool(behind) and all(isinstance(one, _FUSED) for one in behind)
        return FakeQuantized(copy, rounds_outputs=not is_fused)

    copy = rebuild(student, edit)
    copy_weights(student, copy)
    return copy


def without_fake_quantization(model: keras.Model) -> keras.Model:
    """A plain student with the weights of a `quantization_aware` copy."""

    def edit(layer: Any) -> Any:
        is_wrapped = isinstance(layer, FakeQuantized)
        return same_layer(layer.layer if is_wrapped else layer)

    copy = rebuild(model, edit)
    copy_weights(model, copy)
    return copy
