"""An oracle that finds the cheapest candidate above an accuracy floor."""

from typing import Any

import keras_tuner

CANDIDATE = "candidate"
_COMPLETED = keras_tuner.engine.trial.TrialStatus.COMPLETED
_IDLE = keras_tuner.engine.trial.TrialStatus.IDLE
_RUNNING = keras_tuner.engine.trial.TrialStatus.RUNNING
_STOPPED = keras_tuner.engine.trial.TrialStatus.STOPPED


class SmallestFeasibleOracle(keras_tuner.Oracle):
    """Bisects an ordered list of candidates for the smallest that is feasible.

    Candidates are the integers 0 (cheapest) to `num_candidates − 1` (dearest). One is
    feasible when its objective reaches the floor. The search assumes that whatever is
    dearer than a feasible candidate is feasible too, and then needs about log₂ of the
    number of candidates. An infeasible candidate is a score like any other, not a
    failure; a failed trial stops the search.

    Args:
        num_candidates: At least 1.
        floor: Smallest feasible objective.
        objective: Name of the metric that trials report; larger is better.

    Raises:
        ValueError: If there is no candidate.

    Example:

    >>> oracle = SmallestFeasibleOracle(num_candidates=20, floor=0.99)
    """

    def __init__(
        self, num_candidates: int, floor: float, objective: str = "val_accuracy"
    ) -> None:
        if num_candidates < 1:
            raise ValueError(
                f"Expected at least one candidate. Received: {num_candidates}"
            )
        space = keras_tuner.HyperParameters()
        space.Int(CANDIDATE, min_value=0, max_value=num_candidates - 1)
        super().__init__(
            objective=keras_tuner.Objective(objective, direction="max"),
            hyperparameters=space,
            allow_new_entries=False,
            tune_new_entries=False,
            # Nothing is drawn at random; KerasTuner itself draws a seed when given 0
            seed=1,
            max_consecutive_failed_trials=1,
        )
        self.num_candidates = num_candidates
        self.floor = floor

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The middle of what is still open; called by `create_trial`."""
        low, high = self.open_interval()
        middle = (low + high) // 2
        if high - low <= 1:
            return {"status": _STOPPED, "values": None}
        running = [t for t in self.trials.values() if t.status == _RUNNING]
        if middle in [t.hyperparameters.values[CANDIDATE] for t in running]:
            return {"status": _IDLE, "values": None}
        return {"status": _RUNNING, "values": {CANDIDATE: middle}}

    def open_interval(self) -> tuple[int, int]:
        """`(low, high)`: what lies strictly between them is still undecided.

        `high` is the smallest candidate found feasible (`num_candidates` if none),
        `low` the largest below it found infeasible (−1 if none).
        """
        scores = self.scores()
        high = min(
            (c for c, score in scores.items() if score >= self.floor),
            default=self.num_candidates,
        )
        low = max((c for c in scores if c < high), default=-1)
        return low, high

    def scores(self) -> dict[int, float]:
        """Objective by candidate, for the completed trials as they ended."""
        ended = [self.trials[trial_id] for trial_id in self.end_order]
        return {
            trial.hyperparameters.values[CANDIDATE]: trial.score
            for trial in ended
            if trial.status == _COMPLETED
        }

    def smallest_feasible(self) -> int | None:
        """The answer once the search has stopped; None if nothing is feasible."""
        _, high = self.open_interval()
        return high if high < self.num_candidates else None
