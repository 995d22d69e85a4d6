"""The task θ: the classes a device cares about, and the student's label space."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tskd_tf.errors import InputError
from tskd_tf.images import as_images

_HOW_TO_FLATTEN = (
    "; one-hot labels become class ids by .argmax(axis=-1), a column by [:, 0]"
)


class Task:
    """The task θ of Shi et al. 2017: the class ids of interest, in the user's order.

    Three numberings meet here. *Class ids* are the data set's own. *Outputs* are the
    student's logits: all the teacher's for a full head, one a task class for a task
    head, in the order of `class_ids`. *Labels* are positions among the outputs, so
    for a full head they are the class ids themselves.

    Args:
        class_ids: At least two different integers in `[0, num_classes)`.
        num_classes: Number of classes of the data set, and of the teacher's outputs.
        head: `"full"` (the paper's: the student keeps the teacher's outputs) or
            `"task"` (one output a task class).
        class_names: Names of all `num_classes` classes; the ids as text by default.

    Raises:
        InputError: If a class id is unknown, given twice, or fewer than two are given.

    Example:

    >>> task = Task([7, 2, 4], num_classes=10, head="task")
    >>> task.to_labels(np.array([2, 7]))
    array([1, 0], dtype=int32)
    """

    def __init__(
        self,
        class_ids: Sequence[int],
        num_classes: int,
        head: str = "full",
        class_names: Sequence[str] | None = None,
    ) -> None:
        if head not in ("full", "task"):
            raise InputError(f"Expected head 'full' or 'task'. Received: head={head!r}")
        ids = [int(class_id) for class_id in class_ids]
        unknown = [class_id for class_id in ids if not 0 <= class_id < num_classes]
        if unknown:
            raise InputError(
                f"Expected class ids from 0 to {num_classes - 1}. "
                f"Received: {unknown}"
            )
        repeated = sorted({class_id for class_id in ids if ids.count(class_id) > 1})
        if repeated:
            raise InputError(f"Expected each class once. Received twice: {repeated}")
        if len(ids) < 2:
            raise InputError(
                "Expected at least two classes: a classifier of fewer has nothing to "
                f"tell apart. Received: class_ids={ids}"
            )
        names = [str(i) for i in range(num_classes)]
        if class_names is not None:
            names = [str(name) for name in class_names]
        if len(names) != num_classes:
            raise InputError(
                f"Expected {num_classes} class names. Received: {len(names)}"
            )
        self.class_ids = ids
        self.num_classes = int(num_classes)
        self.head = head
        self.class_names = names
        output_ids = ids if head == "task" else list(range(num_classes))
        self.output_class_ids = output_ids
        labels = np.full(num_classes, -1, dtype=np.int32)
        labels[ids] = np.arange(len(ids)) if head == "task" else ids
        self._label_of_class_id = labels

    @classmethod
    def from_names(
        cls,
        classes: Sequence[str],
        class_names: Sequence[str],
        head: str = "full",
    ) -> "Task":
        """The task of classes given by name or id; an empty list means all classes.

        Args:
            classes: Names out of `class_names`, or class ids written as text. A text
                that is both is taken as a name.
            class_names: Names of all classes of the data set, by class id.
            head: As in the constructor.

        Raises:
            InputError: If a class is unknown, repeated, or fewer than two are given.
        """
        names = list(class_names)
        known = {name: class_id for class_id, name in enumerate(names)}
        for class_id in range(len(names)):
            known.setdefault(str(class_id), class_id)
        unknown = [name for name in classes if name not in known]
        if unknown:
            raise InputError(
                f"Expected class names or ids out of {', '.join(names)} "
                f"(ids 0 to {len(names) - 1}). Received: {unknown}"
            )
        ids = [known[name] for name in classes] or range(len(names))
        return cls(ids, len(names), head=head, class_names=names)

    @property
    def num_outputs(self) -> int:
        """Number of the student's logits."""
        return len(self.output_class_ids)

    @property
    def output_names(self) -> list[str]:
        """Names of the classes of the student's logits, in their order."""
        return [self.class_names[class_id] for class_id in self.output_class_ids]

    def to_labels(self, class_ids: np.ndarray) -> np.ndarray:
        """Class ids, any shape → int32 labels; −1 where the class is not in θ."""
        return self._label_of_class_id[class_ids]

    def indices(self, class_ids: np.ndarray) -> np.ndarray:
        """Positions of the examples of D(θ), ascending.

        Args:
            class_ids: Integers of shape `(num_examples,)`.

        Raises:
            InputError: If a class of the task has no example.
        """
        labels = self.to_labels(class_ids)
        absent = sorted(set(self.class_ids) - set(np.unique(class_ids).tolist()))
        if absent:
            raise InputError(
                "Expected at least one example of each class of the task. Received "
                f"none of class {', '.join(self.class_names[i] for i in absent)}"
            )
        return np.flatnonzero(labels >= 0)

    def select_logits(self, logits: Any) -> Any:
        """Teacher logits `(..., num_classes)` → those of the outputs, in their order.

        Restricting logits conditions the teacher on the task: the softmax of the
        selected logits is the teacher's softmax, renormalised over the task. NumPy
        arrays and tensors are both accepted.
        """
        if self.head == "full":
            return logits
        if isinstance(logits, np.ndarray):
            return logits[..., self.class_ids]
        import tensorflow as tf

        return tf.gather(logits, self.class_ids, axis=-1)

    def filter(self, dataset: Any, batch_size: int | None = None) -> Any:
        """Keeps the examples of the task and gives them the student's labels.

        Args:
            dataset: A pair of arrays `(images, class_ids)`, or a `tf.data.Dataset` of
                such batches, optionally with sample weights as a third part.
            batch_size: Batch size of the filtered `tf.data.Dataset`; by default that
                of its first batch.

        Returns:
            The same kind as was given. Arrays are selected by index. A `tf.data`
            stream is filtered batch by batch; if its own length is known, its
            labels are read once here, so that the filtered length is known too.

        Raises:
            InputError: If the labels are not one integer an example.
        """
        if isinstance(dataset, (tuple, list)):
            images = as_images(dataset[0])
            class_ids, *weights = (np.asarray(part) for part in dataset[1:])
            check_class_ids(class_ids, len(images), self.num_classes)
            chosen = self.indices(class_ids)
            labels = self.to_labels(class_ids[chosen])
            return (images[chosen], labels, *(part[chosen] for part in weights))
        return self._filter_stream(dataset, batch_size)

    def _filter_stream(self, dataset: Any, batch_size: int | None) -> Any:
        import tensorflow as tf

        spec = dataset.element_spec[1]
        if spec.shape.rank != 1 or not spec.dtype.is_integer:
            raise InputError(
                "Expected batches of (images, class ids), one integer an example. "
                f"Received labels of shape {spec.shape} and type {spec.dtype.name}"
            )
        if batch_size is None:
            batch_size = first_batch_size(dataset)
        table = tf.constant(self._label_of_class_id)

        def to_labels(class_ids: Any) -> Any:
            return tf.gather(table, tf.cast(class_ids, tf.int32))

        def count_task(total: Any, batch: Any) -> Any:
            return total + tf.math.count_nonzero(to_labels(batch[1]) >= 0)

        def keep_task(images: Any, class_ids: Any, *weights: Any) -> Any:
            labels = to_labels(class_ids)
            chosen = tf.where(labels >= 0)[:, 0]
            parts = (images, labels, *weights)
            return tuple(tf.gather(part, chosen) for part in parts)

        filtered = dataset.map(keep_task, num_parallel_calls=tf.data.AUTOTUNE)
        filtered = filtered.rebatch(batch_size)
        if dataset.cardinality() >= 0:
            total = int(dataset.reduce(np.int64(0), count_task))
            if total == 0:
                raise InputError(
                    f"Expected examples of classes {self.class_ids}. Received: none"
                )
            num_batches = -(-total // batch_size)
            # A stream that differs from pass to pass (shuffled, then cut) may come up
            # short of what was counted; then it begins again
            filtered = filtered.repeat().take(num_batches)
            known = tf.data.experimental.assert_cardinality(num_batches)
            filtered = filtered.apply(known)
        return filtered.prefetch(tf.data.AUTOTUNE)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able."""
        return {
            "class_ids": self.class_ids,
            "num_classes": self.num_classes,
            "head": self.head,
            "class_names": self.class_names,
        }

    def __repr__(self) -> str:
        return f"Task({self.class_ids}, {self.num_classes}, head={self.head!r})"


def first_batch_size(dataset: Any) -> int:
    """Number of examples in the first batch of a `tf.data.Dataset`.

    Raises:
        InputError: If there is none, or its examples are not batched.
    """
    first = next(iter(dataset.take(1)), None)
    if first is None:
        raise InputError("Expected at least one batch. Received: an empty data set")
    images, class_ids = first[:2]
    if len(class_ids.shape) == 0:
        raise InputError(
            "Expected batches of (images, class ids). Received single examples: call "
            ".batch(...) on the data set"
        )
    _check_one_id_each(class_ids.numpy(), len(images))
    return len(images)


def check_class_ids(class_ids: np.ndarray, num_images: int, num_classes: int) -> None:
    """Checks labels at the door.

    Raises:
        InputError: If they are not one integer in `[0, num_classes)` an image.
    """
    _check_one_id_each(class_ids, num_images)
    if class_ids.size and not 0 <= class_ids.min() <= class_ids.max() < num_classes:
        raise InputError(
            f"Expected class ids from 0 to {num_classes - 1}. Received: "
            f"{class_ids.min()} to {class_ids.max()}"
        )


def _check_one_id_each(class_ids: np.ndarray, num_images: int) -> None:
    if class_ids.shape != (num_images,) or class_ids.dtype.kind not in "iu":
        raise InputError(
            f"Expected labels of shape ({num_images},), one integer class id an image. "
            f"Received: shape {class_ids.shape}, type {class_ids.dtype}"
            + (_HOW_TO_FLATTEN if class_ids.ndim == 2 else "")
        )
