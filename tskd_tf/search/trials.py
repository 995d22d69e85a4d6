"""The search over widths, and the choice among its students."""

import logging
import pathlib
import statistics
from collections.abc import Callable, Mapping

import keras
import keras_tuner
import tensorflow as tf

from tskd_tf.errors import InputError, in_one_line
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.search.evidence import Trial
from tskd_tf.search.plan import SMALLEST, SearchPlan
from tskd_tf.search.trainer import ACCURACY, Trainer
from tskd_tf.search.trial_files import OVER, RECORD, STUDENT, read_record
from tuner.student_tuner import StudentTuner

# Errors that damaged files of KerasTuner may raise
_DAMAGE = (
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.NotFoundError,
)
_logger = logging.getLogger(__name__)


def build_tuner(trainer: Trainer, folder: pathlib.Path) -> StudentTuner:
    """Builds KerasTuner's tuner for a search's folder; it loads the state kept there.

    Raises:
        InputError: If the files in the folder are damaged.
    """
    oracle = trainer.oracle()
    try:
        return StudentTuner(oracle, trainer.trial, str(folder.parent), folder.name)
    except _DAMAGE as error:
        raise InputError(
            f"Cannot resume the search in {folder}: its KerasTuner files are "
            f"damaged ({type(error).__name__}: {in_one_line(error)}); use another "
            "folder"
        ) from None


def search_widths(
    trainer: Trainer,
    folder: pathlib.Path,
    run: Callable[[StudentTuner], None] = StudentTuner.search,
) -> tuple[keras.Model, Trial, list[Trial]]:
    """Runs the search over the candidates and chooses a student.

    The chosen student is trained to the end, see `chosen_candidate`. Of several
    trainings of a candidate, the best is used.

    Args:
        trainer: Trains the trials.
        folder: Folder of the search.
        run: Runs the search of a tuner, here or in other processes. Default: here.

    Returns:
        The chosen student, its record, and the records of all trials in the order in
        which they ended.

    Raises:
        InputError: If files of the search are damaged.
    """
    tuner = build_tuner(trainer, folder)
    try:
        run(tuner)
    except keras_tuner.errors.FatalError as error:
        # Files that are damaged or not writable are not errors of a trial
        if isinstance(error.__cause__, (InputError, OSError)):
            raise error.__cause__
        raise
    # A resumed search needs no workers then
    (folder / OVER).touch()
    folders: dict[int, list[tuple[Trial, pathlib.Path]]] = {}
    accuracies: dict[int, list[float]] = {}
    trials = []
    for trial_id in tuner.oracle.end_order:
        trial_dir = pathlib.Path(tuner.get_trial_dir(trial_id))
        record = read_record(trial_dir / RECORD)
        trials.append(record)
        number = trainer.plan.candidates.index(record.candidate)
        folders.setdefault(number, []).append((record, trial_dir))
        # The accuracy that the oracle used; the record may be of a training to the end
        history = tuner.oracle.trials[trial_id].metrics.get_history(ACCURACY)
        accuracies.setdefault(number, []).append(float(history[-1].value[-1]))
    # Trials of Hyperband differ in their numbers of epochs, not by chance
    one_score = statistics.fmean if trainer.plan.oracle == SMALLEST else max
    scores = {number: one_score(values) for number, values in accuracies.items()}
    number = chosen_candidate(scores, trainer.plan)
    # Of equally accurate trials of Hyperband, the longest: it may need no more training
    chosen, trial_dir = max(
        folders[number], key=lambda kept: (kept[0].accuracy, kept[0].epochs)
    )
    if scores[number] < trainer.plan.floor:
        _logger.warning(
            "No student reaches %.2f %% on the validation images; the best, at %s, "
            "reaches %.2f %%",
            100 * trainer.plan.floor,
            chosen.candidate,
            100 * scores[number],
        )
    finished = trainer.finish(chosen, trial_dir)
    trials[trials.index(chosen)] = finished
    return load_kept_model(trial_dir / STUDENT), finished, trials


def chosen_candidate(scores: Mapping[int, float], plan: SearchPlan) -> int:
    """The answer of a search: the smallest feasible candidate.

    It is the most accurate one if none is feasible, or if any loss is allowed.

    Args:
        scores: Validation accuracies in [0, 1] by number of the candidate, 0 for that
            with the fewest multiply-adds; at least one.
        plan: The plan of the search.
    """
    feasible = [number for number in scores if scores[number] >= plan.floor]
    if feasible and not plan.any_loss:
        return min(feasible)
    return max(scores, key=lambda number: (scores[number], -number))
