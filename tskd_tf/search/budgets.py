"""A pre-set cost: which students fit it, told before any of them is trained.

An untrained student costs what the trained one does, so nothing is trained to learn
that a student is too dear.
"""

import bisect
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from tskd_tf.data.images import Images
from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.export.litert import litert_latency_us
from tskd_tf.files import read_json_object, write_json
from tskd_tf.networks.costs import Complexity, complexity
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.students import PLAIN, thin_student
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.report.record import Spending

DEFAULT_MAX_ACCURACY_LOSS = 0.002
ANY_LOSS = 1.0
_LATENCY = "max_latency_us"
_COUNTS = {
    "max_macs": "num_macs",
    "max_params": "num_params",
    "max_bytes": "size_bytes",
}

CostOf = Callable[[str, float], float]


class Budgets(NamedTuple):
    """What a student may cost at most; each above 0, or None for any cost.

    Attributes:
        max_macs: Multiply-adds of one inference on one image.
        max_params: Weights, biases and moving statistics included.
        max_bytes: Bytes of these in float32.
        max_latency_us: Microseconds an image takes in LiteRT, the median on one thread
            of this machine, in float32.

    Example:

    >>> found = find_smallest_student(..., budgets=Budgets(max_macs=250_000))
    """

    max_macs: int | None = None
    max_params: int | None = None
    max_bytes: int | None = None
    max_latency_us: float | None = None

    def limits(self) -> dict[str, float]:
        """Those that are set, by name, as plain numbers."""
        return {
            name: limit.item() if isinstance(limit, np.generic) else limit
            for name, limit in self._asdict().items()
            if limit is not None
        }

    def check(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a limit is not a finite number above 0.
        """
        for name, limit in self.limits().items():
            if not 0 < limit < math.inf:
                raise InputError(
                    f"Expected {name} above 0, or none for any cost. Received: {limit}"
                )


def allowed_loss(max_accuracy_loss: float | None, budgets: Budgets) -> float:
    """Tacc_loss of Eq. 4: as given; else any where the cost is pre-set, else 0.002."""
    if max_accuracy_loss is not None:
        return float(max_accuracy_loss)
    return ANY_LOSS if budgets.limits() else DEFAULT_MAX_ACCURACY_LOSS


class StudentCosts:
    """What the student of a rate costs; built, not trained, and measured once.

    Args:
        teacher: Its network is thinned, if there is no builder.
        task: θ and the head.
        images: Some of them are run to measure latency.
        latencies_us: Microseconds an image by rate, as far as they are known.
        build_student: The user's own students.
        convolutions: What else students have, see `students.thin_student`.
        groups: "

    Attributes:
        latencies_us: The known and the measured ones.
    """

    def __init__(
        self,
        teacher: keras.Model,
        task: Task,
        images: Images,
        latencies_us: dict[float, float],
        build_student: StudentBuilder | None = None,
        convolutions: str = PLAIN,
        groups: int | None = None,
    ) -> None:
        self._build_student = build_student or functools.partial(
            thin_student, teacher, task=task, convolutions=convolutions, groups=groups
        )
        self._images = images
        self._complexities: dict[float, Complexity] = {}
        self.latencies_us = dict(latencies_us)

    def cost(self, name: str, rate: float) -> float:
        """The cost that a budget limits.

        Args:
            name: A field of `Budgets`.
            rate: In (0, 1].
        """
        if name != _LATENCY:
            if rate not in self._complexities:
                self._complexities[rate] = complexity(self._build(rate))
            count: int = getattr(self._complexities[rate], _COUNTS[name])
            return count
        if rate not in self.latencies_us:
            student = self._build(rate)
            self.latencies_us[rate] = litert_latency_us(student, self._images)
        return self.latencies_us[rate]

    def _build(self, rate: float) -> keras.Model:
        return with_policy(self._build_student(rate), "float32")


def fitting_rates(
    rates: Sequence[float], budgets: Budgets, cost: CostOf
) -> list[float]:
    """The rates whose students fit all budgets; exactly the limit fits.

    Every candidate is counted. Latency, which takes seconds to measure, is bisected,
    since it rises with the rate but for noise. Each measurement is believed: a student
    within the noise of the limit may fall on either side, and the widest that is said
    to fit is then a neighbour of the one that does. Other load on the machine makes
    students slower, never faster, and the answer narrower.

    Args:
        rates: Ascending, at least one.
        budgets: The limits.
        cost: `(name of a budget, rate)` → what the student costs of it.

    Returns:
        Ascending, at least one.

    Raises:
        InputError: If not even the smallest student fits.
    """
    limits = budgets.limits()
    max_latency_us = limits.pop(_LATENCY, None)
    fitting = [
        rate
        for rate in rates
        if all(cost(name, rate) <= limit for name, limit in limits.items())
    ]
    if not fitting:
        raise _over_budget(rates[0], limits, cost)
    if max_latency_us is None:
        return fitting
    latency_us = functools.partial(cost, _LATENCY)
    num_fitting = bisect.bisect_right(fitting, max_latency_us, key=latency_us)
    if num_fitting == 0:
        raise _over_budget(fitting[0], {_LATENCY: max_latency_us}, cost)
    return fitting[:num_fitting]


def _over_budget(rate: float, limits: dict[str, float], cost: CostOf) -> InputError:
    costs = {name: cost(name, rate) for name in limits}
    excesses = "; ".join(
        f"{name}={limit:,}, but it costs {costs[name]:,.9g}, "
        f"{costs[name] - limit:,.9g} too many"
        for name, limit in limits.items()
        if costs[name] > limit
    )
    return InputError(
        f"Expected budgets that the smallest student tried, at rate {rate:g}, fits. "
        f"Received: {excesses}. Allow that much, or smaller rates"
    )


def spending(budgets: Budgets, rate: float, cost: CostOf) -> dict[str, Spending]:
    """Each budget by name: its `limit`, and what the `student` of a rate costs."""
    return {
        name: {"limit": limit, "student": cost(name, rate)}
        for name, limit in budgets.limits().items()
    }


def kept_latencies(folder: pathlib.Path) -> dict[float, float]:
    """What `keep_latencies` left in a folder; nothing where it was not called.

    A search that goes on must not measure anew: noise could change its candidates.
    """
    path = folder / "latencies.json"
    if not path.exists():
        return {}
    return {float(rate): value for rate, value in read_json_object(path).items()}


def keep_latencies(folder: pathlib.Path, latencies_us: dict[float, float]) -> None:
    """Writes latencies by rate, if there are any."""
    if latencies_us:
        write_json(folder / "latencies.json", latencies_us)
