"""Reading and rebuilding the graph of a Functional or Sequential Keras model.

Everything here goes through what Keras publishes: `get_config`, `layers` and
`clone_model`. Subclassed models have no such graph and are refused.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from tskd_tf.errors import InputError

Shape = tuple[int | None, ...]


class LayerCall(NamedTuple):
    """One use of a layer in a model; a shared layer has several.

    `layer` is a `keras.Layer` or, for `keras.ops` in a Functional model, a
    `keras.Operation`; `input_shape` is that of its first input, with the batch.
    """

    layer: Any
    input_shape: Shape


def check_model(model: Any, name: str) -> None:
    """Refuses what is not a Functional or Sequential model of one input and output.

    Args:
        model: The model.
        name: What the caller calls it, for the message.

    Raises:
        InputError: If it is something else.
    """
    if not isinstance(model, keras.Model):
        raise InputError(
            f"Expected {name} to be a Keras model. Received: {type(model).__name__}"
        )
    if not model.built:
        raise InputError(
            f"Expected {name} to be built. Received {model.name!r}, which is not: give "
            "it an Input, or call it once on a batch of images"
        )
    if not isinstance(model, keras.Sequential) and not _is_functional(model):
        raise InputError(
            f"Expected {name} to be a Functional or Sequential Keras model. Received: "
            f"{type(model).__name__}, a subclassed model, whose layers cannot be "
            "followed from outside"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"Expected {name} to have one input and one output. Received: "
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    if len(model.inputs[0].shape) != 4 or len(model.outputs[0].shape) != 2:
        raise InputError(
            f"Expected {name} to map images (batch, height, width, channels) to "
            f"logits (batch, classes). Received: {model.inputs[0].shape} to "
            f"{model.outputs[0].shape}"
        )


def _is_functional(model: Any) -> bool:
    return hasattr(model, "inputs") and "output_layers" in model.get_config()


def layer_calls(model: keras.Model) -> Iterator[LayerCall]:
    """Every use of every layer, in the order of the graph, nested models unfolded.

    Args:
        model: A built Functional or Sequential model.

    Yields:
        `LayerCall`s; input layers are left out.
    """
    for layer, input_shape in _direct_calls(model):
        if isinstance(layer, keras.Model):
            check_nested(layer)
            yield from layer_calls(layer)
        else:
            yield LayerCall(layer, input_shape)


def check_nested(model: keras.Model) -> None:
    """Refuses a subclassed model inside a graph.

    Raises:
        InputError: If `model` is neither Functional nor Sequential.
    """
    if not isinstance(model, keras.Sequential) and not _is_functional(model):
        raise InputError(
            f"Expected nested models to be Functional or Sequential. Received "
            f"{model.name!r}, a subclassed {type(model).__name__}"
        )


def _direct_calls(model: keras.Model) -> Iterator[tuple[Any, Shape]]:
    if isinstance(model, keras.Sequential):
        shape = model.input_shape
        for layer in model.layers:
            yield layer, shape
            shape = layer.compute_output_shape(shape)
        return
    operations = {operation.name: operation for operation in model.operations}
    for layer_config in model.get_config()["layers"]:
        for node in layer_config["inbound_nodes"]:
            shapes = list(_tensor_shapes(node))
            yield operations[layer_config["name"]], shapes[0]


def _tensor_shapes(node: Any) -> Iterator[Shape]:
    """Shapes of the tensors in a serialised graph node, in the order of arguments."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        yield tuple(node["config"]["shape"])
    elif isinstance(node, dict):
        for value in node.values():
            yield from _tensor_shapes(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _tensor_shapes(value)


def output_layer(model: keras.Model) -> Any:
    """The layer or operation whose output is the model's, nested models entered."""
    if isinstance(model, keras.Sequential):
        layer = model.layers[-1]
    else:
        output = model.get_config()["output_layers"]
        while isinstance(output[0], (list, tuple)):
            output = output[0]
        layer = next(op for op in model.operations if op.name == output[0])
    return output_layer(layer) if isinstance(layer, keras.Model) else layer


def head_layer(model: keras.Model) -> keras.Layer:
    """The classifier head: the last `Dense` or convolution of the graph.

    Raises:
        InputError: If there is none, or its width is not the number of outputs.
    """
    kernels = [
        call.layer
        for call in layer_calls(model)
        if isinstance(call.layer, keras.Layer)
        and layer_width(call.layer.get_config()) is not None
    ]
    num_outputs = model.outputs[0].shape[-1]
    if not kernels or layer_width(kernels[-1].get_config()) != num_outputs:
        raise InputError(
            f"Expected the last Dense or convolution of {model.name!r} to give its "
            f"{num_outputs} outputs. Received: "
            f"{kernels[-1].name if kernels else 'no such layer'}"
        )
    return kernels[-1]


def layer_width(config: dict[str, Any]) -> int | None:
    """Number of outputs or filters a layer's config asks for; None if it has none."""
    return config.get("filters", config.get("units"))


def output_activation(model: keras.Model) -> str:
    """Name of the activation that the model's outputs have passed, e.g. `softmax`."""
    layer = output_layer(model)
    if type(layer).__name__ in ("Softmax", "Sigmoid"):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(activation.__name__)


def check_logits(model: keras.Model, name: str) -> None:
    """Refuses a model whose outputs are probabilities.

    Raises:
        InputError: If the outputs have passed a softmax or sigmoid.
    """
    activation = output_activation(model)
    if activation in ("softmax", "sigmoid", "log_softmax"):
        raise InputError(
            f"Expected {name} to give logits. Received: {model.name!r}, whose outputs "
            f"have passed a {activation}; build its head with activation=None"
        )


def rebuild(model: keras.Model, edit: Callable[[Any], Any]) -> keras.Model:
    """A new, uncompiled model of the same graph with each layer replaced.

    Args:
        model: A Functional or Sequential model.
        edit: Maps each layer or operation to its replacement; `same_layer` makes a
            plain copy.

    Returns:
        The model with new weights.
    """

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        # A replacement need not know an argument that its layer was called without
        given = {name: value for name, value in kwargs.items() if value is not None}
        return layer(*args, **given)

    copy = keras.models.clone_model(
        model,
        clone_function=edit,
        call_function=None if isinstance(model, keras.Sequential) else call,
        recursive=True,
    )
    # clone_model compiles the copy as the original was, with its loss and optimizer
    copy.optimizer = None
    copy.compiled = False
    return copy


def same_layer(layer: Any) -> Any:
    """A copy of a layer or operation with new weights."""
    return type(layer).from_config(layer.get_config())


def with_policy(model: keras.Model, dtype_policy: str) -> keras.Model:
    """The same model, weights included, computing under another dtype policy.

    The output layer stays in float32, so that logits are not rounded.
    """
    last = output_layer(model)

    def edit(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):
            return same_layer(layer)
        policy = "float32" if layer is last else dtype_policy
        return type(layer).from_config({**layer.get_config(), "dtype": policy})

    copy = rebuild(model, edit)
    copy.set_weights(model.get_weights())
    return copy


def as_logits(model: keras.Model) -> keras.Model:
    """The same model, weights included, without a softmax at its end.

    The predictions (arg-max) do not change. A model that gives logits already is
    returned as it is.

    Raises:
        InputError: For a sigmoid head, whose outputs are not one choice among the
            classes, and for a softmax that is not a layer.
    """
    activation = output_activation(model)
    if activation == "linear":
        return model
    last = output_layer(model)
    if activation != "softmax" or not isinstance(last, keras.Layer):
        raise InputError(
            "Expected a teacher that ends in logits or in a softmax layer. Received: "
            f"{last.name!r} with activation {activation}"
        )

    def edit(layer: Any) -> Any:
        if layer is not last:
            return same_layer(layer)
        if layer.weights:
            return type(layer).from_config(
                {**layer.get_config(), "activation": "linear"}
            )
        return keras.layers.Activation("linear", name=layer.name)

    copy = rebuild(model, edit)
    copy.set_weights(model.get_weights())
    return copy
