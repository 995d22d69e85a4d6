"""Costs of students, computed before any of them is trained.

An untrained student has the same costs as the trained one.
"""

import functools
from collections.abc import Callable

import keras

from tskd_tf.choices import Budgets, load_named, mark_of
from tskd_tf.data.images import Images
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.width import StudentBuilder

# Maps the name of a budget, and a rate, to the cost of the student
CostOf = Callable[[str, float], float]


def num_macs(student: keras.Model, images: Images) -> int:
    """Multiply-adds of one inference on one image."""
    del images
    return complexity(student).num_macs


def num_params(student: keras.Model, images: Images) -> int:
    """Number of parameters: weights, biases and moving statistics."""
    del images
    return complexity(student).num_params


def size_bytes(student: keras.Model, images: Images) -> int:
    """Size of the parameters in float32, in bytes."""
    del images
    return complexity(student).size_bytes


class StudentCosts:
    """Costs of the student of each rate: built, not trained, and measured once.

    Args:
        build_student: Maps a rate to its student.
        images: Images for measuring latency, shape `(n, height, width, channels)`.
        measured: Costs that were measured earlier, by budget and rate.

    Attributes:
        measured: Measured costs, earlier and new ones, by budget and rate.
    """

    def __init__(
        self,
        build_student: StudentBuilder,
        images: Images,
        measured: dict[str, dict[float, float]],
    ) -> None:
        self._build_student = build_student
        self._images = images
        # Several budgets need the same student in sequence
        self._build = functools.lru_cache(maxsize=1)(self._build_anew)
        self._counted: dict[str, dict[float, float]] = {}
        self.measured = {name: dict(costs) for name, costs in measured.items()}

    def cost(self, name: str, rate: float) -> float:
        """The cost that a budget limits, in the budget's unit.

        Args:
            name: A field of `choices.Budgets`.
            rate: Rate of the student, above 0.
        """
        costs = self.measured if mark_of(Budgets, name, "kept_in") else self._counted
        known = costs.setdefault(name, {})
        if rate not in known:
            cost_of = load_named(mark_of(Budgets, name, "cost"))
            known[rate] = cost_of(self._build(rate), self._images)
        return known[rate]

    def _build_anew(self, rate: float) -> keras.Model:
        return with_policy(self._build_student(rate), "float32")
