"""What a search looks for: the candidates, the floor, and who chooses what is tried."""

import numbers
from typing import Any, NamedTuple

from tskd_tf.choices import ORACLES
from tskd_tf.errors import InputError
from tuner.engines import build_engine, missing_packages
from tuner.oracle import SmallestFeasibleOracle

SMALLEST = "smallest"
DEFAULT_MAX_EXECUTIONS = 2
# Share of a standard error within which a candidate is trained again; its price is in
# benchmarks/oracle_simulation.py. A verdict comes early beyond a whole one
_CLOSE = 0.5


class SearchPlan(NamedTuple):
    """What is searched, and how.

    Attributes:
        rates: The candidates, ascending.
        floor: Smallest feasible accuracy on the validation data.
        oracle: One of `choices.ORACLES`: `"smallest"` bisects, the others are
            KerasTuner's.
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
        """Whether there is anything to choose from."""
        return len(self.rates) > 1

    @property
    def bisects(self) -> bool:
        """Whether verdicts, not accuracies, are looked for."""
        return self.oracle == SMALLEST and self.is_a_search

    def build_oracle(self, standard_error: float, seed: int, max_epochs: int) -> Any:
        """The oracle, as chief and workers each make their own.

        Args:
            standard_error: Of an accuracy at the floor.
            seed: Of KerasTuner's engines.
            max_epochs: Of a trial.
        """
        if not self.is_a_search or self.oracle == SMALLEST:
            return SmallestFeasibleOracle(
                len(self.rates),
                self.floor,
                margin=_CLOSE * standard_error,
                max_executions=self.max_executions if self.is_a_search else 1,
                num_workers=self.num_workers,
            )
        return build_engine(self.oracle, len(self.rates), seed, max_epochs)
