"""What students cost, known before any of them is trained.

An untrained student costs what the trained one does.
"""

import functools
from collections.abc import Callable

import keras

from tskd_tf.choices import Budgets, load_named, mark_of
from tskd_tf.data.images import Images
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.width import StudentBuilder

# `(name of a budget, rate)` → what the student costs of it
CostOf = Callable[[str, float], float]


def num_macs(student: keras.Model, images: Images) -> int:
    """Multiply-adds of one inference on one image."""
    del images
    return complexity(student).num_macs


def num_params(student: keras.Model, images: Images) -> int:
    """Parameters: weights, biases and moving statistics."""
    del images
    return complexity(student).num_params


def size_bytes(student: keras.Model, images: Images) -> int:
    """Bytes of the parameters in float32."""
    del images
    return complexity(student).size_bytes


class StudentCosts:
    """What the student of a rate costs; built, not trained, and measured once.

    Args:
        build_student: Gives the student of a rate.
        images: Some of them are run to measure latency.
        measured: What was measured before, by budget and rate.

    Attributes:
        measured: The known and the new ones, by budget and rate.
    """

    def __init__(
        self,
        build_student: StudentBuilder,
        images: Images,
        measured: dict[str, dict[float, float]],
    ) -> None:
        self._build_student = build_student
        self._images = images
        # Several budgets ask for the same student one after the other
        self._build = functools.lru_cache(maxsize=1)(self._build_anew)
        self._counted: dict[str, dict[float, float]] = {}
        self.measured = {name: dict(costs) for name, costs in measured.items()}

    def cost(self, name: str, rate: float) -> float:
        """The cost that a budget limits.

        Args:
            name: A field of `choices.Budgets`.
            rate: In (0, 1].
        """
        costs = self.measured if mark_of(Budgets, name, "kept_in") else self._counted
        known = costs.setdefault(name, {})
        if rate not in known:
            cost_of = load_named(mark_of(Budgets, name, "cost"))
            known[rate] = cost_of(self._build(rate), self._images)
        return known[rate]

    def _build_anew(self, rate: float) -> keras.Model:
        return with_policy(self._build_student(rate), "float32")
