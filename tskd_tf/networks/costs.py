"""Costs of a network: parameters, multiply-adds (MACs), the paper's cost, bytes.

MACs are counted for inference on one image. Convolutions and dense layers are counted;
biases, activations, pooling and normalisation are not (batch normalisation folds into
the convolution before it). A layer with unknown multiplications is refused, not counted
as free.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tskd_tf.errors import InputError
from tskd_tf.networks.graph import Shape, check_graph, is_per_channel, layer_calls
from tskd_tf.networks.layers.convolution import positions
from tskd_tf.networks.rebuild import with_image_shape


class LayerComplexity(NamedTuple):
    """Cost of one layer, summed over all its uses in the model.

    Attributes:
        name: Name of the layer.
        kind: Name of the layer's class.
        num_params: Number of weights, biases and moving statistics included.
        num_macs: Multiply-adds of one inference on one image.
        paper_cost: Number of kernel weights, see `Complexity`.
        size_bytes: Bytes of the weights as stored.
    """

    name: str
    kind: str
    num_params: int
    num_macs: int
    paper_cost: int
    size_bytes: int


class Complexity(NamedTuple):
    """Cost of a network.

    Attributes:
        num_params: Number of weights, biases and moving statistics included.
        num_macs: Multiply-adds of one inference on one image.
        paper_cost: Number of kernel weights, by Eq. 1 + Eq. 2 of Shi et al. 2017: the
            sum of C_i·C_o·K_s over convolutions and of N_i·N_o over dense layers. It
            does not depend on the size of the feature maps.
        size_bytes: Bytes of the weights as stored (4 each in float32).
        layers: The costs of each layer, in the order of the graph.
    """

    num_params: int
    num_macs: int
    paper_cost: int
    size_bytes: int
    layers: tuple[LayerComplexity, ...]


def _conv(layer: Any, input_shape: Shape, output_shape: Shape) -> tuple[int, int]:
    channels = input_shape[-1] // layer.groups
    kernel = channels * layer.filters * math.prod(layer.kernel_size)
    return kernel, kernel * positions(output_shape)


def _conv_transpose(
    layer: Any, input_shape: Shape, output_shape: Shape
) -> tuple[int, int]:
    kernel = input_shape[-1] * layer.filters * math.prod(layer.kernel_size)
    return kernel, kernel * positions(input_shape)


def _depthwise(layer: Any, input_shape: Shape, output_shape: Shape) -> tuple[int, int]:
    channels = input_shape[-1] * layer.depth_multiplier
    kernel = channels * math.prod(layer.kernel_size)
    return kernel, kernel * positions(output_shape)


def _separable(layer: Any, input_shape: Shape, output_shape: Shape) -> tuple[int, int]:
    channels = input_shape[-1] * layer.depth_multiplier
    kernel = channels * (math.prod(layer.kernel_size) + layer.filters)
    return kernel, kernel * positions(output_shape)


def _dense(layer: Any, input_shape: Shape, output_shape: Shape) -> tuple[int, int]:
    kernel = input_shape[-1] * layer.units
    return kernel, kernel * positions(input_shape)


# Layer → (kernel weights, MACs) of one use. Only exact classes: a subclass may multiply
# differently from its parent.
_FORMULAS: dict[type, Callable[[Any, Shape, Shape], tuple[int, int]]] = {
    keras.layers.Conv2D: _conv,
    keras.layers.Conv2DTranspose: _conv_transpose,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.Dense: _dense,
}
_MULTIPLYING = {
    "Attention",
    "AdditiveAttention",
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "Dot",
    "DotProductAttention",
    "Einsum",
    "Matmul",
    "SeparableConv",
    "Tensordot",
}
# Graph operations that multiply in other ways, or call functions not visible here
_UNCOUNTED = {
    "BatchMatMulV2",
    "Conv3D",
    "Einsum",
    "PartitionedCall",
    "PyFunc",
    "StatefulPartitionedCall",
    "While",
    "StatelessWhile",
}


def _traced_cost(model: keras.Model, input_shape: Shape) -> tuple[int, int]:
    """Kernel weights and MACs of a subclassed model, from the graph that it traces."""
    images = tf.TensorSpec((1, *input_shape[1:]), "float32")
    call = tf.function(lambda inputs: model(inputs, training=False))
    num_macs = 0
    for operation in call.get_concrete_function(images).graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            kernel, places = operation.inputs[1].shape, operation.outputs[0].shape
        elif operation.type == "Conv2DBackpropInput":
            kernel, places = operation.inputs[1].shape, operation.inputs[2].shape
        elif operation.type in _UNCOUNTED:
            raise InputError(
                "Expected a model whose multiply-adds can be counted. Received: "
                f"{model.name!r}, which runs {operation.type} {operation.name!r}"
            )
        else:
            continue
        num_macs += kernel.num_elements() * math.prod(places[:-1])
    kernels = [weight.shape for weight in model.weights if len(weight.shape) > 1]
    return sum(math.prod(shape) for shape in kernels), num_macs


def cost_of_call(layer: Any, input_shape: Shape) -> tuple[int, int]:
    """Kernel weights and multiply-adds of one use of a layer, as `complexity` counts.

    Args:
        layer: A layer or operation, which need not be built.
        input_shape: Shape with the batch, e.g. `(None, height, width, channels)`.

    Returns:
        `(kernel weights, multiply-adds for one image)`.

    Raises:
        InputError: If its multiply-adds cannot be counted, or a size is unknown.
    """
    if isinstance(layer, keras.Model):
        return _traced_cost(layer, input_shape)
    # Layers of this package bring their own formula, see `layers.convolution`
    own = vars(type(layer)).get("kernel_cost")
    formula = own or _FORMULAS.get(type(layer))
    if formula is None:
        # Per-channel work is not counted, as in the paper
        is_weighted = getattr(layer, "weights", ()) and not is_per_channel(layer)
        if is_weighted or type(layer).__name__ in _MULTIPLYING:
            raise InputError(
                f"Expected layers whose multiply-adds can be counted. Received: "
                f"{layer.name!r} of type {type(layer).__name__}"
            )
        return 0, 0
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise InputError(
            "Expected layers with their channels last. Received: "
            f"{layer.name!r} with data_format={layer.data_format!r}"
        )
    output_shape = layer.compute_output_shape(input_shape)
    if None in (*input_shape[1:], *output_shape[1:]):
        raise InputError(
            "Expected a model with a fixed image size, so that multiply-adds can be "
            f"counted. Received: {layer.name!r} with input {input_shape}"
        )
    return formula(layer, input_shape, output_shape)


def complexity(model: keras.Model) -> Complexity:
    """Counts the costs of a model, in total and per layer.

    Args:
        model: A built Functional or Sequential model with a fixed image size; models
            nested in it may take any size.

    Returns:
        `Complexity`.

    Raises:
        InputError: If it is another kind of model, or the multiply-adds of a layer
            cannot be counted.

    Example:

    >>> complexity(lenet).num_macs
    2293000
    """
    check_graph(model, "the model")
    if None not in model.inputs[0].shape[1:]:
        model = with_image_shape(model, model.inputs[0].shape[1:])
    rows: dict[int, LayerComplexity] = {}
    for call in layer_calls(model):
        layer = call.layer
        kernel, num_macs = cost_of_call(layer, call.input_shapes[0])
        if id(layer) in rows:
            row = rows[id(layer)]
            rows[id(layer)] = row._replace(num_macs=row.num_macs + num_macs)
            continue
        weights = getattr(layer, "weights", ())
        rows[id(layer)] = LayerComplexity(
            name=layer.name,
            kind=type(layer).__name__,
            num_params=sum(math.prod(weight.shape) for weight in weights),
            num_macs=num_macs,
            paper_cost=kernel,
            size_bytes=sum(_num_bytes(weight) for weight in weights),
        )
    layers = tuple(rows.values())
    return Complexity(
        num_params=sum(row.num_params for row in layers),
        num_macs=sum(row.num_macs for row in layers),
        paper_cost=sum(row.paper_cost for row in layers),
        size_bytes=sum(row.size_bytes for row in layers),
        layers=layers,
    )


def _num_bytes(weight: Any) -> int:
    bits = int("".join(filter(str.isdigit, weight.dtype.split("_")[0])) or 8)
    return math.prod(weight.shape) * bits // 8
