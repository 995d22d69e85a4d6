"""A tuner that trains one candidate per trial and stops at the first error."""

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner.engine import base_tuner

from tuner.durable import write_state
from tuner.oracle import CANDIDATE, EXECUTION

_SECONDS_BETWEEN_QUESTIONS = 0.2


class Attempt(NamedTuple):
    """What a trial trains.

    Attributes:
        candidate: Number of the candidate, from 0, the cheapest.
        execution: Number of the candidate's execution, from 0; each has another seed.
        epochs: Number of epochs from Hyperband; None for the number in the recipe.
    """

    candidate: int
    execution: int = 0
    epochs: int | None = None


TrainCandidate = Callable[[Attempt, str], dict[str, float]]


class StudentTuner(base_tuner.BaseTuner):
    """Asks the oracle for candidates and trains them.

    KerasTuner goes on after an exception in a trial. Here it ends the search at once,
    because a defect would make every trial fail.

    Args:
        oracle: Chooses the candidates; it is a `durable.Durable`.
        train_candidate: Function `(attempt, trial_dir)` that gives metrics, including
            the oracle's objective. It may leave files in the trial's folder. It may be
            called again for a finished training, if the process ended before the oracle
            was informed; it need not train again then.
        directory: Folder of searches. A search found there is continued.
        project_name: Name of the search's folder in `directory`.

    Attributes:
        num_trials: Number of trials that this tuner has run.

    Example:

    >>> tuner = StudentTuner(oracle, train_candidate, "output", "search")
    >>> tuner.search()
    >>> tuner.oracle.smallest_feasible()
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        train_candidate: TrainCandidate,
        directory: str,
        project_name: str,
    ) -> None:
        self._train_candidate = train_candidate
        self._is_idle = False
        self.num_trials = 0
        super().__init__(oracle=oracle, directory=directory, project_name=project_name)
        if not self._is_worker():
            self.oracle.verbose = 0

    def _populate_initial_space(self) -> None:
        """Continues a search of another tuner, e.g. a chief.

        KerasTuner calls it if this tuner has not left a file.
        """
        if not self._is_worker() and pathlib.Path(self._oracle_file()).exists():
            self.oracle.reload()

    def _oracle_file(self) -> str:
        name: str = self.oracle._get_oracle_fname()
        return name

    def pre_create_trial(self) -> None:
        """Waits if the oracle had no trial; KerasTuner asks again without a pause."""
        if self._is_idle:
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        self._is_idle = True

    def on_trial_begin(self, trial: Any) -> None:
        """Notes that the oracle had a trial."""
        self._is_idle = False
        self.num_trials += 1

    def on_search_begin(self) -> None:
        """Writes the files of the search before the first trial, for a resume."""
        self.save()

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains the trial's candidate; called by `search`.

        Raises:
            keras_tuner.errors.FatalRuntimeError: If the training fails, or a metric is
                not a finite number.
        """
        values = trial.hyperparameters.values
        attempt = Attempt(
            values[CANDIDATE], values.get(EXECUTION, 0), values.get("tuner/epochs")
        )
        name = f"Trial {trial.trial_id} (candidate {attempt.candidate})"
        try:
            metrics = self._train_candidate(attempt, self.get_trial_dir(trial.trial_id))
        except Exception as error:
            raise keras_tuner.errors.FatalRuntimeError(
                f"{name} failed: {error}"
            ) from error
        if not all(map(math.isfinite, metrics.values())):
            raise keras_tuner.errors.FatalRuntimeError(
                f"{name} failed: expected finite metrics. Received: {metrics}"
            )
        return metrics

    def save(self) -> None:
        """Writes the search's files completely or not at all.

        A worker writes none: it has no state, and its name need not be a file name.
        """
        if self._is_worker():
            return
        self.oracle.save()
        write_state(pathlib.Path(self._get_tuner_fname()), self.get_state())
