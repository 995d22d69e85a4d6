"""The plan of a search: candidates, accuracy floor and oracle."""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from tskd_tf.choices import ORACLES, check_choice
from tskd_tf.errors import InputError
from tskd_tf.search.candidate import Candidate
from tuner.engines import build_engine, missing_packages
from tuner.oracle import SmallestFeasibleOracle

SMALLEST = "smallest"
DEFAULT_MAX_EXECUTIONS = 2
# A candidate within this share of a standard error from the floor is trained again; see
# benchmarks/oracle_simulation.py for the cost. Early verdicts need a whole one
_CLOSE = 0.5


class SearchPlan(NamedTuple):
    """The candidates of a search, and how it chooses among them.

    Attributes:
        candidates: In ascending order of multiply-adds.
        floor: Smallest feasible accuracy on the validation data.
        oracle: One of `choices.ORACLES`: `"smallest"` (default) bisects, the others are
            KerasTuner's.
        max_executions: Number of trainings, with different seeds, of a candidate close
            to the floor, ≥ 1; see `tuner.bisection.Bisection`. Only for `"smallest"`.
            Default: 2.
        num_workers: Number of processes that train trials in parallel, ≥ 1. Default: 1.
        chains: Positions of each family's candidates, ascending, the most promising
            family first. Default: one family.
        any_loss: Whether any accuracy loss is allowed. Then all candidates are trained,
            and the most accurate one is the answer. Default: False.
        judge_by: `"float"` (default): the student's accuracy decides. `"int8"`: that of
            its int8 LiteRT file.
    """

    candidates: Sequence[Candidate]
    floor: float
    oracle: str = SMALLEST
    max_executions: int = DEFAULT_MAX_EXECUTIONS
    num_workers: int = 1
    chains: Sequence[Sequence[int]] = ()
    any_loss: bool = False
    judge_by: str = "float"

    def check(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a value is out of range, or a package is missing.
        """
        check_choice("oracle", self.oracle, ORACLES)
        for name in ("max_executions", "num_workers"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < 1:
                raise InputError(
                    f"Expected {name} of at least 1, a whole number. Received: {value}"
                )
        missing = missing_packages(self.oracle)
        if missing:
            raise InputError(
                f"The {self.oracle} oracle needs {' and '.join(missing)}: "
                f"pip install 'tskd_tf[{self.oracle}]'"
            )

    @property
    def is_a_search(self) -> bool:
        """Whether there is more than one candidate."""
        return len(self.candidates) > 1

    @property
    def bisects(self) -> bool:
        """Whether the search bisects, so that it needs verdicts, not accuracies."""
        return self.oracle == SMALLEST and self.is_a_search and not self.any_loss

    def build_oracle(self, standard_error: float, seed: int, max_epochs: int) -> Any:
        """Builds the oracle; the chief and each worker build their own.

        Args:
            standard_error: Standard error of an accuracy at the floor, > 0.
            seed: Seed of KerasTuner's engines.
            max_epochs: Largest number of epochs of a trial.
        """
        num_candidates = len(self.candidates)
        if self.any_loss and self.is_a_search and self.oracle == SMALLEST:
            return build_engine("grid", num_candidates, seed, max_epochs)
        if not self.is_a_search or self.oracle == SMALLEST:
            return SmallestFeasibleOracle(
                num_candidates,
                self.floor,
                margin=_CLOSE * standard_error,
                max_executions=self.max_executions if self.is_a_search else 1,
                num_workers=self.num_workers,
                chains=self.chains,
            )
        return build_engine(self.oracle, num_candidates, seed, max_epochs)


def num_rounds_left(plan: SearchPlan, oracle: Any, trials: Sequence[Any]) -> int | None:
    """Number of remaining trials in sequence; None if unknown.

    Args:
        plan: The plan of the search.
        oracle: The plan's oracle.
        trials: Records of the trials that ended, each an `evidence.Trial`.
    """
    if isinstance(oracle, SmallestFeasibleOracle):
        scores: dict[int, list[float]] = {}
        for trial in trials:
            number = plan.candidates.index(trial.candidate)
            scores.setdefault(number, []).append(trial.accuracy)
        return oracle.chains.num_rounds_left(scores, plan.num_workers)
    num_trials = oracle.max_trials
    if plan.oracle == "grid" or plan.any_loss:
        num_trials = len(plan.candidates)
    if num_trials is None:
        return None
    return -(-max(0, num_trials - len(trials)) // plan.num_workers)
