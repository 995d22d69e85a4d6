"""Checks and prepares the teacher and the data of a search."""

from typing import Any

import keras

from tskd_tf.data.batches import as_arrays, check_images
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task, check_class_ids, check_pairs
from tskd_tf.errors import InputError
from tskd_tf.networks.rebuild import as_logits, with_image_shape


def as_searched(teacher: keras.Model, train: Split) -> keras.Model:
    """The teacher without its softmax, for the shape of the training images."""
    return with_image_shape(as_logits(teacher), train.images.shape[1:])


def checked_split(
    teacher: keras.Model, task: Task, split: Any, memory_limit_mb: float
) -> Split:
    """Images and class ids, after a check that they fit the teacher and the task.

    Args:
        teacher: Its input sets the shape of the images.
        task: θ; each of its classes must have images.
        split: Images and class ids, as arrays or a `tf.data.Dataset`.
        memory_limit_mb: Megabytes of images that may be held in memory.

    Raises:
        InputError: If they do not fit, or if there are sample weights.
    """
    check_pairs(split)
    images, class_ids, *others = as_arrays(split, memory_limit_mb)
    if others:
        raise InputError(
            "Expected (images, class ids) in a search. Received: a third part; for "
            "balanced classes pass Recipe(class_weights='balanced'), for your own "
            "weights train a student by Distiller and transfer_set"
        )
    check_images(images, tuple(teacher.inputs[0].shape[1:]))
    check_class_ids(class_ids, len(images), task.num_classes)
    task.indices(class_ids)
    return Split(images, class_ids)
