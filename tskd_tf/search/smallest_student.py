"""The search for the smallest student that meets Eq. 4, as one function."""

from collections.abc import Sequence
from typing import Any

import keras

from tskd_tf.choices import MACS, Budgets
from tskd_tf.data.images import MEMORY_LIMIT_MB
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.search.found import FoundStudent
from tskd_tf.search.plan import DEFAULT_MAX_EXECUTIONS, SMALLEST
from tskd_tf.search.preparation import prepare
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
    families: Sequence[str] | None = None,
    minimize: str = MACS,
    judge_by: str = "float",
    refine: bool = False,
) -> FoundStudent:
    """Finds the smallest student that meets Eq. 4 (Shi et al. 2017).

    The search captures soft targets once. It bisects the students of each family for
    the smallest one that loses at most `max_accuracy_loss` on the validation data. It
    trains a control of the same widths on hard labels only. Finally, it judges teacher,
    student and control once on the test data.

    Args:
        teacher: A trained classifier: Functional or Sequential, or subclassed if you
            pass `build_student`. A softmax at its end is removed first, which changes
            no prediction.
        train: Training data: a `tf.data.Dataset` of `(images, class ids)` batches, or a
            pair of arrays, with the data set's own class ids.
        validation: Validation data in the same form; used to choose the width.
        test: Test data in the same form; used once, for the verdict.
        task: θ and the head. Default: all classes of the teacher.
        max_accuracy_loss: Tacc_loss of Eq. 4, a fraction in [0, 1). Default: 0.002, or
            any loss if there are `budgets`.
        rates: Width rates to choose from. Default: those of each family; 0.05, 0.10, …
            1.0 for thin students.
        recipe: How each student is trained.
        confidence: Confidence level of the interval for the loss, in (0, 1). Default:
            0.95.
        directory: Folder for the trials. A search in it with the same settings, and the
            data in the same order, is resumed. Default: a temporary folder.
        log_dir: Folder for TensorBoard, with one run per trial and one for the control.
            Default: none.
        verbose: `"auto"` (default) writes one line per training to standard error, live
            on a terminal. Other values are those of `keras.Model.fit`.
        memory_limit_mb: Megabytes of images of each `tf.data.Dataset` to hold in
            memory; larger data sets are kept in a temporary file.
        build_student: Your own students: a function that maps the rate to a Functional
            or Sequential model with the task's outputs, smaller at smaller rates.
            Default: students of the recipe's family.
        budgets: Upper limits of the student's costs. Students above a limit are not
            trained. Without `max_accuracy_loss`, only the widest student of each family
            that fits is trained, and the most accurate one is the answer.
        oracle: `"smallest"` (default) bisects. KerasTuner's engines `"grid"`,
            `"random"`, `"bayesian"` and `"hyperband"` need more trials.
        max_executions: Number of trainings, with different seeds, of a width whose
            accuracy is close to the floor, ≥ 1. Default: 2.
        num_workers: Number of processes of this machine that train in parallel, ≥ 1.
            Default: 1.
        families: Families of students to choose from, names in `choices.FAMILIES`, the
            most promising first. The smallest student of any of them is the answer.
            Default: `recipe.family`.
        minimize: What the smallest student has least of: `"macs"` (default),
            `"params"`, `"bytes"` of the int8 file, `"latency"` or `"arena"`. It orders
            the students of different families. In a family, a wider student counts as
            larger.
        judge_by: `"float"` (default): a student is feasible by its own accuracy.
            `"int8"`: by that of its int8 LiteRT file.
        refine: Whether to remove further channels of the chosen student, in any layer,
            while it meets Eq. 4 on the validation data. It takes at most about as long
            as the trials. Default: False.

    Returns:
        The student, in float32, and the report.

    Raises:
        InputError: If an argument is invalid, or if no student fits the budgets. It is
            raised before any training.

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
        families=families,
        minimize=minimize,
        judge_by=judge_by,
        refine=refine,
    )
    return prepare(teacher, train, validation, test, task, settings).run().found
