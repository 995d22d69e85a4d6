"""Trials: the students of a search, each trained once and kept in its own folder."""

import gc
import logging
import pathlib
from typing import Any, NamedTuple

import keras

from tskd_tf.costs import complexity
from tskd_tf.data import Split
from tskd_tf.errors import InputError
from tskd_tf.files import atomic_path, read_json, write_json
from tskd_tf.rebuild import load_kept_model
from tskd_tf.report import Trial
from tskd_tf.soft_targets import TransferSet
from tskd_tf.task import Task
from tskd_tf.training import Recipe, TrainedStudent, train_student
from tskd_tf.width import StudentBuilder, layer_widths
from tuner.oracle import SmallestFeasibleOracle
from tuner.student_tuner import StudentTuner

_logger = logging.getLogger(__name__)


class Trainer(NamedTuple):
    """Everything that all trials and the control share."""

    teacher: keras.Model
    transfer: TransferSet
    validation: Split
    task: Task
    recipe: Recipe
    log_dir: str | None
    verbose: Any
    build_student: StudentBuilder

    def trial(self, rate: float, floor: float, trial_dir: pathlib.Path) -> Trial:
        """Trains the student of a rate and leaves it, and its record, in a folder."""
        student = self.build_student(rate)
        widths, num_macs = layer_widths(student), complexity(student).num_macs
        names = "-".join(map(str, widths))
        _logger.info("Rate %g: %s, %s MACs", rate, names, f"{num_macs:,}")
        trained = self._train(rate, self.recipe, f"{trial_dir.name}_rate_{rate:g}")
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
            100 * max(floor, 0.0),
            "feasible" if record.feasible else "not feasible",
        )
        return record

    def control(self, rate: float, folder: pathlib.Path) -> keras.Model:
        """The same student, trained on the hard labels only; trained once a folder."""
        path = folder / f"control_rate_{rate:g}.keras"
        if not path.exists():
            recipe = self.recipe._replace(soft_loss_weight=0.0)
            trained = self._train(rate, recipe, path.stem)
            _save_model(trained.student, path)
        return load_kept_model(path)

    def _train(self, rate: float, recipe: Recipe, run_name: str) -> TrainedStudent:
        log_dir = self.log_dir and str(pathlib.Path(self.log_dir) / run_name)
        trained = train_student(
            self.teacher,
            rate,
            self.transfer,
            self.validation,
            self.task,
            recipe,
            log_dir,
            self.verbose,
            self.build_student,
        )
        # The step traced for it hangs in cycles, which would wait for many more trials
        gc.collect()
        return trained


def _save_model(model: keras.Model, path: pathlib.Path) -> None:
    with atomic_path(path) as temporary:
        model.save(temporary)


def search_widths(
    trainer: Trainer, rates: list[float], floor: float, folder: pathlib.Path
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
