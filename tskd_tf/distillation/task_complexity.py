"""The difficulty of a task, estimated from the teacher before any student is trained.

Shi et al. 2017 measure a task by its number of classes, and warn that its difficulty
may differ. The measures here use a trained teacher's logits for the task's training
images. `benchmarks/task_complexity.py` tests how well they predict the rate that a task
needs. Over random tasks of CIFAR-10, none was better than the number of classes.
"""

from typing import NamedTuple

import numpy as np

from tskd_tf.data.task import Task

_TINY = 1e-30


class TaskComplexity(NamedTuple):
    """Measures of one task.

    Attributes:
        num_classes: Number of classes of the task.
        entropy: Mean entropy of the teacher's softened predictions among the task's
            classes, in nats, from 0 to log(num_classes).
        confusion: Mean probability that the teacher gives to the wrong classes of the
            task (a soft error), in [0, 1].
        effective_rank: Effective rank of the teacher's logits over the task's images,
            from 1 to num_classes; see `effective_rank`.
    """

    num_classes: int
    entropy: float
    confusion: float
    effective_rank: float


def task_complexity(
    teacher_logits: np.ndarray, labels: np.ndarray, task: Task, temperature: float = 3.0
) -> TaskComplexity:
    """Measures a task by the teacher's logits for its training images.

    Args:
        teacher_logits: Shape `(n, task.num_outputs)`, as in a `TransferSet`.
        labels: Shape `(n,)`, in the student's label space, all classes of the task.
        task: θ.
        temperature: τ > 0 of the softened predictions. Default: 3.
    """
    columns = task.to_labels(np.asarray(task.class_ids))
    among_task = np.asarray(teacher_logits, np.float64)[:, columns]
    position = {label: i for i, label in enumerate(columns.tolist())}
    positions = np.asarray([position[label] for label in np.asarray(labels).tolist()])
    soft = softened(among_task, temperature)
    right = softened(among_task, 1.0)[np.arange(len(positions)), positions]
    return TaskComplexity(
        len(columns),
        float(-np.sum(soft * np.log(soft + _TINY), axis=-1).mean()),
        float(1.0 - right.mean()),
        effective_rank(among_task),
    )


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of logits divided by a temperature (Eq. 5), of the same shape."""
    scaled = logits / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def effective_rank(values: np.ndarray) -> float:
    """The effective number of dimensions of a set of points.

    The points are centred. Their singular values, divided by the sum, are a
    distribution; the result is the exponential of its entropy (O. Roy & M. Vetterli,
    "The effective rank: a measure of effective dimensionality", EUSIPCO 2007).

    Args:
        values: Shape `(n, dimensions)`.

    Returns:
        A number from 1 to the number of dimensions; 1 if all points are equal.
    """
    singular = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    if singular.sum() <= 0.0:
        return 1.0
    shares = singular / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares + _TINY))))
