"""The search for the smallest student under Eq. 4, from soft targets to the verdict."""

from collections.abc import Sequence
from typing import Any

import keras

from tskd_tf.choices import Budgets
from tskd_tf.data.images import MEMORY_LIMIT_MB
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.search.found import FoundStudent
from tskd_tf.search.plan import DEFAULT_MAX_EXECUTIONS, SMALLEST
from tskd_tf.search.prepared import prepare
from tskd_tf.search.settings import SearchSettings


def find_smallest_student(
    teacher: keras.Model,
    train: Any,
    validation: Any,
    test: Any,
    task: Task | None = None,
    max_accuracy_loss: float | None = None,
    rates: Sequence[float] | None = None,
    recipe: Recipe = Recipe(),
    confidence: float = 0.95,
    directory: str | None = None,
    log_dir: str | None = None,
    verbose: Any = "auto",
    memory_limit_mb: float = MEMORY_LIMIT_MB,
    build_student: StudentBuilder | None = None,
    budgets: Budgets = Budgets(),
    oracle: str = SMALLEST,
    max_executions: int = DEFAULT_MAX_EXECUTIONS,
    num_workers: int = 1,
) -> FoundStudent:
    """The smallest student that keeps the bargain of Eq. 4 (Shi et al. 2017).

    Captures soft targets once, bisects the widths for the smallest that loses no more
    than `max_accuracy_loss` on the validation data, trains a control of the same
    widths on hard labels only, and judges all of them once on the test data.

    Args:
        teacher: A trained classifier; Functional or Sequential, or subclassed if you
            build the students. A softmax at its end is taken off first, which changes
            no prediction.
        train: A `tf.data.Dataset` of `(images, class ids)` batches, or a pair of
            arrays, with the data set's own labels.
        validation: The same; decides the width.
        test: The same; used once, for the verdict.
        task: θ and the head; by default all of the teacher's classes.
        max_accuracy_loss: Tacc_loss of Eq. 4, a fraction in [0, 1); by default 0.002
            or, where `budgets` pre-set the cost, any.
        rates: Width rates to choose from; by default 0.05, 0.10, … 1.0.
        recipe: How each student is trained.
        confidence: Of the interval for the loss, in (0, 1).
        directory: Where trials are kept. A search of the same settings found there,
            with the data in the same order, is continued; by default a temporary
            folder is used and removed.
        log_dir: For TensorBoard: a run a trial, and one for the control.
        verbose: `"auto"` writes a line a training to standard error, live on a
            terminal; anything else is as in `keras.Model.fit`.
        memory_limit_mb: Megabytes of images of each `tf.data.Dataset` that may be held
            in memory; beyond, they are kept in a temporary file.
        build_student: Your own students: a function of the rate that gives a Functional
            or Sequential model with the task's outputs, smaller at smaller rates. By
            default the teacher's network is thinned by `scale_width`.
        budgets: What the student may cost; dearer ones are not tried. Without
            `max_accuracy_loss` the widest that fits is trained, and nothing searched.
        oracle: `"smallest"` bisects; KerasTuner's own engines `"grid"`, `"random"`,
            `"bayesian"` and `"hyperband"` need more trials.
        max_executions: Trainings, each with a seed of its own, of a width whose
            accuracy is too close to the floor to tell, before the answer rests on it.
        num_workers: Processes of this machine that train at the same time.

    Returns:
        The student, in float32, and the report.

    Raises:
        InputError: If anything given does not fit, or no student the budgets, before
            any training.

    Example:

    >>> found = find_smallest_student(teacher, train, validation, test, task=task)
    >>> found.student.save("student.keras")
    """
    settings = SearchSettings(
        max_accuracy_loss=max_accuracy_loss,
        rates=rates,
        recipe=recipe,
        confidence=confidence,
        directory=directory,
        log_dir=log_dir,
        verbose=verbose,
        memory_limit_mb=memory_limit_mb,
        build_student=build_student,
        budgets=budgets,
        oracle=oracle,
        max_executions=max_executions,
        num_workers=num_workers,
    )
    return prepare(teacher, train, validation, test, task, settings).run().found
