"""KerasTuner's own search engines on the same ordered candidates.

They maximise an objective. Here it is `bargain_score`, which is largest for the
smallest feasible candidate. They do not know that accuracy rises with width, so they
need more trials for the same answer.
"""

import importlib.util
import math
import random
from typing import Any

import keras_tuner
import numpy as np

from tuner.durable import Durable
from tuner.oracle import CANDIDATE

BARGAIN = "bargain"
ENGINES = ("grid", "random", "bayesian", "hyperband")
_MAX_TRIALS = 10
_NUM_SEEDS = 2**32


def bargain_score(
    candidate: int, accuracy: float, floor: float, num_candidates: int
) -> float:
    """The constraint of Eq. 4 (Shi et al. 2017) as one number; larger is better.

    Args:
        candidate: From 0, the cheapest, to `num_candidates` − 1.
        accuracy: Accuracy of the candidate, in [0, 1].
        floor: Smallest feasible accuracy, in [0, 1].
        num_candidates: Number of candidates, ≥ 1.

    Returns:
        For an infeasible candidate its accuracy, below 1. For a feasible one a number
        in (1, 2], larger for a cheaper candidate.
    """
    if accuracy < floor:
        return accuracy
    return 1.0 + (num_candidates - candidate) / num_candidates


class _Untried(Durable):
    """Draws only candidates that have not been tried.

    KerasTuner draws from all candidates. After 20 draws of tried ones it ends the
    search, possibly before the last of a few candidates.
    """

    def _random_values(self) -> dict[str, Any] | None:
        oracle: Any = self
        (space,) = oracle.hyperparameters.space
        untried = [
            {CANDIDATE: candidate}
            for candidate in space.values
            if not oracle._duplicate({CANDIDATE: candidate})
        ]
        if not untried:
            return None
        chosen = random.Random(oracle._seed_state).choice(untried)
        oracle._seed_state += 1
        return chosen


class _Grid(Durable, keras_tuner.oracles.GridSearchOracle):
    """Grid search that can be resumed.

    KerasTuner's grid search loses the order of its trials when the process ends, and
    fails with a KeyError (keras-tuner#1055). For a single hyperparameter, it is the
    order in which the trials started.
    """

    def reload(self) -> None:
        super().reload()
        self._ordered_ids: Any = type(self._ordered_ids)()
        for last, trial_id in zip([None, *self.start_order], self.start_order):
            self._ordered_ids.insert(trial_id, last)
        self._populate_next = self.start_order[-1:]


class _Random(_Untried, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(_Untried, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation that can be resumed and tries no candidate twice.

    KerasTuner's version loses its random state when the process ends, and proposes the
    best candidate so far repeatedly.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        seed = (self.seed + len(self.trials)) % _NUM_SEEDS
        self._random_state = np.random.RandomState(seed)
        response: dict[str, Any] = super().populate_space(trial_id)
        if response["values"] is not None and self._duplicate(response["values"]):
            response = self._random_populate_space()
        return response


class _Hyperband(_Untried, keras_tuner.oracles.HyperbandOracle):
    """Hyperband that goes on after all candidates have been drawn.

    KerasTuner's version ends then, with candidates that had only the fewest epochs.
    Here, a bracket with fewer candidates than planned has smaller rounds.
    """

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        size: int = super()._get_size(bracket_num, round_num)
        if not self._is_exhausted():
            return size
        drawn = [
            len(bracket["rounds"][0])
            for bracket in self._brackets
            if bracket["bracket_num"] == bracket_num
        ]
        return min([size, *(math.ceil(n / self.factor**round_num) for n in drawn)])

    def _is_exhausted(self) -> bool:
        (space,) = self.hyperparameters.space
        return all(self._duplicate({CANDIDATE: c}) for c in space.values)


def missing_packages(name: str) -> list[str]:
    """Names of the packages that an engine needs and that are not installed."""
    needs = ("scipy", "sklearn") if name == "bayesian" else ()
    return [package for package in needs if importlib.util.find_spec(package) is None]


def build_engine(
    name: str, num_candidates: int, seed: int, max_epochs: int
) -> keras_tuner.Oracle:
    """Builds one of KerasTuner's oracles for candidates 0 to `num_candidates` − 1.

    Args:
        name: One of `ENGINES`.
        num_candidates: Number of candidates, ≥ 1.
        seed: From 0 to 2³² − 1. KerasTuner would replace 0 by a random seed.
        max_epochs: Number of epochs of a trial; Hyperband gives most trials fewer.

    Raises:
        ValueError: If there is no such engine.
    """
    space = keras_tuner.HyperParameters()
    # A choice, as a range with steps never draws its largest value (keras-tuner#1001)
    space.Choice(CANDIDATE, list(range(num_candidates)), ordered=True)
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(BARGAIN, direction="max"),
        "hyperparameters": space,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": 1 + seed % (_NUM_SEEDS - 1),
        "max_consecutive_failed_trials": 1,
    }
    if name == "grid":
        return _Grid(**common)
    if name == "hyperband":
        return _Hyperband(max_epochs=max_epochs, **common)
    common["max_trials"] = min(_MAX_TRIALS, num_candidates)
    if name == "random":
        return _Random(**common)
    if name == "bayesian":
        return _Bayesian(**common)
    raise ValueError(f"Expected one of {', '.join(ENGINES)}. Received: {name!r}")
