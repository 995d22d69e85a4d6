"""Costs of students, computed before any of them is trained.

An untrained student has the same costs as the trained one.
"""

import functools
from collections.abc import Callable, Mapping

import keras

from tskd_tf.choices import Budgets, load_named, mark_of
from tskd_tf.data.images import Images
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.search.candidate import Candidate

# Maps the name of a budget, and a candidate, to the cost of its student
CostOf = Callable[[str, Candidate], float]


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
    """Costs of the student of each candidate: built, not trained, and measured once.

    Args:
        build_student: Maps a candidate to its student.
        images: Images for measuring latency, shape `(n, height, width, channels)`.
        measured: Costs that were measured earlier, by budget and candidate.
        num_macs: Multiply-adds that were counted earlier, by candidate; 0 if not.
            Default: empty.

    Attributes:
        measured: Measured costs, earlier and new ones, by budget and candidate.
    """

    def __init__(
        self,
        build_student: Callable[[Candidate], keras.Model],
        images: Images,
        measured: dict[str, dict[Candidate, float]],
        num_macs: Mapping[Candidate, int] = {},
    ) -> None:
        self._build_student = build_student
        self._images = images
        # Several budgets need the same student in sequence
        self._build = functools.lru_cache(maxsize=1)(self._build_anew)
        self._counted: dict[str, dict[Candidate, float]] = {
            "max_macs": {c: num_macs[c] for c in num_macs if num_macs[c]}
        }
        self.measured = {name: dict(costs) for name, costs in measured.items()}

    def cost(self, name: str, candidate: Candidate) -> float:
        """The cost that a budget limits, in the budget's unit.

        Args:
            name: A field of `choices.Budgets`.
            candidate: The student's.
        """
        costs = self.measured if mark_of(Budgets, name, "kept_in") else self._counted
        known = costs.setdefault(name, {})
        if candidate not in known:
            cost_of = load_named(mark_of(Budgets, name, "cost"))
            known[candidate] = cost_of(self._build(candidate), self._images)
        return known[candidate]

    def student(self, candidate: Candidate) -> keras.Model:
        """The untrained student of a candidate, in float32."""
        return self._build(candidate)

    def _build_anew(self, candidate: Candidate) -> keras.Model:
        return with_policy(self._build_student(candidate), "float32")
