"""Loads a user's teacher from a file and makes it take raw images."""

import os

import keras

from tskd_tf.errors import InputError
from tskd_tf.networks.graph import check_model, is_graph
from tskd_tf.networks.rebuild import (
    as_functional,
    as_logits,
    load_kept_model,
    with_image_shape,
)

# (scale, offset) that maps raw images, 0 to 255, to the range of the teacher's training
INPUT_RANGES: dict[str, tuple[float, float] | None] = {
    "0:255": None,
    "0:1": (1 / 255, 0.0),
    "-1:1": (1 / 127.5, -1.0),
}


def load_teacher(
    path: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    input_range: str = "0:255",
) -> keras.Model:
    """Loads a trained classifier from a `.keras` file.

    The file is opened in safe mode: a file with code (a Lambda layer) is refused. A
    softmax at the end is removed. Pixel scaling is added in front if `input_range`
    needs it. So the returned model takes raw images and gives logits.

    Args:
        path: Path of the `.keras` file.
        image_shape: `(height, width, channels)` of the data.
        num_classes: Number of classes of the data.
        input_range: Pixel range that the teacher was trained on, one of
            `INPUT_RANGES`. Default: `"0:255"`.

    Raises:
        InputError: If the file cannot be loaded or does not fit the data.
    """
    check_input_range(input_range)
    model = _open(path, image_shape)
    got = tuple(model.inputs[0].shape[1:])
    if any(a is not None and a != b for a, b in zip(got, image_shape, strict=True)):
        raise InputError(
            f"Expected a teacher for images of shape {image_shape}. Received: {path}, "
            f"which takes {got}"
        )
    if model.outputs[0].shape[-1] != num_classes:
        raise InputError(
            f"Expected a teacher with an output for each of the {num_classes} classes "
            f"of the data. Received: {path} with {model.outputs[0].shape[-1]} outputs"
        )
    model = with_image_shape(model, image_shape)
    return _with_input_range(model, image_shape, input_range)


def teacher_shapes(path: str) -> tuple[tuple[int | None, ...], int]:
    """The image shape and the number of outputs of a teacher in a file.

    Args:
        path: Path of the `.keras` file.

    Returns:
        `(height, width, channels)` with None for any size, and the number of outputs.
        The shape of a subclassed model is that of its first call.

    Raises:
        InputError: If the file cannot be loaded, or is not an image classifier.
    """
    model = _open(path)
    return tuple(model.inputs[0].shape[1:]), int(model.outputs[0].shape[-1])


def _open(path: str, image_shape: tuple[int, ...] | None = None) -> keras.Model:
    if not os.path.isfile(path) or not path.endswith(".keras"):
        reason = "not a .keras file" if os.path.exists(path) else "no such file"
        raise InputError(
            "Expected a teacher out of lenet, cifar10_full, cifar10_quick, or the path "
            f"of a .keras file. Received: {path} ({reason})"
        )
    model = load_kept_model(path)
    if image_shape is None and isinstance(model, keras.Model) and not is_graph(model):
        # A subclassed model only knows the shape of its first call
        built_for = (model.get_build_config() or {}).get("input_shape") or ()
        image_shape = tuple(built_for[1:]) if len(built_for) == 4 else None
    if image_shape is not None:
        model = as_functional(model, image_shape)
    check_model(model, "the teacher")
    return as_logits(model)


def check_input_range(input_range: str) -> None:
    """Checks a pixel range.

    Raises:
        InputError: If it is not one of `INPUT_RANGES`.
    """
    if input_range not in INPUT_RANGES:
        raise InputError(
            f"Expected input_range out of {', '.join(INPUT_RANGES)}. "
            f"Received: {input_range}"
        )


def _with_input_range(
    model: keras.Model, image_shape: tuple[int, ...], input_range: str
) -> keras.Model:
    scaling = INPUT_RANGES[input_range]
    if scaling is None:
        return model
    image = keras.Input(image_shape, name="image")
    scaled = keras.layers.Rescaling(*scaling, name="input_range")(image)
    return keras.Model(image, model(scaled), name=f"{model.name}_raw")
