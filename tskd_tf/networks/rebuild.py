"""Rebuilds a Keras model with other layers, precision, head or image shape."""

from collections.abc import Callable
from typing import Any

import keras

from tskd_tf.errors import InputError, in_one_line
from tskd_tf.files import PathLike
from tskd_tf.networks.graph import (
    SIGMOIDS,
    SOFTMAXES,
    WAY_OUT,
    Shape,
    check_logits,
    check_model,
    is_adapted_normalization,
    is_graph,
    is_mean_of_places,
    layer_calls,
    output_activation,
    output_layers,
)
from tskd_tf.networks.layers.convolution import own_layers


def rebuild(model: keras.Model, edit: Callable[[Any], Any]) -> keras.Model:
    """A new, uncompiled model of the same graph with each layer replaced.

    Args:
        model: A Functional or Sequential model.
        edit: Maps each layer or operation to its replacement, or to a list of layers
            that replace it in this order. `same_layer` makes a plain copy. Layers of
            nested models are also mapped; the input shapes of nested models adapt.

    Returns:
        The model with new weights.

    Raises:
        InputError: If a layer cannot be rebuilt from its settings.
    """
    return _rebuild(model, edit, [value.shape for value in model.inputs], {})


def with_image_shape(model: keras.Model, image_shape: Shape) -> keras.Model:
    """Fixes the image size of a model, so that its costs can be counted.

    Args:
        model: A Functional or Sequential model for images of any size; nested models
            may also take any size.
        image_shape: `(height, width, channels)` in pixels, allowed by the model.

    Returns:
        A copy with the same weights; the model itself if all sizes are known.

    Raises:
        InputError: If the model does not take such images, if a nested model is used
            at several sizes, or if a layer cannot be rebuilt from its settings.
    """
    shapes = [shape for call in layer_calls(model) for shape in call.input_shapes]
    if all(None not in shape[1:] for shape in shapes):
        return model
    shape = (model.inputs[0].shape[0], *image_shape)
    try:
        copy = _rebuild(model, same_layer, [shape], {}, fix_sizes=True)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        reason = in_one_line(error)
        raise InputError(
            f"Expected a model for images of shape {tuple(image_shape)}, its nested "
            "models used at one size each, so that multiply-adds can be counted. "
            f"Received: {model.name!r}. Keras says: {reason}"
        ) from error
    copy_weights(model, copy)
    return copy


def _rebuild(
    model: keras.Model,
    edit: Callable[[Any], Any],
    input_shapes: list[Shape],
    copies: dict[int, list[Any]],
    fix_sizes: bool = False,
) -> keras.Model:
    inputs = [
        keras.Input(
            batch_shape=shape if fix_sizes else (*value.shape[:-1], shape[-1]),
            dtype=value.dtype,
            name=value.name,
        )
        for value, shape in zip(model.inputs, input_shapes)
    ]

    def copies_of(layer: Any, shapes: list[Shape]) -> list[Any]:
        if id(layer) not in copies:
            copies[id(layer)] = (
                [_rebuild(layer, edit, shapes, copies, fix_sizes)]
                if is_graph(layer)
                else _edited(layer, edit)
            )
        return copies[id(layer)]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        # A replacement may lack an argument that was not given to its layer
        given = {name: value for name, value in kwargs.items() if value is not None}
        tensors = keras.tree.flatten((args, given))
        tensors = [value for value in tensors if keras.utils.is_keras_tensor(value)]
        first, *others = copies_of(layer, [value.shape for value in tensors])
        value = first(*args, **given)
        for other in others:
            value = other(value)
        return value

    if isinstance(model, keras.Sequential):
        value, layers = inputs[0], []
        for layer in model.layers:
            value = call(layer, value)
            layers += copies[id(layer)]
        return keras.Sequential([inputs[0], *layers], name=model.name)
    copy = keras.models.clone_model(
        model,
        input_tensors=keras.tree.pack_sequence_as(model.input, inputs),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    # clone_model also copies the original's loss and optimizer
    copy.optimizer = None
    copy.compiled = False
    return copy


def _edited(layer: Any, edit: Callable[[Any], Any]) -> list[Any]:
    try:
        replacement = edit(layer)
        return replacement if isinstance(replacement, list) else [replacement]
    except InputError:
        raise
    except Exception as error:  # a user's layer may raise anything
        reason = in_one_line(error)
        # A file with a Lambda could not be loaded again either
        is_code = isinstance(layer, keras.layers.Lambda)
        instead = "put layers of Keras or keras.ops in its place"
        raise InputError(
            "Expected layers that can be rebuilt from their settings. Received: "
            f"{layer.name!r} of type {type(layer).__name__}; "
            f"{instead if is_code else WAY_OUT}. Keras says: {reason}"
        ) from error


def as_functional(model: Any, image_shape: Shape) -> Any:
    """A subclassed classifier as the one layer of a Functional model.

    Args:
        model: A Keras model; a Functional or Sequential one is returned unchanged.
        image_shape: `(height, width, channels)` of its images.

    Raises:
        InputError: If the model does not take such images.
    """
    if not isinstance(model, keras.Model) or is_graph(model):
        return model
    image = keras.Input(image_shape, name="image")
    try:
        return keras.Model(image, model(image), name=model.name)
    except (ValueError, TypeError) as error:
        reason = in_one_line(error)
        raise InputError(
            f"Expected {model.name!r} to take images of shape {tuple(image_shape)}. "
            f"Keras says: {reason}"
        ) from error


def same_layer(layer: Any) -> Any:
    """A copy of a layer or operation with new weights."""
    return type(layer).from_config(layer.get_config())


def unfreeze(model: keras.Model) -> None:
    """Makes every layer of a model trainable, also in nested models."""
    model.trainable = True
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            unfreeze(layer)
        else:
            layer.trainable = True


def load_kept_model(path: PathLike) -> keras.Model:
    """Loads a `.keras` file, uncompiled and without foreign code (safe mode).

    Raises:
        InputError: If the file cannot be loaded.
    """
    try:
        return keras.saving.load_model(
            path, custom_objects=own_layers(), compile=False, safe_mode=True
        )
    except Exception as error:  # a damaged file may raise anything
        reason = in_one_line(error)
        raise InputError(
            f"Expected a .keras file that loads without foreign code. Received: {path} "
            f"({type(error).__name__}: {reason})"
        ) from None


def copy_weights(source: keras.Model, copy: keras.Model) -> None:
    """Copies a model's weights to its copy, adapted normalisation included."""
    copy.set_weights(source.get_weights())
    for call in layer_calls(copy):
        if is_adapted_normalization(call.layer):
            call.layer.finalize_state()


def with_policy(model: keras.Model, dtype_policy: str) -> keras.Model:
    """A copy of a model, weights included, with another dtype policy.

    The output layers compute in float32, so that logits are not rounded.
    """
    last = output_layers(model)

    def edit(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):
            return same_layer(layer)
        is_last = any(layer is other for other in last)
        policy = "float32" if is_last else dtype_policy
        return type(layer).from_config({**layer.get_config(), "dtype": policy})

    copy = rebuild(model, edit)
    copy_weights(model, copy)
    return copy


def as_logits(model: keras.Model) -> keras.Model:
    """A copy of a classifier, weights included, without the softmax at its end.

    The softmax may be a layer, the activation of the head, an operation
    (`keras.ops.softmax`), or any of these at the end of a nested model. The
    predictions (arg-max) do not change. The softmax of the copy's outputs equals the
    outputs of `model`.

    Args:
        model: A built Functional or Sequential classifier of images.

    Returns:
        An uncompiled copy; the model itself if it gives logits already.

    Raises:
        InputError: If the model is of another kind, if its head is a sigmoid, which
            decides each class separately, or if removing the softmax would change the
            predictions.

    Example:

    >>> teacher = as_logits(keras.applications.MobileNetV2(weights="imagenet"))
    """
    check_model(model, "the model")
    activation = output_activation(model)
    if activation not in SOFTMAXES:
        if activation in SIGMOIDS:
            check_logits(model, "the model")
        return model
    *after, last = output_layers(model)
    if any(is_mean_of_places(layer) for layer in after):
        raise InputError(
            f"Expected a {activation} after which nothing changes the outputs. "
            f"Received: {model.name!r}, where a pooling averages the probabilities of "
            f"{last.name!r}; train a head with the pooling before the {activation}"
        )
    if sum(call.layer is last for call in layer_calls(model)) > 1:
        raise InputError(
            f"Expected a {activation} that is used for the outputs only. "
            f"Received: {model.name!r}, which also uses {last.name!r} elsewhere; add a "
            f"separate {activation} for the outputs"
        )

    def edit(layer: Any) -> Any:
        if layer is not last:
            return same_layer(layer)
        if isinstance(layer, keras.Layer) and layer.weights:
            return type(layer).from_config(
                {**layer.get_config(), "activation": "linear"}
            )
        return keras.layers.Activation("linear", name=layer.name)

    copy = rebuild(model, edit)
    copy_weights(model, copy)
    return copy
