"""Trials: the students of a search, each trained once and kept in its own folder."""

import functools
import gc
import logging
import pathlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import keras_tuner
import tensorflow as tf

from tskd_tf.costs import complexity
from tskd_tf.data import Split
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.files import atomic_path, read_json, write_json
from tskd_tf.hparams import write_hparams
from tskd_tf.importance import channel_importance
from tskd_tf.progress import (
    LiveLine,
    Workload,
    accuracy_told,
    in_columns,
    time_told,
    verdict_told,
    workload,
)
from tskd_tf.rebuild import load_kept_model
from tskd_tf.report import Trial
from tskd_tf.soft_targets import TransferSet
from tskd_tf.task import Task
from tskd_tf.training import Recipe, TrainedStudent, train_student
from tskd_tf.verdicts import decision_margin, early_verdict
from tskd_tf.width import StudentBuilder, layer_widths, scale_width
from tuner.engines import (
    BARGAIN,
    ENGINES,
    bargain_score,
    build_engine,
    missing_packages,
)
from tuner.oracle import SmallestFeasibleOracle
from tuner.student_tuner import Attempt, StudentTuner

SMALLEST = "smallest"
ORACLES = (SMALLEST, *ENGINES)
DEFAULT_MAX_EXECUTIONS = 2
# Whatever reading them may raise
_DAMAGE = (
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.NotFoundError,
)
_logger = logging.getLogger(__name__)


class SearchPlan(NamedTuple):
    """What is searched, and how.

    Attributes:
        rates: The candidates, ascending.
        floor: Smallest feasible accuracy on the validation data.
        oracle: One of `ORACLES`: `"smallest"` bisects, the others are KerasTuner's.
        max_executions: Trainings of a candidate that is close to the floor, each with
            a seed of its own, before the answer may rest on it; see
            `tuner.bisection.Bisection`. Of the oracle `"smallest"` only.
        num_workers: Processes that train trials at the same time.
    """

    rates: list[float]
    floor: float
    oracle: str = SMALLEST
    max_executions: int = DEFAULT_MAX_EXECUTIONS
    num_workers: int = 1

    def check(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a value is out of range, or a package is missing.
        """
        if self.oracle not in ORACLES:
            raise InputError(
                f"Expected oracle out of {', '.join(ORACLES)}. Received: {self.oracle}"
            )
        for name in ("max_executions", "num_workers"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"Expected {name} of at least 1. Received: {getattr(self, name)}"
                )
        missing = missing_packages(self.oracle)
        if missing:
            raise InputError(
                f"The {self.oracle} oracle needs {' and '.join(missing)}: "
                f"pip install 'tskd_tf[{self.oracle}]'"
            )

    @property
    def is_a_search(self) -> bool:
        """Whether there is anything to choose from."""
        return len(self.rates) > 1

    @property
    def bisects(self) -> bool:
        """Whether verdicts, not accuracies, are looked for."""
        return self.oracle == SMALLEST and self.is_a_search

    def build_oracle(self, margin: float, seed: int, max_epochs: int) -> Any:
        """The oracle, as chief and workers each make their own."""
        if not self.is_a_search or self.oracle == SMALLEST:
            return SmallestFeasibleOracle(
                len(self.rates),
                self.floor,
                margin=margin,
                max_executions=self.max_executions if self.is_a_search else 1,
                num_workers=self.num_workers,
            )
        return build_engine(self.oracle, len(self.rates), seed, max_epochs)


class Trainer(NamedTuple):
    """Everything that all trials and the control share.

    Attributes:
        teacher: Gives the architecture.
        transfer: D(θ) with the teacher's logits.
        validation: The task's validation images, with labels for class ids.
        task: θ.
        recipe: Of all trainings.
        plan: What is searched.
        log_dir: For TensorBoard; None writes none.
        verbose: `"auto"` writes a line a training to standard error, live on a
            terminal; anything else is as in `keras.Model.fit`.
        build_student: Function of the rate.
    """

    teacher: keras.Model
    transfer: TransferSet
    validation: Split
    task: Task
    recipe: Recipe
    plan: SearchPlan
    log_dir: str | None
    verbose: Any
    build_student: StudentBuilder

    @property
    def num_epochs(self) -> int:
        """Of a training that is not stopped."""
        return self.recipe.num_epochs(len(self.transfer.images))

    @property
    def margin(self) -> float:
        """How far from the floor one training must end to decide alone."""
        return decision_margin(self.plan.floor, len(self.validation.images))

    def oracle(self) -> Any:
        """The plan's, for these data."""
        return self.plan.build_oracle(self.margin, self.recipe.seed, self.num_epochs)

    def trial(self, attempt: Attempt, trial_dir: str) -> dict[str, float]:
        """Trains a student until its verdict is known; returns KerasTuner's metrics.

        It and its record are left in the trial's folder. What is found there already
        is not trained again.
        """
        folder, rate = pathlib.Path(trial_dir), self.plan.rates[attempt.candidate]
        recipe = self._recipe(attempt)
        record = _kept_record(folder, rate, recipe.seed)
        if record is None:
            verdict = None
            if self.plan.bisects:
                verdict = functools.partial(
                    early_verdict,
                    num_epochs=self.num_epochs,
                    floor=self.plan.floor,
                    margin=self.margin,
                )
            record = self._train_and_keep(rate, recipe, folder, verdict)
        self._write_hparams(record, folder)
        score = bargain_score(
            attempt.candidate, record.accuracy, self.plan.floor, len(self.plan.rates)
        )
        return {"val_accuracy": record.accuracy, BARGAIN: score}

    def finish(self, record: Trial, folder: pathlib.Path) -> Trial:
        """Trains a student to the end, if its training was stopped at its verdict.

        The same seed takes it along the same way. Kept is the better of the two, by
        validation accuracy.
        """
        marker = folder / "finished.json"
        if record.epochs < self.num_epochs and not marker.exists():
            self._log_start("Rate %g is trained to the end", record.rate)
            recipe = self.recipe._replace(seed=record.seed)
            trained = self._train_more(
                "to the end",
                record,
                recipe,
                f"{folder.name}_to_the_end",
                self.plan.floor,
                workload(_kept_records(folder.parent), 0, self.num_epochs, 1),
            )
            if trained.accuracy >= record.accuracy:
                record = record._replace(
                    accuracy=trained.accuracy,
                    feasible=trained.accuracy >= self.plan.floor,
                    epochs=trained.epochs,
                    seconds=record.seconds + trained.seconds,
                )
                _keep(trained.student, record, folder)
            write_json(marker, record._asdict())
        self._write_hparams(record, folder)
        return record

    def control(self, record: Trial, folder: pathlib.Path) -> keras.Model:
        """The same student, trained on the hard labels only; trained once a folder."""
        path = folder / f"control_rate_{record.rate:g}.keras"
        if not path.exists():
            self._log_start("Control: rate %g on hard labels only", record.rate)
            recipe = self.recipe._replace(soft_loss_weight=0.0, seed=record.seed)
            trained = self._train_more(
                "control",
                record,
                recipe,
                path.stem,
                None,
                workload(_kept_records(folder), 0, self.num_epochs, 0),
            )
            _save_model(trained.student, path)
        return load_kept_model(path)

    @property
    def shows_lines(self) -> bool:
        """Whether a line a training is told, not Keras's bars."""
        return bool(self.verbose == "auto")

    def tell(self, folder: pathlib.Path) -> None:
        """Writes a line on a trial that ended and is kept in its folder."""
        record = Trial(**read_json(folder / "result.json"))
        if self.shows_lines:
            again = self._is_again(record)
            head = _trial_head(folder, record.rate, record.num_macs, again)
            others = self._workload(folder.parent, num_running=0)
            _write_line(self._line(head, record, self.plan.floor, others))
            return
        _logger.info(
            "Rate %g: %.2f %% of the validation images right, %.2f %% needed: %s",
            record.rate,
            100 * record.accuracy,
            100 * max(self.plan.floor, 0.0),
            "feasible" if record.feasible else "not feasible",
        )

    def _recipe(self, attempt: Attempt) -> Recipe:
        seed = (self.recipe.seed + attempt.execution) % 2**32
        recipe = self.recipe._replace(seed=seed)
        return (
            recipe if attempt.epochs is None else recipe._replace(epochs=attempt.epochs)
        )

    def _train_and_keep(
        self, rate: float, recipe: Recipe, folder: pathlib.Path, verdict: Any
    ) -> Trial:
        student = self.build_student(rate)
        widths, num_macs = layer_widths(student), complexity(student).num_macs
        names = "-".join(map(str, widths))
        self._log_start("Rate %g: %s, %s MACs", rate, names, f"{num_macs:,}")
        live_line = LiveLine(
            _trial_head(folder, rate, num_macs, self._is_again(recipe)),
            self.plan.floor,
            self._workload(folder.parent, num_running=1),
            sys.stderr,
        )
        run_name = _run_name(folder, rate)
        trained = self._train(rate, recipe, run_name, live_line, verdict)
        record = Trial(
            rate=rate,
            widths=widths,
            num_macs=num_macs,
            accuracy=trained.accuracy,
            feasible=trained.accuracy >= self.plan.floor,
            epochs=trained.epochs,
            seconds=trained.seconds,
            seed=recipe.seed,
        )
        _keep(trained.student, record, folder)
        self.tell(folder)
        return record

    def _train_more(
        self,
        title: str,
        record: Trial,
        recipe: Recipe,
        run_name: str,
        floor: float | None,
        others: Workload,
    ) -> TrainedStudent:
        """A training after the trials, told under its title."""
        head = _head(title, record.rate, record.num_macs)
        live_line = LiveLine(head, floor, others, sys.stderr)
        trained = self._train(record.rate, recipe, run_name, live_line)
        if self.shows_lines:
            others = others.after(trained.epochs, trained.seconds)
            _write_line(self._line(head, trained, floor, others))
        return trained

    def _train(
        self,
        rate: float,
        recipe: Recipe,
        run_name: str,
        live_line: LiveLine,
        verdict: Any = None,
    ) -> TrainedStudent:
        log_dir = self.log_dir and str(pathlib.Path(self.log_dir) / run_name)
        with live_line:
            trained = train_student(
                self.teacher,
                rate,
                self.transfer,
                self.validation,
                self.task,
                recipe,
                log_dir,
                0 if self.shows_lines else self.verbose,
                self.build_student,
                verdict,
                [live_line] if self.shows_lines else [],
            )
        # The step traced for it hangs in cycles, which would wait for many more trials
        gc.collect()
        return trained

    def _write_hparams(self, record: Trial, folder: pathlib.Path) -> None:
        if self.log_dir is not None:
            run_dir = pathlib.Path(self.log_dir) / _run_name(folder, record.rate)
            most_macs = complexity(self.teacher).num_macs
            write_hparams(run_dir, record, self.num_epochs, most_macs)

    def _log_start(self, message: str, *values: Any) -> None:
        """The live line says it, where there is one."""
        is_live = self.shows_lines and sys.stderr.isatty()
        _logger.log(logging.DEBUG if is_live else logging.INFO, message, *values)

    def _line(
        self,
        head: Sequence[str],
        trained: TrainedStudent | Trial,
        floor: float | None,
        others: Workload,
    ) -> str:
        """What is told of a training; where there is no floor, without a verdict."""
        is_judged = floor is not None and floor > 0.0
        feasible = trained.accuracy >= self.plan.floor if is_judged else None
        # What KerasTuner's engines train for fewer epochs is not stopped
        num_epochs = self.num_epochs if self.plan.bisects else trained.epochs
        return in_columns(
            [
                *head,
                accuracy_told(trained.accuracy, floor),
                verdict_told(feasible, trained.epochs, num_epochs),
                time_told(trained.seconds, others),
            ]
        )

    def _is_again(self, trained: Recipe | Trial) -> bool:
        return trained.seed != self.recipe.seed

    def _workload(self, search_dir: pathlib.Path, num_running: int) -> Workload:
        """What the search has done and, beyond what is running, has left."""
        records = _kept_records(search_dir)
        num_rounds = self._num_rounds_left(records)
        if num_rounds is not None:
            num_rounds = max(0, num_rounds - num_running)
        # The control, and the chosen student to the end
        num_full_trainings = 2 if self.plan.bisects else 1
        return workload(records, num_rounds, self.num_epochs, num_full_trainings)

    def _num_rounds_left(self, records: list[Trial]) -> int | None:
        """Trials still to come one after the other; None if nobody can tell."""
        plan, oracle = self.plan, self.oracle()
        if isinstance(oracle, SmallestFeasibleOracle):
            scores: dict[int, list[float]] = {}
            for record in records:
                candidate = plan.rates.index(record.rate)
                scores.setdefault(candidate, []).append(record.accuracy)
            return oracle.bisection.num_rounds_left(scores, plan.num_workers)
        num_trials = len(plan.rates) if plan.oracle == "grid" else oracle.max_trials
        if num_trials is None:
            return None
        return -(-max(0, num_trials - len(records)) // plan.num_workers)


def thinner(
    teacher: keras.Model, transfer: TransferSet, task: Task, recipe: Recipe
) -> StudentBuilder:
    """Builds thinner copies of the teacher that start as the recipe says."""
    importance = None
    if recipe.initialize == "teacher":
        importance = channel_importance(teacher, task, transfer.images, transfer.labels)
    return functools.partial(
        scale_width,
        teacher,
        task=task,
        initialize=recipe.initialize,
        importance=importance,
    )


def build_tuner(trainer: Trainer, folder: pathlib.Path) -> StudentTuner:
    """KerasTuner's tuner over a search's folder, with what is kept there.

    Raises:
        InputError: If that is damaged.
    """
    try:
        return StudentTuner(
            trainer.oracle(), trainer.trial, str(folder.parent), folder.name
        )
    except _DAMAGE as error:
        raise InputError(
            f"Cannot go on with the search in {folder}: its KerasTuner files are "
            f"damaged ({type(error).__name__}: {in_one_line(error)}); use another "
            "folder"
        ) from None


def search_widths(
    trainer: Trainer,
    folder: pathlib.Path,
    run: Callable[[StudentTuner], None] = StudentTuner.search,
) -> tuple[keras.Model, Trial, list[Trial]]:
    """Searches the rates: the chosen student, its record, and all trials as they ran.

    The chosen one is the smallest feasible, trained to the end; without any, the most
    accurate. Of several executions it is the best.

    Args:
        trainer: Trains the trials.
        folder: Where they are kept.
        run: Runs the search of a tuner, here or by other processes.
    """
    tuner = build_tuner(trainer, folder)
    try:
        run(tuner)
    except keras_tuner.errors.FatalError as error:
        # Files that are damaged or cannot be written are no defect of a trial
        if isinstance(error.__cause__, (InputError, OSError)):
            raise error.__cause__
        raise
    folders: dict[float, list[tuple[Trial, pathlib.Path]]] = {}
    trials = []
    for trial_id in tuner.oracle.end_order:
        trial_dir = pathlib.Path(tuner.get_trial_dir(trial_id))
        record = _read_record(trial_dir / "result.json")
        trials.append(record)
        folders.setdefault(record.rate, []).append((record, trial_dir))
    # Trials of Hyperband differ in their epochs, not by chance
    one_score = statistics.fmean if trainer.plan.oracle == SMALLEST else max
    scores = {
        rate: one_score([record.accuracy for record, _ in kept])
        for rate, kept in folders.items()
    }
    feasible = [rate for rate in scores if scores[rate] >= trainer.plan.floor]
    rate = min(feasible) if feasible else max(scores, key=lambda r: (scores[r], -r))
    chosen, trial_dir = max(folders[rate], key=lambda kept: kept[0].accuracy)
    if not feasible:
        _logger.warning(
            "No student reaches %.2f %% on the validation images; the best, at rate "
            "%g, reaches %.2f %%",
            100 * trainer.plan.floor,
            rate,
            100 * scores[rate],
        )
    finished = trainer.finish(chosen, trial_dir)
    trials[trials.index(chosen)] = finished
    return load_kept_model(trial_dir / "student.keras"), finished, trials


def _write_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _head(title: str, rate: float, num_macs: int) -> list[str]:
    return [title, f"rate {rate:g}", f"{num_macs:,} MACs"]


def _trial_head(
    folder: pathlib.Path, rate: float, num_macs: int, again: bool
) -> list[str]:
    """KerasTuner counts from 0: `trial_0002` is trial 3."""
    number = int(folder.name.removeprefix("trial_")) + 1
    return _head(f"trial {number}" + " (again)" * again, rate, num_macs)


def _run_name(folder: pathlib.Path, rate: float) -> str:
    return f"{folder.name}_rate_{rate:g}"


def _kept_records(search_dir: pathlib.Path) -> list[Trial]:
    """Of the trials that ended, in any process."""
    paths = sorted(search_dir.glob("trial_*/result.json"))
    return [Trial(**read_json(path)) for path in paths]


def _kept_record(folder: pathlib.Path, rate: float, seed: int) -> Trial | None:
    """What was trained before the process ended, if the oracle did not hear of it."""
    path = folder / "result.json"
    if not path.exists():
        return None
    record = _read_record(path)
    return record if (record.rate, record.seed) == (rate, seed) else None


def _read_record(path: pathlib.Path) -> Trial:
    found = read_json(path)
    if not isinstance(found, dict) or set(found) != set(Trial._fields):
        raise InputError(
            f"Expected {path} to be the record of a trial. Received: another file, so "
            "its run cannot go on; use another folder"
        )
    return Trial(**found)


def _keep(student: keras.Model, record: Trial, folder: pathlib.Path) -> None:
    """The record comes last: where there is one, there is its student."""
    _save_model(student, folder / "student.keras")
    write_json(folder / "result.json", record._asdict())


def _save_model(model: keras.Model, path: pathlib.Path) -> None:
    with atomic_path(path) as temporary:
        model.save(temporary)
