"""The task θ: the classes a device cares about, and the student's label space."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tskd_tf.data.images import as_images
from tskd_tf.errors import InputError

_HOW_TO_FLATTEN = (
    "; one-hot labels become class ids by .argmax(axis=-1), a column by [:, 0]"
)
_NAMED_CLASSES = 20


class Task:
    """The task θ of Shi et al. 2017: the class ids of interest, in the user's order.

    Three numberings meet here. *Class ids* are the data set's own. *Outputs* are the
    student's logits: all the teacher's for a full head, one a task class for a task
    head, in the order of `class_ids`. *Labels* are positions among the outputs, so
    for a full head they are the class ids themselves.

    Args:
        class_ids: At least two different classes: integers in `[0, num_classes)`, or
            texts as in `from_names`.
        num_classes: Number of classes of the data set, and of the teacher's outputs;
            by default the length of `class_names`.
        head: `"full"` (the paper's: the student keeps the teacher's outputs) or
            `"task"` (one output a task class).
        class_names: Names of all `num_classes` classes; the ids as text by default.

    Raises:
        InputError: If a class id is unknown, given twice, or fewer than two are given.

    Example:

    >>> task = Task([7, 2, 4], num_classes=10, head="task")
    >>> task.to_labels(np.array([2, 7]))
    array([1, 0], dtype=int32)
    >>> Task(["truck", "cat"], class_names=["cat", "dog", "truck"]).class_ids
    [2, 0]
    """

    def __init__(
        self,
        class_ids: Sequence[int | str],
        num_classes: int | None = None,
        head: str = "full",
        class_names: Sequence[str] | None = None,
    ) -> None:
        if head not in ("full", "task"):
            raise InputError(f"Expected head 'full' or 'task'. Received: head={head!r}")
        names = _names(class_names, num_classes)
        num_classes = len(names)
        ids = _find(class_ids, names, are_named=class_names is not None)
        repeated = sorted({class_id for class_id in ids if ids.count(class_id) > 1})
        if repeated:
            twice = ", ".join(names[class_id] for class_id in repeated)
            raise InputError(f"Expected each class once. Received twice: [{twice}]")
        if len(ids) < 2:
            raise InputError(
                "Expected at least two classes: a classifier of fewer has nothing to "
                f"tell apart. Received: class_ids={ids}"
            )
        self.class_ids = ids
        self.num_classes = num_classes
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
        classes: Sequence[int | str],
        class_names: Sequence[str],
        head: str = "full",
    ) -> "Task":
        """The task of classes given by name or id; an empty list means all classes.

        Args:
            classes: Names out of `class_names`, or class ids, which may be written as
                text. A text that is both is taken as a name.
            class_names: Names of all classes of the data set, by class id.
            head: `"full"` (all the teacher's outputs) or `"task"` (the task's only).

        Raises:
            InputError: If a class is unknown, repeated, or fewer than two are given.
        """
        classes = list(classes) or range(len(class_names))
        return cls(classes, head=head, class_names=class_names)

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
            InputError: If the labels are not one class id an example.
        """
        check_pairs(dataset)
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
        largest_id = self.num_classes - 1

        def count_task(found: Any, batch: Any) -> Any:
            (total, smallest, largest), ids = found, tf.cast(batch[1], tf.int64)
            # Ids out of range raise once all are read
            labels = tf.gather(table, tf.clip_by_value(ids, 0, largest_id))
            total += tf.math.count_nonzero(labels >= 0)
            smallest = tf.minimum(smallest, tf.reduce_min(ids))
            return total, smallest, tf.maximum(largest, tf.reduce_max(ids))

        def keep_task(images: Any, class_ids: Any, *weights: Any) -> Any:
            ids = tf.cast(class_ids, tf.int64)
            in_range = tf.reduce_all((ids >= 0) & (ids <= largest_id))
            message = f"Expected class ids from 0 to {largest_id}. Received:"
            check = tf.debugging.Assert(in_range, [message, ids])
            with tf.control_dependencies([check]):
                labels = tf.gather(table, ids)
            chosen = tf.where(labels >= 0)[:, 0]
            parts = (images, labels, *weights)
            return tuple(tf.gather(part, chosen) for part in parts)

        filtered = dataset.map(keep_task, num_parallel_calls=tf.data.AUTOTUNE)
        filtered = filtered.rebatch(batch_size)
        if dataset.cardinality() >= 0:
            counted = dataset.reduce((np.int64(0),) * 3, count_task)
            total, smallest, largest = (int(part) for part in counted)
            _check_range(smallest, largest, self.num_classes)
            if total == 0:
                names = ", ".join(self.class_names[i] for i in self.class_ids)
                raise InputError(
                    f"Expected examples of classes [{names}]. Received: none"
                )
            num_batches = -(-total // batch_size)
            # A stream that differs between passes (shuffled, then cut) may yield fewer
            # examples than were counted; then it starts again
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


def _names(class_names: Sequence[str] | None, num_classes: int | None) -> list[str]:
    """The names of all classes, by default their ids as text."""
    if class_names is None:
        if num_classes is None:
            raise InputError("Expected num_classes or class_names. Received: neither")
        class_names = [str(class_id) for class_id in range(num_classes)]
    names = [str(name) for name in class_names]
    if num_classes is not None and len(names) != num_classes:
        raise InputError(f"Expected {num_classes} class names. Received: {len(names)}")
    return names


def _find(classes: Sequence[int | str], names: list[str], are_named: bool) -> list[int]:
    """Class ids of classes given as ids, names, or ids written as text."""
    # Names come last, as a text that is both is a name
    by_text = {str(class_id): class_id for class_id in range(len(names))}
    by_text |= {name: class_id for class_id, name in enumerate(names)}
    ids, unknown = [], []
    for given in classes:
        class_id = by_text.get(given, -1) if isinstance(given, str) else _as_id(given)
        if isinstance(given, str) and names.count(given) > 1:
            raise InputError(
                f"Expected the name of one class. Received: {given!r}, the name of "
                f"several; give its id out of "
                f"{[i for i, name in enumerate(names) if name == given]}"
            )
        ids.append(class_id)
        if not 0 <= class_id < len(names):
            unknown.append(given)
    if unknown:
        known = f"class ids from 0 to {len(names) - 1}"
        if are_named:
            rest = len(names) - _NAMED_CLASSES
            known = "class names or ids out of " + ", ".join(names[:_NAMED_CLASSES])
            known += f" and {rest} more" if rest > 0 else ""
            known += f" (ids 0 to {len(names) - 1})"
        raise InputError(f"Expected {known}. Received: {unknown}")
    return ids


def _as_id(given: Any) -> int:
    """An integer of any type; −1, which is no id, for anything else."""
    try:
        return operator.index(given)
    except TypeError:
        return -1


def first_batch_size(dataset: Any) -> int:
    """Number of examples in the first batch of a `tf.data.Dataset`.

    Raises:
        InputError: If there is none.
    """
    first = next(iter(dataset.take(1)), None)
    if first is None:
        raise InputError("Expected at least one batch. Received: an empty data set")
    images, class_ids = first[:2]
    _check_one_id_each(class_ids.numpy(), len(images))
    return len(images)


def check_pairs(dataset: Any) -> None:
    """Checks that a data set is one of images and class ids, in this order.

    Raises:
        InputError: If it is not. TFDS gives pairs with `as_supervised=True` only.
    """
    parts = getattr(dataset, "element_spec", dataset)
    if isinstance(parts, (tuple, list)) and len(parts) > 1:
        if getattr(parts[1], "shape", None) == ():
            raise InputError(
                "Expected batches of (images, class ids). Received single examples: "
                "call .batch(...) on the data set"
            )
        return
    got = type(parts).__name__
    if isinstance(parts, dict):
        got = f"a dictionary of {', '.join(parts)}"
    raise InputError(
        "Expected a pair of arrays (images, class ids), or a tf.data.Dataset of such "
        "batches, as tensorflow_datasets gives it with as_supervised=True. Received: "
        f"{got}"
    )


def check_task(task: Any) -> None:
    """Checks that `task` is a `Task`.

    Raises:
        InputError: If it is anything else, such as a list of class ids.
    """
    if not isinstance(task, Task):
        raise InputError(
            "Expected task to be a tskd_tf.Task, which also sets the head: "
            f"Task([3, 0], num_classes=10). Received: {task!r}"
        )


def check_num_outputs(name: str, num_outputs: int, task: Task) -> None:
    """Checks that a teacher has an output for each class of the data.

    Raises:
        InputError: If it has not.
    """
    if num_outputs != task.num_classes:
        raise InputError(
            f"Expected a teacher with an output for each of the {task.num_classes} "
            f"classes of the data. Received: {name!r} with {num_outputs} outputs"
        )


def check_class_ids(class_ids: np.ndarray, num_images: int, num_classes: int) -> None:
    """Checks the user's labels.

    Raises:
        InputError: If they are not one integer in `[0, num_classes)` an image.
    """
    _check_one_id_each(class_ids, num_images)
    if class_ids.size:
        _check_range(class_ids.min(), class_ids.max(), num_classes)


def _check_range(smallest: int, largest: int, num_classes: int) -> None:
    if not 0 <= smallest <= largest < num_classes:
        raise InputError(
            f"Expected class ids from 0 to {num_classes - 1}. Received: "
            f"{smallest} to {largest}"
        )


def _check_one_id_each(class_ids: np.ndarray, num_images: int) -> None:
    if class_ids.shape != (num_images,) or class_ids.dtype.kind not in "iu":
        raise InputError(
            f"Expected labels of shape ({num_images},), one integer class id an image. "
            f"Received: shape {class_ids.shape}, type {class_ids.dtype}"
            + (_HOW_TO_FLATTEN if class_ids.ndim == 2 else "")
        )
