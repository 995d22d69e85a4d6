"""Budgets: which students fit given costs, decided before any training."""

import bisect
import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from tskd_tf.choices import THIN, Budgets, mark_of
from tskd_tf.errors import InputError
from tskd_tf.files import read_json_object, write_json
from tskd_tf.report.record import Spending
from tskd_tf.search.candidate import OWN, Candidate
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


def fitting_candidates(
    candidates: Sequence[Candidate], budgets: Budgets, cost: CostOf
) -> list[Candidate]:
    """The candidates of a family that fit all budgets; a cost equal to its limit fits.

    Countable costs are counted for every candidate. A measured cost takes seconds, and
    rises with the rate except for noise, so it is found by bisection. Measurements are
    not repeated: a student within the noise of the limit may fall on either side. Other
    load on the machine makes students slower, so the result may be too narrow.

    Args:
        candidates: In ascending order of rate, at least one.
        budgets: The limits.
        cost: Maps the name of a budget, and a candidate, to the cost of its student.

    Returns:
        Candidates in ascending order of rate, at least one.

    Raises:
        InputError: If the smallest student exceeds a budget.
    """
    limits = budgets.limits()
    measured = {name: limits.pop(name) for name in (*limits,) if kept_in(name)}
    fitting = [
        candidate
        for candidate in candidates
        if all(cost(name, candidate) <= limit for name, limit in limits.items())
    ]
    if not fitting:
        raise _over_budget(candidates[0], limits, cost)
    for name, limit in measured.items():
        cost_of = functools.partial(cost, name)
        num_fitting = bisect.bisect_right(fitting, limit, key=cost_of)
        if num_fitting == 0:
            raise _over_budget(fitting[0], {name: limit}, cost)
        fitting = fitting[:num_fitting]
    return fitting


def _over_budget(
    smallest: Candidate, limits: dict[str, float], cost: CostOf
) -> InputError:
    costs = {name: cost(name, smallest) for name in limits}
    excesses = "; ".join(
        f"{name}={limit:,}, but it costs {costs[name]:,.9g}, "
        f"{costs[name] - limit:,.9g} too many"
        for name, limit in limits.items()
        if costs[name] > limit
    )
    return InputError(
        f"Expected budgets that the smallest student tried, at {smallest}, fits. "
        f"Received: {excesses}. Allow that much"
    )


def spending(
    budgets: Budgets, candidate: Candidate, cost: CostOf
) -> dict[str, Spending]:
    """Limit of each budget, and the cost of a candidate's student, by budget."""
    return {
        name: {"limit": limit, "student": cost(name, candidate)}
        for name, limit in budgets.limits().items()
    }


def kept_in(name: str) -> str | None:
    """Name of the file with a budget's measured costs; None for counted costs."""
    file_name: str | None = mark_of(Budgets, name, "kept_in")
    return file_name


def kept_costs(folder: pathlib.Path, is_own: bool) -> dict[str, dict[Candidate, float]]:
    """Reads the costs that `keep_costs` wrote, by budget and candidate.

    A resumed search must not measure again: noise could change its candidates.

    Args:
        folder: The search's folder.
        is_own: Whether the search is among the user's own students.
    """
    plain = OWN if is_own else THIN
    kept = {}
    for field in dataclasses.fields(Budgets):
        file_name = kept_in(field.name)
        if file_name and (folder / file_name).exists():
            costs = read_json_object(folder / file_name)
            kept[field.name] = {_candidate(key, plain): costs[key] for key in costs}
    return kept


def keep_costs(
    folder: pathlib.Path, measured: dict[str, dict[Candidate, float]]
) -> None:
    """Writes measured costs, by budget and candidate, to one file per budget."""
    for name, costs in measured.items():
        file_name = kept_in(name)
        if costs and file_name:
            write_json(folder / file_name, {_key(c): costs[c] for c in costs})


def _key(candidate: Candidate) -> str:
    """Key of a candidate in a file of costs: `"0.25"` for a thin or own student."""
    family, rate = candidate
    return f"{rate}" if family in (THIN, OWN) else f"{family} {rate}"


def _candidate(key: str, plain: str) -> Candidate:
    *family, rate = key.split()
    return Candidate(family[0] if family else plain, float(rate))
