"""Reads the graph of a Functional or Sequential Keras model.

Only the public `get_config` and `layers` are used. A subclassed model has no such
graph; nested in another model, it is treated as one layer.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from tskd_tf.errors import InputError

Shape = tuple[int | None, ...]

# For networks whose channels cannot be followed
WAY_OUT = (
    "build the students by hand: a function of the rate as build_student=, or "
    "--student_builder=package.module:function"
)
# Layers that change images in training only; their names do not start with Rand
_OTHER_VIEWS = ("AugMix", "CutMix", "MixUp", "Solarization")
SOFTMAXES = ("softmax", "log_softmax")
SIGMOIDS = ("sigmoid", "hard_sigmoid")
# Layers and operations that only apply an activation
_ACTIVATION_KINDS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
}


class LayerCall(NamedTuple):
    """One use of a layer in a model; a shared layer has several.

    Attributes:
        layer: A `keras.Layer` or, for `keras.ops`, a `keras.Operation`.
        input_shapes: The shape of each input, with the batch.
        output_shape: The shape of the first output in use, with the batch.
        num_outputs: Number of outputs up to the last one in use.
    """

    layer: Any
    input_shapes: list[Shape]
    output_shape: Shape
    num_outputs: int


def check_model(model: Any, name: str) -> None:
    """Checks that a model is a Functional or Sequential classifier of images.

    Args:
        model: The model.
        name: What the caller calls it, for the message.

    Raises:
        InputError: If it is something else.
    """
    check_graph(model, name)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"Expected {name} to have one input and one output. Received: "
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    if isinstance(model.get_config().get("output_layers"), dict):
        raise InputError(
            f"Expected {name} to return its logits as one tensor. Received: "
            f"{model.name!r}, which returns a dictionary; pass "
            "keras.Model(model.inputs[0], model.outputs[0])"
        )
    if len(model.inputs[0].shape) != 4 or len(model.outputs[0].shape) != 2:
        raise InputError(
            f"Expected {name} to map images (batch, height, width, channels) to "
            f"logits (batch, classes). Received: {model.inputs[0].shape} to "
            f"{model.outputs[0].shape}"
        )


def check_graph(model: Any, name: str) -> None:
    """Checks that a model is a built Functional or Sequential model.

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
            f"Expected {name} to be built. Received: {model.name!r}, which is not; "
            "give it an Input, or call it once on a batch of images"
        )
    if not is_graph(model):
        raise InputError(
            f"Expected {name} to be a Functional or Sequential Keras model. Received: "
            f"{type(model).__name__}, a subclassed model, which has no graph of layers"
            + (f"; {WAY_OUT}" if name == "the teacher" else "")
        )


def is_graph(model: Any) -> bool:
    """Whether an object is a Functional or Sequential model, built or not."""
    if isinstance(model, keras.Sequential):
        return True
    is_model = isinstance(model, keras.Model) and hasattr(model, "inputs")
    return is_model and "output_layers" in model.get_config()


def _is_functional(operation: Any) -> bool:
    return any(kind.__name__ == "Functional" for kind in type(operation).__mro__)


def layer_calls(model: keras.Model) -> list[LayerCall]:
    """Every use of every layer, in the order of the graph, those of nested models too.

    Args:
        model: A built Functional or Sequential model.

    Returns:
        `LayerCall`s, without input layers.
    """
    calls: list[LayerCall] = []

    def step(call: LayerCall, values: list[Any]) -> list[Any]:
        calls.append(call)
        # The values are not used; only their number matters
        return [None] * max(1, call.num_outputs)

    follow(model, [None] * len(model.inputs), step)
    return calls


def follow(
    model: keras.Model,
    values: list[Any],
    step: Callable[[LayerCall, list[Any]], list[Any]],
) -> list[Any]:
    """Carries values through the graph of a model and of the models nested in it.

    Args:
        model: A built Functional or Sequential model.
        values: One value for each input of the model.
        step: Maps a use of a layer, and the values of its inputs, to the values of its
            outputs.

    Returns:
        One value for each output of the model.
    """
    if isinstance(model, keras.Sequential):
        shape = model.input_shape
        for layer in model.layers:
            output_shape = _output_shape(layer, shape)
            values = _enter(LayerCall(layer, [shape], output_shape, 1), values, step)
            shape = output_shape
        return values
    config = model.get_config()
    operations = {operation.name: operation for operation in model.operations}
    waiting = [
        (layer["name"], index, list(_tensors(node)))
        for layer in config["layers"]
        for index, node in enumerate(layer["inbound_nodes"])
    ]
    shapes = {
        tuple(tensor["keras_history"]): tuple(tensor["shape"])
        for _, _, tensors in waiting
        for tensor in tensors
    }
    outputs = [
        # Here Keras counts the calls of a nested Functional model from 1, others from 0
        (name, index - _is_functional(operations[name]), number)
        for name, index, number in _histories(config["output_layers"])
    ]
    shapes.update(zip(outputs, (tuple(output.shape) for output in model.outputs)))
    used: dict[tuple[str, int], list[int]] = {}
    for name, index, number in shapes:
        used.setdefault((name, index), []).append(number)
    known = dict(zip(_histories(config["input_layers"]), values))
    while waiting:
        later = []
        for name, index, tensors in waiting:
            inputs = [tuple(tensor["keras_history"]) for tensor in tensors]
            if not all(history in known for history in inputs):
                # A layer is listed once; its second use may need later layers
                later.append((name, index, tensors))
                continue
            numbers = used[name, index]
            call = LayerCall(
                operations[name],
                [shapes[history] for history in inputs],
                shapes[name, index, min(numbers)],
                max(numbers) + 1,
            )
            results = _enter(call, [known[history] for history in inputs], step)
            known.update(
                ((name, index, number), result) for number, result in enumerate(results)
            )
        waiting = later
    return [known[history] for history in outputs]


def _output_shape(layer: keras.Layer, shape: Shape) -> Shape:
    try:
        return tuple(layer.compute_output_shape(shape))
    except NotImplementedError:
        # A user's layer may lack this method; Keras then traces its call
        traced = layer.compute_output_spec(keras.KerasTensor(shape))
        return tuple(traced.shape)


def _enter(
    call: LayerCall,
    values: list[Any],
    step: Callable[[LayerCall, list[Any]], list[Any]],
) -> list[Any]:
    if not is_graph(call.layer):
        return step(call, values)
    return follow(call.layer, values, step)


def _histories(structure: Any) -> Iterator[tuple[str, int, int]]:
    """The tensors in a config's `input_layers` or `output_layers`."""
    if isinstance(structure, dict):
        structure = list(structure.values())
    if structure and isinstance(structure[0], str):
        name, node, number = structure
        yield name, node, number
        return
    for part in structure:
        yield from _histories(part)


def _tensors(node: Any) -> Iterator[dict[str, Any]]:
    """The tensors in a serialised graph node, in the order of arguments."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        yield node["config"]
    elif isinstance(node, dict):
        for value in node.values():
            yield from _tensors(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _tensors(value)


def output_layers(model: keras.Model) -> list[Any]:
    """The last layers of a model, from the end backwards, those of nested models too.

    First come layers that pass values through: dropout, a linear activation, a cast, a
    change of shape, a mean over a feature map. The last entry of the list is the layer
    before them. It decides whether the outputs are logits or probabilities.
    """
    found: list[Any] = []
    for layer in _from_the_end(model):
        found += output_layers(layer) if is_graph(layer) else [layer]
        if not _passes_through(found[-1]):
            break
    return found


def _from_the_end(model: keras.Model) -> Iterator[Any]:
    if isinstance(model, keras.Sequential):
        yield from reversed(model.layers)
        return
    config = model.get_config()
    nodes = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
    operations = {operation.name: operation for operation in model.operations}
    name, *_ = next(_histories(config["output_layers"]))
    while nodes[name]:
        yield operations[name]
        name = next(_tensors(nodes[name]))["keras_history"][0]


def _passes_through(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Activation):
        return bool(layer.activation.__name__ == "linear")
    kinds = ("Cast", "Dropout", "Flatten", "Identity", "Reshape")
    return type(layer).__name__ in kinds or is_mean_of_places(layer)


def is_mean_of_places(layer: Any) -> bool:
    """Whether a layer averages a feature map over height and width."""
    return type(layer).__name__ in ("AveragePooling2D", "GlobalAveragePooling2D")


def head_layer(model: keras.Model) -> keras.Layer:
    """The classifier head: the last `Dense` or convolution of the graph.

    Raises:
        InputError: If there is no head, or its width is not the number of outputs.
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


def is_random_view(layer: Any) -> bool:
    """Whether a layer shows a random view of its images in training (`RandomFlip`, …).

    `RandomCrop` does not count: later layers expect the size of the crop, so that it
    cannot be removed.
    """
    name = type(layer).__name__
    kinds = type(layer).__module__
    is_of_keras = kinds.startswith("keras.") and "image_preprocessing" in kinds
    is_random = name.startswith("Rand") and name != "RandomCrop"
    return is_of_keras and (is_random or name in _OTHER_VIEWS)


def is_random_crop(layer: Any) -> bool:
    """Whether a layer is a `RandomCrop`, which does not crop in inference."""
    return isinstance(layer, keras.layers.RandomCrop)


def random_view_layers(model: keras.Model) -> list[str]:
    """Names of the layers that show random views in training."""
    return [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if is_random_view(layer) or is_random_crop(layer)
    ]


def layer_width(config: dict[str, Any]) -> int | None:
    """Number of filters or units in a layer's config, or None."""
    return config.get("filters", config.get("units"))


def is_per_channel(layer: Any) -> bool:
    """Whether it is a Keras layer with weights that treats each channel separately."""
    kinds = (
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "LayerScale",
        "Normalization",
        "PReLU",
        "RMSNormalization",
    )
    return type(layer).__module__.startswith("keras.") and type(layer).__name__ in kinds


def output_activation(model: keras.Model) -> str:
    """Name of the activation that gives the model's outputs, e.g. `softmax`."""
    layer = output_layers(model)[-1]
    if type(layer).__name__ in _ACTIVATION_KINDS:
        return _ACTIVATION_KINDS[type(layer).__name__]
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(activation.__name__)


def check_logits(model: keras.Model, name: str) -> None:
    """Checks that the outputs of a model are not probabilities.

    Raises:
        InputError: If the outputs have passed a softmax or sigmoid.
    """
    activation = output_activation(model)
    if activation in SOFTMAXES:
        raise InputError(
            f"Expected {name} to give logits. Received: {model.name!r}, whose outputs "
            f"have passed a {activation}; tskd_tf.as_logits(model) removes it and "
            "changes no prediction"
        )
    if activation in SIGMOIDS:
        raise InputError(
            f"Expected {name} to give logits of which the largest is the answer. "
            f"Received: {model.name!r}, whose outputs have passed a {activation}. It "
            "decides each class separately, so that an image may have several classes "
            "or none, while the softmax of Eq. 5 chooses one class; train a head with "
            "one logit per class and a softmax cross entropy"
        )


def is_adapted_normalization(layer: Any) -> bool:
    """Whether a layer is a `Normalization` that learnt its statistics by `adapt`."""
    return isinstance(layer, keras.layers.Normalization) and layer.input_mean is None
