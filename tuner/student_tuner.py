"""A tuner that trains one candidate a trial and stops at the first error."""

from collections.abc import Callable
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner

from tuner.oracle import CANDIDATE, SmallestFeasibleOracle

TrainCandidate = Callable[[int, str], float]


class StudentTuner(base_tuner.BaseTuner):
    """Asks the oracle for candidates and trains them.

    KerasTuner takes an exception in a trial for a bad trial and goes on; here it ends
    the search at once, because a defect would fail every trial alike.

    Args:
        oracle: Chooses the candidates.
        train_candidate: `(candidate, trial_dir)` → objective; may leave files in the
            trial's folder.
        directory: Where the search is kept. A search found there is continued.
        project_name: Its folder in `directory`.

    Example:

    >>> tuner = StudentTuner(oracle, train_candidate, "output", "search")
    >>> tuner.search()
    >>> tuner.oracle.smallest_feasible()
    """

    def __init__(
        self,
        oracle: SmallestFeasibleOracle,
        train_candidate: TrainCandidate,
        directory: str,
        project_name: str,
    ) -> None:
        self._train_candidate = train_candidate
        super().__init__(oracle=oracle, directory=directory, project_name=project_name)
        self.oracle.verbose = 0

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains the trial's candidate; called by `search`.

        Raises:
            keras_tuner.errors.FatalRuntimeError: If training it fails.
        """
        candidate = trial.hyperparameters.get(CANDIDATE)
        try:
            objective = self._train_candidate(
                candidate, self.get_trial_dir(trial.trial_id)
            )
        except Exception as error:
            raise keras_tuner.errors.FatalRuntimeError(
                f"Trial {trial.trial_id} (candidate {candidate}) failed: {error}"
            ) from error
        return {self.oracle.objective.name: objective}

    def trial_dir(self, candidate: int) -> str:
        """Folder of the completed trial of a candidate.

        Raises:
            KeyError: If it has none.
        """
        for trial in self.oracle.trials.values():
            if trial.hyperparameters.values[CANDIDATE] == candidate:
                return str(self.get_trial_dir(trial.trial_id))
        raise KeyError(candidate)
