"""An oracle that finds the cheapest candidate above an accuracy floor."""

from collections.abc import Sequence
from typing import Any

import keras_tuner

from tuner.chains import Chains
from tuner.durable import Durable, Status

CANDIDATE = "candidate"
EXECUTION = "execution"


class SmallestFeasibleOracle(Durable, keras_tuner.Oracle):
    """Bisects ordered lists of candidates for the smallest that is feasible.

    Candidates are the integers 0 (cheapest) to `num_candidates − 1` (dearest); see
    `chains.Chains` for what is tried and when it is tried again. Every execution
    is a trial of its own. An infeasible candidate is a score like any other, not a
    failure; a failed trial stops the search.

    Args:
        num_candidates: At least 1.
        floor: Smallest feasible objective.
        objective: Name of the metric that trials report; larger is better.
        margin: A candidate whose mean is closer to the floor is executed again, if the
            answer rests on it.
        max_executions: Of one candidate, at least 1.
        num_workers: Expected to ask for trials; more may come, fewer may be.
        chains: One list per chain with the numbers of its candidates, ascending; the
            most promising chain first. Default: one chain of all candidates.

    Raises:
        ValueError: If there is no candidate, or no execution.

    Example:

    >>> oracle = SmallestFeasibleOracle(num_candidates=20, floor=0.99)
    """

    def __init__(
        self,
        num_candidates: int,
        floor: float,
        objective: str = "val_accuracy",
        margin: float = 0.0,
        max_executions: int = 1,
        num_workers: int = 1,
        chains: Sequence[Sequence[int]] = (),
    ) -> None:
        if num_candidates < 1:
            raise ValueError(
                f"Expected at least one candidate. Received: {num_candidates}"
            )
        if max_executions < 1:
            raise ValueError(
                f"Expected at least one execution. Received: {max_executions}"
            )
        space = keras_tuner.HyperParameters()
        space.Int(CANDIDATE, min_value=0, max_value=num_candidates - 1)
        space.Int(EXECUTION, min_value=0, max_value=max_executions - 1)
        super().__init__(
            objective=keras_tuner.Objective(objective, direction="max"),
            hyperparameters=space,
            allow_new_entries=False,
            tune_new_entries=False,
            # Nothing is drawn at random; KerasTuner itself draws a seed when given 0
            seed=1,
            max_consecutive_failed_trials=1,
        )
        members = tuple(map(tuple, chains or [range(num_candidates)]))
        self.chains = Chains(members, floor, margin, max_executions)
        self._num_workers = num_workers

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The most useful candidate; called by `create_trial`."""
        scores = self.scores()
        running = [
            trial.hyperparameters.values[CANDIDATE]
            for trial in self.trials.values()
            if trial.status == Status.RUNNING
        ]
        num_workers = max(self._num_workers, len(self.tuner_ids))
        candidate = self.chains.next_candidate(scores, running, num_workers)
        if candidate is None:
            # What runs now may turn a verdict round
            status = Status.IDLE if running else Status.STOPPED
            return {"status": status, "values": None}
        execution = len(scores.get(candidate, [])) + running.count(candidate)
        values = {CANDIDATE: candidate, EXECUTION: execution}
        return {"status": Status.RUNNING, "values": values}

    def scores(self) -> dict[int, list[float]]:
        """Objectives by candidate, of the completed trials as they ended."""
        found: dict[int, list[float]] = {}
        for trial in map(self.trials.__getitem__, self.end_order):
            if trial.status == Status.COMPLETED:
                candidate = trial.hyperparameters.values[CANDIDATE]
                found.setdefault(candidate, []).append(float(trial.score))
        return found

    def smallest_feasible(self) -> int | None:
        """The answer once the search has stopped; None if nothing is feasible."""
        return self.chains.smallest_feasible(self.scores())
