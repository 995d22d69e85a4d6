"""A tuner that trains one candidate a trial and stops at the first error."""

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
    """What a trial is to train.

    Attributes:
        candidate: 0 is the cheapest.
        execution: 0 for the first of the candidate; each has a seed of its own.
        epochs: As many as Hyperband gives it; None for those of the recipe.
    """

    candidate: int
    execution: int = 0
    epochs: int | None = None


TrainCandidate = Callable[[Attempt, str], dict[str, float]]


class StudentTuner(base_tuner.BaseTuner):
    """Asks the oracle for candidates and trains them.

    KerasTuner takes an exception in a trial for a bad trial and goes on; here it ends
    the search at once, because a defect would fail every trial alike.

    Args:
        oracle: Chooses the candidates; a `durable.Durable` one.
        train_candidate: `(attempt, trial_dir)` → metrics, the oracle's objective among
            them; may leave files in the trial's folder. When it is asked for what it
            has trained there already, because the process was ended before the
            oracle knew, it need not train it again.
        directory: Where the search is kept. A search found there is continued.
        project_name: Its folder in `directory`.

    Attributes:
        num_trials: Run by this tuner so far.

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
        """Called where this tuner left no file; a search may be there all the same.

        Another one may have left it, such as a chief.
        """
        if not self._is_worker() and pathlib.Path(self._oracle_file()).exists():
            self.oracle.reload()

    def _oracle_file(self) -> str:
        name: str = self.oracle._get_oracle_fname()
        return name

    def pre_create_trial(self) -> None:
        """Waits where the oracle had nothing to do; KerasTuner asks without a pause."""
        if self._is_idle:
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        self._is_idle = True

    def on_trial_begin(self, trial: Any) -> None:
        """Notes that there was something to do."""
        self._is_idle = False
        self.num_trials += 1

    def on_search_begin(self) -> None:
        """Leaves the files by which a search is known again, before the first trial."""
        self.save()

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains the trial's candidate; called by `search`.

        Raises:
            keras_tuner.errors.FatalRuntimeError: If training it fails, or what it
                gives is no finite number.
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
                f"{name} gave {metrics}, which is no score"
            )
        return metrics

    def save(self) -> None:
        """All or nothing. A worker has nothing to keep, and a name of any kind."""
        if self._is_worker():
            return
        self.oracle.save()
        write_state(pathlib.Path(self._get_tuner_fname()), self.get_state())
