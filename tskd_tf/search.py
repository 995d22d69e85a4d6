"""The search for the smallest student under Eq. 4, from soft targets to the verdict."""

import logging
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tskd_tf.acceptance import accuracy_floor, paired_loss
from tskd_tf.costs import complexity
from tskd_tf.data import Split, as_arrays, check_images
from tskd_tf.device import choose_precision
from tskd_tf.errors import InputError
from tskd_tf.evaluate import accuracy, is_correct, predict_logits
from tskd_tf.files import atomic_path, fingerprint, read_json, write_json
from tskd_tf.graph import check_model, load_kept_model
from tskd_tf.report import Trial, Verdict, build_report
from tskd_tf.soft_targets import (
    TransferSet,
    capture,
    check_teacher,
    load_soft_targets,
    save_soft_targets,
    transfer_fingerprint,
)
from tskd_tf.task import Task, check_class_ids
from tskd_tf.training import Recipe, train_student
from tskd_tf.width import candidate_rates, check_rate, layer_widths, scale_width
from tuner.oracle import SmallestFeasibleOracle
from tuner.student_tuner import StudentTuner

_logger = logging.getLogger(__name__)


class FoundStudent(NamedTuple):
    """What the search ends with.

    Attributes:
        student: The smallest student that met Eq. 4 on the validation data; if none
            did, the one that came closest.
        report: The evidence, as in `report.json`; `report["meets_threshold"]` is the
            verdict on the test data.
    """

    student: keras.Model
    report: dict[str, Any]


def find_smallest_student(
    teacher: keras.Model,
    train: Any,
    validation: Any,
    test: Any,
    task: Task | None = None,
    max_accuracy_loss: float = 0.002,
    rates: Sequence[float] | None = None,
    recipe: Recipe = Recipe(),
    confidence: float = 0.95,
    directory: str | None = None,
    log_dir: str | None = None,
    verbose: Any = "auto",
) -> FoundStudent:
    """The smallest student that keeps the bargain of Eq. 4 (Shi et al. 2017).

    Captures soft targets once, bisects the widths for the smallest that loses no more
    than `max_accuracy_loss` on the validation data, trains a control of the same
    widths on hard labels only, and judges all of them once on the test data.

    Args:
        teacher: A trained Functional or Sequential classifier that gives logits.
        train: A `tf.data.Dataset` of `(images, class ids)` batches, or a pair of
            arrays, with the data set's own labels; all of it is held in memory.
        validation: The same; decides the width.
        test: The same; used once, for the verdict.
        task: θ and the head; by default all of the teacher's classes.
        max_accuracy_loss: Tacc_loss of Eq. 4, a fraction in [0, 1).
        rates: Width rates to choose from; by default 0.05, 0.10, … 1.0.
        recipe: How each student is trained.
        confidence: Of the interval for the loss, in (0, 1).
        directory: Where trials are kept. A search of the same settings found there,
            with the data in the same order, is continued; by default a temporary
            folder is used and removed.
        log_dir: For TensorBoard: a run a trial, and one for the control.
        verbose: As in `keras.Model.fit`.

    Returns:
        The student, in float32, and the report.

    Raises:
        InputError: If anything given does not fit, before any training.

    Example:

    >>> found = find_smallest_student(teacher, train, validation, test, task=task)
    >>> found.student.save("student.keras")
    """
    check_model(teacher, "the teacher")
    if task is None:
        num_classes = teacher.outputs[0].shape[-1]
        task = Task(range(num_classes), num_classes)
    check_bargain(max_accuracy_loss, confidence)
    max_accuracy_loss = float(max_accuracy_loss)
    # NumPy's numbers do not go into the JSON files
    settings = recipe._asdict().items()
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings}
    recipe = Recipe(**{**plain, "precision": choose_precision(recipe.precision)})
    recipe.check()
    check_teacher(teacher, task)
    splits = [
        _checked_split(teacher, task, split) for split in (train, validation, test)
    ]
    complexity(teacher)
    if rates is None:
        rates = candidate_rates(teacher, 0.05)
    rates = buildable_rates(teacher, task, rates)
    task_validation, task_test = (_select_task(task, split) for split in splits[1:])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(directory or temporary).resolve()
        transfer_mark = transfer_fingerprint(teacher, *splits[0], task)
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
            100 * floor,
        )
        search_settings = {
            "transfer_set": transfer_mark,
            "validation": fingerprint(*task_validation),
            "floor": floor,
            "rates": rates,
            "recipe": recipe._asdict(),
        }
        _check_same_search(folder, search_settings)
        transfer = _soft_targets(teacher, splits[0], task, folder, transfer_mark)
        trainer = _Trainer(
            teacher, transfer, task_validation, task, recipe, log_dir, verbose
        )
        student, chosen, trials = _search_widths(trainer, rates, floor, folder)
        if chosen.feasible and chosen.rate == rates[0] and len(rates) > 1:
            _logger.info(
                "Rate %g is the smallest candidate: a finer step of rates may find a "
                "smaller student yet",
                chosen.rate,
            )
        _logger.info("Control: rate %g on hard labels only", chosen.rate)
        control = trainer.control(chosen.rate, folder)
        results = _verdict(teacher, student, control, task_test, task, confidence)
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
            validation={"teacher_accuracy": teacher_accuracy, "floor": floor},
        )
    return FoundStudent(student, report)


def check_bargain(max_accuracy_loss: float, confidence: float) -> None:
    """Checks the two numbers of the bargain.

    Raises:
        InputError: If one is out of range.
    """
    if not 0.0 <= max_accuracy_loss < 1.0:
        raise InputError(
            "Expected max_accuracy_loss from 0 to below 1 (0.002 is 0.2 points). "
            f"Received: {max_accuracy_loss}"
        )
    if not 0.0 < confidence < 1.0:
        raise InputError(f"Expected confidence between 0 and 1. Received: {confidence}")


class _Trainer(NamedTuple):
    """Everything that all trials and the control share."""

    teacher: keras.Model
    transfer: TransferSet
    validation: Split
    task: Task
    recipe: Recipe
    log_dir: str | None
    verbose: Any

    def trial(self, rate: float, floor: float, trial_dir: pathlib.Path) -> Trial:
        """Trains the student of a rate and leaves it, and its record, in a folder."""
        widths, num_macs = _widths_and_macs(self.teacher, self.task, rate)
        names = "-".join(map(str, widths))
        _logger.info("Rate %g: %s, %s MACs", rate, names, f"{num_macs:,}")
        trained = train_student(
            self.teacher,
            rate,
            self.transfer,
            self.validation,
            self.task,
            self.recipe,
            self._log_dir(f"{trial_dir.name}_rate_{rate:g}"),
            self.verbose,
        )
        record = Trial(
            rate=rate,
            widths=widths,
            num_macs=num_macs,
            accuracy=trained.accuracy,
            feasible=trained.accuracy >= floor,
            epochs=trained.epochs,
            seconds=trained.seconds,
            seed=self.recipe.seed,
        )
        _save_model(trained.student, trial_dir / "student.keras")
        write_json(trial_dir / "result.json", record._asdict())
        _logger.info(
            "Rate %g: %.2f %% of the validation images right, %.2f %% needed: %s",
            rate,
            100 * record.accuracy,
            100 * floor,
            "feasible" if record.feasible else "not feasible",
        )
        return record

    def control(self, rate: float, folder: pathlib.Path) -> keras.Model:
        """The same student, trained on the hard labels only; trained once a folder."""
        path = folder / f"control_rate_{rate:g}.keras"
        if not path.exists():
            trained = train_student(
                self.teacher,
                rate,
                self.transfer,
                self.validation,
                self.task,
                self.recipe._replace(soft_loss_weight=0.0),
                self._log_dir(f"control_rate_{rate:g}"),
                self.verbose,
            )
            _save_model(trained.student, path)
        return load_kept_model(path)

    def _log_dir(self, name: str) -> str | None:
        return None if self.log_dir is None else str(pathlib.Path(self.log_dir) / name)


def _widths_and_macs(
    teacher: keras.Model, task: Task, rate: float
) -> tuple[list[int], int]:
    student = scale_width(teacher, rate, task)
    return layer_widths(student), complexity(student).num_macs


def _save_model(model: keras.Model, path: pathlib.Path) -> None:
    with atomic_path(path) as temporary:
        model.save(temporary)


def _checked_split(teacher: keras.Model, task: Task, split: Any) -> Split:
    images, class_ids, *_ = as_arrays(split)
    check_images(images, tuple(teacher.inputs[0].shape[1:]))
    check_class_ids(class_ids, len(images), task.num_classes)
    task.indices(class_ids)
    return Split(images, class_ids)


def buildable_rates(
    teacher: keras.Model, task: Task, rates: Sequence[float]
) -> list[float]:
    """The rates, ascending, at which the teacher's network can be built.

    Raises:
        InputError: If a rate is out of range, or none can be built.
    """
    if len(rates) == 0:
        raise InputError("Expected at least one rate. Received: none")
    buildable, refusal = [], InputError("")
    for rate in sorted({float(rate) for rate in rates}):
        check_rate(rate)
        try:
            complexity(scale_width(teacher, rate, task))
        except InputError as error:
            refusal = error
            _logger.warning("Rate %g is left out: %s", rate, error)
        else:
            buildable.append(rate)
    if not buildable:
        raise refusal
    return buildable


def _select_task(task: Task, split: Split) -> Split:
    return Split(*task.filter(tuple(split)))


def _soft_targets(
    teacher: keras.Model, train: Split, task: Task, folder: pathlib.Path, mark: str
) -> TransferSet:
    path = folder / "soft_targets.npz"
    if path.exists():
        return load_soft_targets(path, mark, *train, task)
    transfer = capture(teacher, *train, task)
    save_soft_targets(path, transfer, mark)
    _logger.info(
        "Soft targets of %d training images captured, %d logits each",
        *transfer.teacher_logits.shape,
    )
    return transfer


def _check_same_search(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Refuses to continue a search of other settings; notes them for the next time."""
    path = folder / "settings.json"
    if not path.exists():
        write_json(path, settings)
        return
    found = read_json(path)
    if found != settings:
        other = [name for name in settings if found.get(name) != settings[name]]
        raise InputError(
            f"Expected a search of the same settings in {folder}. Received: one with "
            f"other {', '.join(other)}; use another folder"
        )


def _search_widths(
    trainer: _Trainer, rates: list[float], floor: float, folder: pathlib.Path
) -> tuple[keras.Model, Trial, list[Trial]]:
    """Bisects the rates: the chosen student, its record, and all trials as they ran.

    The chosen one is the smallest feasible; without any, the most accurate.
    """

    def train_candidate(candidate: int, trial_dir: str) -> float:
        return trainer.trial(rates[candidate], floor, pathlib.Path(trial_dir)).accuracy

    oracle = SmallestFeasibleOracle(len(rates), floor)
    try:
        tuner = StudentTuner(oracle, train_candidate, str(folder.parent), folder.name)
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise InputError(
            f"Cannot go on with the search in {folder}: its KerasTuner files are "
            f"damaged ({type(error).__name__}: {error}); use another folder"
        ) from None
    tuner.search()
    records = {
        candidate: Trial(**read_json(_trial_dir(tuner, candidate) / "result.json"))
        for candidate in oracle.scores()
    }
    chosen = oracle.smallest_feasible()
    if chosen is None:
        chosen = max(records, key=lambda c: (records[c].accuracy, -c))
        _logger.warning(
            "No student reaches %.2f %% on the validation images; the best, at rate "
            "%g, reaches %.2f %%",
            100 * floor,
            records[chosen].rate,
            100 * records[chosen].accuracy,
        )
    student = load_kept_model(_trial_dir(tuner, chosen) / "student.keras")
    return student, records[chosen], list(records.values())


def _trial_dir(tuner: StudentTuner, candidate: int) -> pathlib.Path:
    return pathlib.Path(tuner.trial_dir(candidate))


def _verdict(
    teacher: keras.Model,
    student: keras.Model,
    control: keras.Model,
    test: Split,
    task: Task,
    confidence: float,
) -> Verdict:
    """Runs everything on the task's test images, once."""
    images, labels = test
    teacher_logits = predict_logits(teacher, images)
    teacher_is_correct = is_correct(task.select_logits(teacher_logits), labels)
    student_is_correct = is_correct(predict_logits(student, images), labels)
    class_ids = np.asarray(task.output_class_ids)[labels]
    among_task = teacher_logits[:, task.class_ids]
    chosen_ids = np.asarray(task.class_ids)[among_task.argmax(axis=-1)]
    return Verdict(
        teacher_accuracy=float(teacher_is_correct.mean()),
        teacher_accuracy_all_outputs=accuracy(teacher_logits, class_ids),
        teacher_accuracy_task_outputs=float(np.mean(chosen_ids == class_ids)),
        student_accuracy=float(student_is_correct.mean()),
        control_accuracy=accuracy(predict_logits(control, images), labels),
        paired=paired_loss(teacher_is_correct, student_is_correct, confidence),
    )
