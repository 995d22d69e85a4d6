"""Unpacks and checks the data of a training step."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tskd_tf.data.augmentation import as_pixels
from tskd_tf.errors import InputError

_OTHER_VIEW = (
    "Expected the images whose teacher logits are stored beside them. Received: "
    "others. Pass the augmentation to transfer_set, or train with a live teacher"
)


class Batch(NamedTuple):
    """One batch of `fit`, unpacked.

    Attributes:
        images: Shape `(batch, height, width, channels)`.
        labels: Integers of shape `(batch,)`, in the student's label space.
        sample_weight: Shape `(batch,)`, or None.
        teacher_logits: Shape `(batch, num_outputs)`, or None in validation.
    """

    images: tf.Tensor
    labels: tf.Tensor
    sample_weight: tf.Tensor | None
    teacher_logits: tf.Tensor | None


def images_of(inputs: Any) -> tf.Tensor:
    """The images of a step's inputs, with or without stored logits."""
    return inputs["images"] if isinstance(inputs, dict) else inputs


def unpack(data: Any, student: keras.Model) -> Batch:
    """Unpacks the data of a step.

    Args:
        data: The argument that Keras passes to `train_step` and `test_step`.
        student: Takes the images.

    Raises:
        InputError: If images, labels or stored logits do not fit.
    """
    inputs, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None or isinstance(labels, (dict, list, tuple)):
        raise InputError(
            "Expected batches of (images, labels), one integer label an image. "
            f"Received labels: {labels}"
        )
    if len(labels.shape) == 2 and labels.shape[-1] == 1:
        labels = tf.squeeze(labels, -1)
    if len(labels.shape) != 1 or not tf.as_dtype(labels.dtype).is_integer:
        raise InputError(
            "Expected one integer label an image, of shape (batch,). Received labels "
            f"of shape {labels.shape} and type {labels.dtype}; one-hot labels become "
            "integers by .argmax(axis=-1)"
        )
    images = _checked_images(inputs)
    wanted = tf.TensorShape([None, *student.inputs[0].shape[1:]])
    if not wanted.is_compatible_with(images.shape):
        raise InputError(
            f"Expected images of shape {wanted}, as the student takes them. Received: "
            f"{images.shape}"
        )
    labels = tf.cast(labels, tf.int32)
    logits = inputs["teacher_logits"] if isinstance(inputs, dict) else None
    return Batch(images, labels, sample_weight, logits)


def _checked_images(inputs: Any) -> tf.Tensor:
    """The images; stored logits of other images are refused."""
    images = images_of(inputs)
    if not isinstance(inputs, dict) or "teacher_pixels" not in inputs:
        return images
    seen, pixels = inputs["teacher_pixels"], as_pixels(images)
    if not pixels.shape[1:].is_compatible_with(seen.shape[1:]):
        raise InputError(_OTHER_VIEW)
    is_same = tf.reduce_all(tf.cast(pixels, tf.float32) == tf.cast(seen, tf.float32))
    with tf.control_dependencies([tf.debugging.Assert(is_same, [_OTHER_VIEW])]):
        return tf.identity(images)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Says in one line what a check inside the graph found wrong with a batch."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if _OTHER_VIEW in error.message:
            raise InputError(_OTHER_VIEW) from None
        label = re.search(
            r"label value of (-?\d+) which is outside the valid range of \[0, (\d+)\)",
            error.message,
        )
        if label is None:
            raise
        raise InputError(
            f"Expected labels from 0 to {int(label[2]) - 1}, positions among the "
            f"student's outputs. Received: {label[1]}; task.filter and transfer_set "
            "give them"
        ) from None
