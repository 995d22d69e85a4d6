"""Soft targets: the teacher's logits for D(θ), captured once (Algorithm 1, step 3).

Logits are stored instead of probabilities, so that one pass serves all temperatures.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.data.augmentation import Augmentation, as_pixels
from tskd_tf.data.batches import as_arrays, batches, check_images
from tskd_tf.data.images import MEMORY_LIMIT_MB, Images, chunks
from tskd_tf.data.task import (
    Task,
    check_class_ids,
    check_num_outputs,
    check_pairs,
    check_task,
    first_batch_size,
)
from tskd_tf.errors import InputError
from tskd_tf.networks.evaluate import predict_logits
from tskd_tf.networks.graph import check_logits, check_model

DEFAULT_BATCH_SIZE = 128
DEFAULT_NUM_VIEWS = 8


class TransferSet(NamedTuple):
    """D(θ) with the teacher's logits of each example.

    Attributes:
        images: Images of the data set, shape `(n, height, width, channels)`.
        labels: int32 of shape `(n,)`, in the student's label space.
        teacher_logits: float32 of shape `(n, num_outputs)`; with stored views
            `(n, num_views, num_outputs)`.
        sample_weights: float32 of shape `(n,)`. Default: None.
        augmentation: Augmentation from which views were drawn. Default: none.
        views: The views that the teacher saw, int32 of shape `(n, num_views, 3)`.
            Default: None, the teacher saw the unchanged images.
        task: θ. Default: None, unknown.
    """

    images: Images
    labels: np.ndarray
    teacher_logits: np.ndarray
    sample_weights: np.ndarray | None = None
    augmentation: Augmentation = Augmentation()
    views: np.ndarray | None = None
    task: Task | None = None

    def for_task(self, task: Task) -> "TransferSet":
        """The transfer set of a task within this one; the teacher does not run.

        So one pass of the teacher serves several devices with their own classes and
        heads.

        Args:
            task: A task whose classes all have examples in this set.

        Raises:
            InputError: If this set lacks logits of the teacher, or a class of the task.

        Example:

        >>> everything = capture_soft_targets((images, class_ids), teacher)
        >>> batches = everything.for_task(Task([7, 2, 4], 10)).batches()
        """
        all_ids = list(range(task.num_classes))
        if self.task is None or self.task.output_class_ids != all_ids:
            raise InputError(
                "Expected soft targets with the logits of all "
                f"{task.num_classes} classes of the data. Received: those of "
                f"{self.task}; capture them with a full head"
            )
        chosen = task.indices(self.labels)
        weights, views = self.sample_weights, self.views
        return TransferSet(
            self.images[chosen],
            task.to_labels(self.labels[chosen]),
            task.select_logits(self.teacher_logits[chosen]),
            None if weights is None else weights[chosen],
            self.augmentation,
            None if views is None else views[chosen],
            task,
        )

    def batches(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        seed: int | None = 1,
        smallest_batch: int = 1,
    ) -> tf.data.Dataset:
        """Shuffled batches for `Distiller.fit`, of known cardinality.

        Each batch is `({"images", "teacher_logits", "teacher_pixels"}, labels)`, with
        sample weights as a third part if there are any. The logits are inputs, so that
        Keras has one target and applies `class_weight` to it. By the pixels, the
        `Distiller` detects images that differ from those that the teacher saw. With
        stored views, each epoch draws one view of each example.

        Args:
            batch_size: Examples per batch, ≥ 1; the last may be smaller. Default: 128.
            seed: Seed of the order, which is new in each epoch; None keeps the order.
                Default: 1.
            smallest_batch: A last batch with fewer examples is left out. Default: 1.
        """
        inputs = {"images": self.images, "teacher_logits": self.teacher_logits}
        if self.views is not None:
            inputs["views"] = self.views
        weights = () if self.sample_weights is None else (self.sample_weights,)
        arrays = (inputs, self.labels, *weights)
        return batches(arrays, batch_size, seed, self._finish, smallest_batch)

    def _finish(self, batch: Any, seed: tf.Tensor) -> Any:
        inputs, *others = batch
        if self.views is not None:
            size, num_views = tf.shape(others[0]), self.views.shape[1]
            pick = tf.random.stateless_uniform(size, seed, 0, num_views, tf.int32)
            views = tf.gather(inputs["views"], pick, batch_dims=1)
            logits = tf.gather(inputs["teacher_logits"], pick, batch_dims=1)
            images = self.augmentation.apply(inputs["images"], views)
            inputs = {"images": images, "teacher_logits": logits}
        pixels = as_pixels(inputs["images"])
        return ({**inputs, "teacher_pixels": pixels}, *others)


def check_teacher(teacher: keras.Model, task: Task) -> None:
    """Checks that a teacher gives a logit for each class of the data.

    Raises:
        InputError: If the teacher or the task does not fit.
    """
    check_task(task)
    check_model(teacher, "the teacher")
    check_logits(teacher, "the teacher")
    check_num_outputs(teacher.name, teacher.outputs[0].shape[-1], task)


def transfer_set(
    dataset: Any,
    teacher: keras.Model,
    task: Task | None = None,
    batch_size: int | None = None,
    seed: int = 1,
    augmentation: Augmentation = Augmentation(),
    num_views: int = DEFAULT_NUM_VIEWS,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
) -> tf.data.Dataset:
    """The transfer set D(θ) with stored soft targets, ready for `Distiller.fit`.

    The data set is read once, and the teacher runs once. The result serves any number
    of students and epochs. Images are held in memory (one byte per value for uint8) or,
    above the limit, in a temporary file.

    Args:
        dataset: A finite `tf.data.Dataset` of `(images, class ids)` batches, or a
            pair of arrays; optionally with sample weights as a third part. The teacher
            must accept the images.
        teacher: A model with a logit for each class of the data set.
        task: The classes to keep, and the head. Default: all classes.
        batch_size: Examples per batch, ≥ 1. Default: that of the data set, 128 for
            arrays.
        seed: Seed of the views, and of the order, which is new in each epoch. Default:
            1.
        augmentation: Augmentation whose views both teacher and student see. Default:
            none.
        num_views: Number of views per image with an augmentation, ≥ 1. The teacher's
            logits of each view are stored (4 bytes per output), and the images once.
            `augmentation.map` with a live teacher draws new views instead. Default: 8.
        memory_limit_mb: Megabytes of images that may be held in memory.

    Returns:
        A `tf.data.Dataset` of known cardinality.

    Raises:
        InputError: If the images, labels, teacher and task do not fit each other.

    Example:

    >>> distiller.fit(transfer_set((images, class_ids), teacher, task), epochs=10)
    """
    check_pairs(dataset)
    if batch_size is None:
        batch_size = DEFAULT_BATCH_SIZE
        if isinstance(dataset, tf.data.Dataset):
            batch_size = first_batch_size(dataset)
    stored = capture_soft_targets(
        dataset, teacher, task, seed, augmentation, num_views, memory_limit_mb
    )
    return stored.batches(batch_size, seed)


def capture_soft_targets(
    dataset: Any,
    teacher: keras.Model,
    task: Task | None = None,
    seed: int = 1,
    augmentation: Augmentation = Augmentation(),
    num_views: int = DEFAULT_NUM_VIEWS,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
) -> TransferSet:
    """Captures soft targets in one pass, for several tasks: see `TransferSet.for_task`.

    Args:
        dataset: Images, class ids and optional sample weights, as in `transfer_set`.
        teacher: A model with a logit for each class of the data set.
        task: The classes to keep, and the head. Default: all classes.
        seed: Seed of the views. Default: 1.
        augmentation: Augmentation whose views both teacher and student see. Default:
            none.
        num_views: Number of views per image with an augmentation, ≥ 1. Default: 8.
        memory_limit_mb: Megabytes of images that may be held in memory.

    Raises:
        InputError: If the images, labels, teacher and task do not fit each other.

    Example:

    >>> everything = capture_soft_targets((images, class_ids), teacher)
    >>> for task in (Task([0, 1], 10), Task([7, 2, 4], 10, head="task")):
    ...     student = scale_width(teacher, 0.25, task)
    ...     Distiller(student, task=task).fit(everything.for_task(task).batches())
    """
    check_model(teacher, "the teacher")
    check_pairs(dataset)
    if task is None:
        num_classes = teacher.outputs[0].shape[-1]
        task = Task(range(num_classes), num_classes)
    images, class_ids, *weights = as_arrays(dataset, memory_limit_mb)
    stored = capture(teacher, images, class_ids, task, augmentation, num_views, seed)
    if not weights:
        return stored
    chosen = weights[0][task.indices(class_ids)]
    return stored._replace(sample_weights=chosen.astype(np.float32))


def capture(
    teacher: keras.Model,
    images: Images,
    class_ids: np.ndarray,
    task: Task,
    augmentation: Augmentation = Augmentation(),
    num_views: int = DEFAULT_NUM_VIEWS,
    seed: int = 1,
) -> TransferSet:
    """Selects D(θ) and runs the teacher on it: once, or once for each view.

    Args:
        teacher: A model with a logit for each class of the data set.
        images: All images, shape `(n, height, width, channels)`.
        class_ids: Class ids of the images, integers of shape `(n,)`.
        task: θ.
        augmentation: Augmentation from which views are drawn. Default: none.
        num_views: Number of views per image with an augmentation, ≥ 1. Default: 8.
        seed: Seed of the views. Default: 1.

    Raises:
        InputError: If the arguments do not fit each other, or if the teacher gives
            probabilities, NaN or infinity.
    """
    check_teacher(teacher, task)
    check_images(images, tuple(teacher.inputs[0].shape[1:]))
    check_class_ids(class_ids, len(images), task.num_classes)
    augmentation.check()
    if augmentation and num_views < 1:
        raise InputError(f"Expected num_views from 1 on. Received: {num_views}")
    chosen = task.indices(class_ids)
    images, labels = images[chosen], task.to_labels(class_ids[chosen])
    if not augmentation:
        logits = _teacher_logits(teacher, images, task)
        return TransferSet(images, labels, logits, task=task)
    draws = augmentation.draw(len(images) * num_views, (seed, num_views))
    views = draws.numpy().reshape(len(images), num_views, 3)
    of_each_view = [
        np.concatenate(
            [
                _teacher_logits(
                    teacher,
                    augmentation.apply(np.asarray(images[part]), views[part, k]),
                    task,
                )
                for part in chunks(len(images))
            ]
        )
        for k in range(num_views)
    ]
    return TransferSet(
        images,
        labels,
        np.stack(of_each_view, axis=1),
        augmentation=augmentation,
        views=views,
        task=task,
    )


def _teacher_logits(teacher: keras.Model, images: Any, task: Task) -> np.ndarray:
    all_logits = predict_logits(teacher, images)
    if (all_logits >= 0).all() and np.allclose(all_logits.sum(axis=-1), 1, atol=1e-3):
        raise InputError(
            f"Expected the teacher to give logits. Received: {teacher.name!r}, whose "
            "outputs are probabilities; build its head with activation=None, or remove "
            "a softmax at its end with tskd_tf.as_logits"
        )
    logits: np.ndarray = task.select_logits(all_logits)
    if not np.isfinite(logits).all():
        raise InputError(
            f"Expected finite teacher logits. Received: {teacher.name!r} gives NaN or "
            "infinity on the transfer set"
        )
    return logits
