"""How hard a task is, estimated from the teacher before any student is trained.

Shi et al. 2017 measure a task by its number of classes, and warn that this need not be
its difficulty. These measures come from what a trained teacher gives for the task's
training images. `benchmarks/task_complexity.py` says how well each predicts the rate
that a task needs: over random tasks of CIFAR-10, none better than their number of
classes.
"""

from typing import NamedTuple

import numpy as np

from tskd_tf.data.task import Task

_TINY = 1e-30


class TaskComplexity(NamedTuple):
    """Measures of one task.

    Attributes:
        num_classes: Of the task.
        entropy: Mean entropy of the teacher's softened predictions among the task's
            classes, in nats, from 0 to log(num_classes).
        confusion: Mean probability that the teacher gives to the task's wrong classes
            (the soft form of its error), in [0, 1].
        effective_rank: Of its logits over the task's images, from 1 to num_classes.
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
        labels: Shape `(n,)`, in the student's label space, all of the task.
        task: θ.
        temperature: τ of the softened predictions, above 0.
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
    """Softmax of logits over a temperature, shape as given (Eq. 5)."""
    scaled = logits / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def effective_rank(values: np.ndarray) -> float:
    """How many dimensions a cloud of points really has.

    The exponential of the entropy of the singular values of the points less their mean,
    as shares of their sum (O. Roy & M. Vetterli, "The effective rank: a measure of
    effective dimensionality", EUSIPCO 2007).

    Args:
        values: Shape `(n, dimensions)`.

    Returns:
        From 1 to the number of dimensions; 1 for a single point.
    """
    singular = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    if singular.sum() <= 0.0:
        return 1.0
    shares = singular / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares + _TINY))))
