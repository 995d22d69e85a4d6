"""The search for the smallest student under Eq. 4, from soft targets to the verdict."""

import functools
import logging
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tskd_tf.acceptance import accuracy_floor
from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.batches import as_arrays, check_images
from tskd_tf.data.images import MEMORY_LIMIT_MB, as_uint8, fingerprint
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task, check_class_ids, check_pairs
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe, thinner
from tskd_tf.distillation.soft_targets import (
    TransferSet,
    capture,
    check_teacher,
    load_soft_targets,
    save_soft_targets,
    transfer_fingerprint,
)
from tskd_tf.errors import InputError
from tskd_tf.files import read_json_object, write_json
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.graph import check_model
from tskd_tf.networks.rebuild import as_functional, as_logits, with_image_shape
from tskd_tf.networks.students import PLAIN
from tskd_tf.networks.width import StudentBuilder, spaced_rates
from tskd_tf.report.words import summary_table
from tskd_tf.search.budgets import (
    ANY_LOSS,
    Budgets,
    StudentCosts,
    allowed_loss,
    fitting_rates,
    keep_latencies,
    kept_latencies,
    spending,
)
from tskd_tf.search.candidates import buildable_rates, check_method_fits
from tskd_tf.search.evidence import build_report
from tskd_tf.search.judge import judge
from tskd_tf.search.plan import DEFAULT_MAX_EXECUTIONS, SMALLEST, SearchPlan
from tskd_tf.search.trainer import Trainer
from tskd_tf.search.trials import search_widths
from tskd_tf.search.workers.crew import address_refused, search_with_workers
from tskd_tf.search.workers.shared import check_importable, stop_sharing
from tuner import chief
from tuner.student_tuner import StudentTuner

_logger = logging.getLogger(__name__)


class FoundStudent(NamedTuple):
    """What the search ends with.

    Attributes:
        student: The smallest student that met Eq. 4 on the validation data; if none
            did, the one that came closest. It gives logits.
        report: The evidence, as in `report.json`; `report["meets_threshold"]` is the
            verdict on the test data.
        wrong_images: The pictures of `report["wrong_images"]`, in its order: uint8,
            shape `(n, height, width, channels)`.
    """

    student: keras.Model
    report: dict[str, Any]
    wrong_images: np.ndarray

    def __str__(self) -> str:
        return summary_table(self.report).rstrip("\n")


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
    if build_student is not None:
        check_pairs(train)
        spec = getattr(train, "element_spec", None)
        shape = np.shape(train[0]) if spec is None else spec[0].shape
        teacher = as_functional(teacher, shape[1:])
    check_model(teacher, "the teacher")
    teacher = as_logits(teacher)
    if task is None:
        num_classes = teacher.outputs[0].shape[-1]
        task = Task(range(num_classes), num_classes)
    check_bargain(max_accuracy_loss, confidence)
    budgets.check()
    SearchPlan([], 0.0, oracle, max_executions, num_workers).check()
    by_others = is_by_others(directory, teacher, build_student, num_workers)
    max_accuracy_loss = allowed_loss(max_accuracy_loss, budgets)
    # NumPy's numbers do not go into the JSON files
    settings = recipe._asdict().items()
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings}
    recipe = Recipe(**{**plain, "precision": choose_precision(recipe.precision)})
    recipe.check()
    start_and_kind = recipe.initialize, recipe.convolutions
    if build_student is not None and start_and_kind != ("random", PLAIN):
        raise InputError(
            "Expected initialize and convolutions with students of scale_width only: "
            "yours are and start as you build them. Received: "
            f"initialize={recipe.initialize!r}, convolutions={recipe.convolutions!r}"
        )
    check_teacher(teacher, task)
    splits = [
        _checked_split(teacher, task, split, memory_limit_mb)
        for split in (train, validation, test)
    ]
    teacher = with_image_shape(teacher, splits[0].images.shape[1:])
    complexity(teacher)
    if rates is None:
        rates = spaced_rates(0.05)
    convolutions = recipe.convolutions, recipe.groups
    rates = buildable_rates(teacher, task, rates, build_student, *convolutions)
    check_method_fits(teacher, task, rates[0], recipe, build_student)
    task_validation, task_test = (_select_task(task, split) for split in splits[1:])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(directory or temporary).resolve()
        views = _views_config(recipe)
        transfer_mark = transfer_fingerprint(teacher, *splits[0], task, *views)
        teacher_logits = predict_logits(teacher, task_validation.images)
        teacher_accuracy = accuracy(
            task.select_logits(teacher_logits), task_validation.class_ids
        )
        floor = accuracy_floor(teacher_accuracy, max_accuracy_loss)
        _logger.info(
            "The teacher gets %.2f %% of the task's %d validation images right; a "
            "student must reach %.2f %%",
            100 * teacher_accuracy,
            len(task_validation.images),
            100 * max(floor, 0.0),
        )
        search_settings = {
            "transfer_set": transfer_mark,
            "validation": fingerprint(*task_validation),
            "floor": floor,
            "rates": rates,
            "budgets": budgets.limits(),
            "oracle": oracle,
            "max_executions": max_executions,
            # None for thinner copies of the teacher
            "student_macs": build_student
            and [complexity(build_student(rate)).num_macs for rate in rates],
            "recipe": {
                **recipe._asdict(),
                "augmentation": recipe.augmentation._asdict(),
            },
        }
        _check_same_search(folder, search_settings)
        latencies_us = kept_latencies(folder)
        costs = StudentCosts(
            teacher, task, splits[0].images, latencies_us, build_student, *convolutions
        )
        fitting = _fitting_rates(rates, budgets, costs)
        candidates = fitting if max_accuracy_loss < ANY_LOSS else fitting[-1:]
        write_json(folder / "settings.json", search_settings)
        keep_latencies(folder, costs.latencies_us)
        transfer = _soft_targets(
            teacher, splits[0], task, recipe, folder, transfer_mark
        )
        trainer = Trainer(
            teacher,
            transfer,
            task_validation,
            task,
            recipe,
            SearchPlan(candidates, floor, oracle, max_executions, num_workers),
            log_dir,
            verbose,
            build_student or thinner(teacher, transfer, task, recipe),
        )
        run = StudentTuner.search
        # One student is trained soonest with all the cores of this process
        if by_others and (trainer.plan.is_a_search or chief.role() == "chief"):
            run = functools.partial(search_with_workers, trainer, build_student, folder)
        student, chosen, trials = search_widths(trainer, folder, run)
        # An interrupted search by workers may have left it
        stop_sharing(folder)
        if chosen.feasible and chosen.rate == rates[0] and len(candidates) > 1:
            _logger.info(
                "Rate %g is the smallest candidate: a finer step of rates may find a "
                "smaller student yet",
                chosen.rate,
            )
        control, control_curve = trainer.control(chosen, folder)
        results = judge(
            teacher, student, control, task_test, transfer.labels, task, confidence
        )
        report = build_report(
            task=task,
            num_examples=(
                len(transfer.images),
                len(task_validation.images),
                len(task_test.images),
            ),
            max_accuracy_loss=max_accuracy_loss,
            costs=(complexity(teacher), complexity(student)),
            chosen=chosen,
            trials=trials,
            results=results,
            control_curve=control_curve,
            validation={"teacher_accuracy": teacher_accuracy, "floor": floor},
            budgets=spending(budgets, chosen.rate, costs.cost),
            num_over_budget=len(rates) - len(fitting),
            method=recipe.method,
            convolutions=convolutions,
        )
        keep_latencies(folder, costs.latencies_us)
    wrong = np.array([image["index"] for image in results.wrong_images], dtype=int)
    return FoundStudent(student, report, as_uint8(task_test.images[wrong]))


def soft_targets_of(
    teacher: keras.Model, train: Split, task: Task, recipe: Recipe, directory: str
) -> TransferSet:
    """The soft targets that a search left in its directory.

    Args:
        teacher: That of the search; gives logits.
        train: All training images, with the data set's class ids.
        task: θ.
        recipe: That of the search.
        directory: Of the search.

    Raises:
        InputError: If they are of another search, or damaged.
    """
    mark = transfer_fingerprint(teacher, *train, task, *_views_config(recipe))
    return _soft_targets(teacher, train, task, recipe, pathlib.Path(directory), mark)


def check_bargain(max_accuracy_loss: float | None, confidence: float) -> None:
    """Checks the two numbers of the bargain, the first if it is given.

    Raises:
        InputError: If one is out of range.
    """
    if max_accuracy_loss is not None and not 0.0 <= max_accuracy_loss < 1.0:
        raise InputError(
            "Expected max_accuracy_loss from 0 to below 1 (0.002 is 0.2 points). "
            f"Received: {max_accuracy_loss}"
        )
    if not 0.0 < confidence < 1.0:
        raise InputError(f"Expected confidence between 0 and 1. Received: {confidence}")


def is_by_others(
    directory: str | None,
    teacher: keras.Model,
    build_student: StudentBuilder | None,
    num_workers: int,
) -> bool:
    """Whether trials are trained by workers, with the checks for them.

    Raises:
        InputError: If chief or workers could not do their part.
    """
    role = chief.role()
    if role == "worker":
        raise InputError(
            "Expected a search in a chief, or without KERASTUNER_TUNER_ID. Received: "
            f"{os.environ['KERASTUNER_TUNER_ID']}, a worker; start workers by python "
            "-m tskd_tf.worker DIRECTORY"
        )
    if role == "chief" and directory is None:
        raise InputError(
            "Expected a directory that the chief shares with its workers. Received: "
            "none"
        )
    by_others = role == "chief" or num_workers > 1
    if by_others:
        check_importable(teacher, build_student)
    if role == "chief":
        try:
            chief.check_address()
        except chief.AddressError as error:
            raise address_refused(error) from None
    return by_others


def _checked_split(
    teacher: keras.Model, task: Task, split: Any, memory_limit_mb: float
) -> Split:
    check_pairs(split)
    images, class_ids, *others = as_arrays(split, memory_limit_mb)
    if others:
        raise InputError(
            "Expected (images, class ids) in a search. Received: a third part; for "
            "balanced classes pass Recipe(class_weights='balanced'), for weights of "
            "your own train a student by Distiller and transfer_set"
        )
    check_images(images, tuple(teacher.inputs[0].shape[1:]))
    check_class_ids(class_ids, len(images), task.num_classes)
    task.indices(class_ids)
    return Split(images, class_ids)


def _fitting_rates(
    rates: list[float], budgets: Budgets, costs: StudentCosts
) -> list[float]:
    """The rates within the budgets, with a line in the log."""
    fitting = fitting_rates(rates, budgets, costs.cost)
    if budgets.limits():
        _logger.info(
            "%d of %d candidates fit the budgets: rates up to %g",
            len(fitting),
            len(rates),
            fitting[-1],
        )
    return fitting


def _select_task(task: Task, split: Split) -> Split:
    return Split(*task.filter(tuple(split)))


def _views_config(recipe: Recipe) -> list[Any]:
    """What stored views depend on; empty without any."""
    if not recipe.augmentation or recipe.uses_live_teacher:
        return []
    return [recipe.augmentation._asdict(), recipe.num_views, recipe.seed]


def _soft_targets(
    teacher: keras.Model,
    train: Split,
    task: Task,
    recipe: Recipe,
    folder: pathlib.Path,
    mark: str,
) -> TransferSet:
    path = folder / "soft_targets.npz"
    stored_views = recipe.stored_views
    if path.exists():
        return load_soft_targets(path, mark, *train, task, stored_views)
    transfer = capture(
        teacher, *train, task, stored_views, recipe.num_views, recipe.seed
    )
    save_soft_targets(path, transfer, mark)
    _logger.info(
        "Soft targets of %d training images captured: %s logits each",
        len(transfer.images),
        " views x ".join(map(str, transfer.teacher_logits.shape[1:])),
    )
    return transfer


def _check_same_search(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Refuses to continue a search of other settings."""
    path = folder / "settings.json"
    if not path.exists():
        return
    found = read_json_object(path)
    # What an earlier version knew no setting for was as it is by default
    defaults = {**Recipe()._asdict(), "augmentation": Augmentation()._asdict()}
    found["recipe"] = {**defaults, **found.get("recipe", {})}
    if found != settings:
        other = [name for name in settings if found.get(name) != settings[name]]
        raise InputError(
            f"Expected a search of the same settings in {folder}. Received: one with "
            f"other {', '.join(other)}; use another folder"
        )
