"""KerasTuner's own search engines over the same ordered candidates.

They look for the largest objective, so theirs is `bargain_score`, which is largest for
the smallest feasible candidate. None of them knows that accuracy rises with width, and
they need more trials for the same answer.
"""

from typing import Any

import keras_tuner

from tuner.durable import Durable
from tuner.oracle import CANDIDATE

BARGAIN = "bargain"
ENGINES = ("grid", "random", "bayesian", "hyperband")
_MAX_TRIALS = 10


def bargain_score(
    candidate: int, accuracy: float, floor: float, num_candidates: int
) -> float:
    """The constraint of Eq. 4 (Shi et al. 2017) as one number, larger is better.

    Args:
        candidate: 0 is the cheapest.
        accuracy: In [0, 1].
        floor: Smallest feasible accuracy.
        num_candidates: At least 1.

    Returns:
        The accuracy, below 1, of what is infeasible; 1 to 2 for what is feasible, the
        more the cheaper.
    """
    if accuracy < floor:
        return accuracy
    return 1.0 + (num_candidates - candidate) / num_candidates


class _Grid(Durable, keras_tuner.oracles.GridSearchOracle):
    """Grid search that can be resumed.

    KerasTuner's forgets the order of its trials with the process, and ends in a
    KeyError (keras-tuner#1055). With one list of values it is that of the trials.
    """

    def reload(self) -> None:
        super().reload()
        self._ordered_ids: Any = type(self._ordered_ids)()
        for last, trial_id in zip([None, *self.start_order], self.start_order):
            self._ordered_ids.insert(trial_id, last)
        self._populate_next = self.start_order[-1:]


class _Random(Durable, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(Durable, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _Hyperband(Durable, keras_tuner.oracles.HyperbandOracle):
    pass


def build_engine(
    name: str, num_candidates: int, seed: int, max_epochs: int
) -> keras_tuner.Oracle:
    """One of KerasTuner's oracles, over candidates 0 to `num_candidates` − 1.

    Args:
        name: One of `ENGINES`.
        num_candidates: At least 1.
        seed: From 0 on. KerasTuner itself draws another one when it is given 0.
        max_epochs: Of a trial; Hyperband gives most trials fewer.

    Raises:
        ValueError: If there is no such engine.
    """
    space = keras_tuner.HyperParameters()
    # A choice: the largest value of a range with steps is never drawn
    # (keras-tuner#1001)
    space.Choice(CANDIDATE, list(range(num_candidates)), ordered=True)
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(BARGAIN, direction="max"),
        "hyperparameters": space,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed + 1,
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
