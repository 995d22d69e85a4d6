"""Budgets: which students fit given costs, decided before any training."""

import bisect
import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from tskd_tf.choices import Budgets, mark_of
from tskd_tf.errors import InputError
from tskd_tf.files import read_json_object, write_json
from tskd_tf.report.record import Spending
from tskd_tf.search.student_costs import CostOf

DEFAULT_MAX_ACCURACY_LOSS = 0.002
ANY_LOSS = 1.0


def allowed_loss(max_accuracy_loss: float | None, budgets: Budgets) -> float:
    """Tacc_loss of Eq. 4, in [0, 1].

    Args:
        max_accuracy_loss: The user's choice, a fraction in [0, 1). None: 1.0 (any loss)
            if there is a budget, else 0.002.
        budgets: The user's limits of costs.
    """
    if max_accuracy_loss is not None:
        return float(max_accuracy_loss)
    return ANY_LOSS if budgets.limits() else DEFAULT_MAX_ACCURACY_LOSS


def fitting_rates(
    rates: Sequence[float], budgets: Budgets, cost: CostOf
) -> list[float]:
    """The rates whose students fit all budgets; a cost equal to its limit fits.

    Countable costs are counted for every candidate. A measured cost takes seconds, and
    rises with the rate except for noise, so it is found by bisection. Measurements are
    not repeated: a student within the noise of the limit may fall on either side. Other
    load on the machine makes students slower, so the result may be too narrow.

    Args:
        rates: Ascending, at least one.
        budgets: The limits.
        cost: Maps the name of a budget, and a rate, to the cost of the student.

    Returns:
        Rates, ascending, at least one.

    Raises:
        InputError: If the smallest student exceeds a budget.
    """
    limits = budgets.limits()
    measured = {name: limits.pop(name) for name in (*limits,) if kept_in(name)}
    fitting = [
        rate
        for rate in rates
        if all(cost(name, rate) <= limit for name, limit in limits.items())
    ]
    if not fitting:
        raise _over_budget(rates[0], limits, cost)
    for name, limit in measured.items():
        cost_of_rate = functools.partial(cost, name)
        num_fitting = bisect.bisect_right(fitting, limit, key=cost_of_rate)
        if num_fitting == 0:
            raise _over_budget(fitting[0], {name: limit}, cost)
        fitting = fitting[:num_fitting]
    return fitting


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
    """Limit of each budget, and the cost of the student of a rate, by budget."""
    return {
        name: {"limit": limit, "student": cost(name, rate)}
        for name, limit in budgets.limits().items()
    }


def kept_in(name: str) -> str | None:
    """Name of the file with a budget's measured costs; None for counted costs."""
    file_name: str | None = mark_of(Budgets, name, "kept_in")
    return file_name


def kept_costs(folder: pathlib.Path) -> dict[str, dict[float, float]]:
    """Reads the costs that `keep_costs` wrote, by budget and rate.

    A resumed search must not measure again: noise could change its candidates.
    """
    kept = {}
    for field in dataclasses.fields(Budgets):
        file_name = kept_in(field.name)
        if file_name and (folder / file_name).exists():
            costs = read_json_object(folder / file_name)
            kept[field.name] = {float(rate): cost for rate, cost in costs.items()}
    return kept


def keep_costs(folder: pathlib.Path, measured: dict[str, dict[float, float]]) -> None:
    """Writes measured costs, by budget and rate, to one file per budget."""
    for name, costs in measured.items():
        file_name = kept_in(name)
        if costs and file_name:
            write_json(folder / file_name, costs)
