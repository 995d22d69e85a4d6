"""Budgets: which students fit, alone and together, and what is said when none does."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.choices import Budgets
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.width import scale_width
from tskd_tf.search.budgets import (
    allowed_loss,
    fitting_candidates,
    keep_costs,
    kept_costs,
)
from tskd_tf.search.candidate import OWN, Candidate
from tskd_tf.search.student_costs import StudentCosts

ALL = [Candidate("thin", rate) for rate in (0.25, 0.5, 0.75, 1.0)]
NAMES = [field.name for field in dataclasses.fields(Budgets)]


def table(**columns):
    """A cost function of made-up costs, rate by rate."""
    return lambda name, candidate: columns[name][ALL.index(candidate)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("limit", "num_fitting"), [(10, 1), (19, 1), (20, 2), (39, 3), (40, 4), (99, 4)]
)
def test_exactly_the_limit_fits(name, limit, num_fitting):
    cost = table(**{name: [10, 20, 30, 40]})
    got = fitting_candidates(ALL, Budgets(**{name: limit}), cost)
    assert got == ALL[:num_fitting]


def test_several_budgets_hold_together():
    cost = table(
        max_macs=[10, 20, 30, 40],
        max_params=[1, 2, 9, 9],
        max_latency_us=[0.5, 1.5, 1.75, 2.5],
    )
    macs, params = Budgets(max_macs=30), Budgets(max_params=2)
    assert fitting_candidates(ALL, macs, cost) == ALL[:3]
    assert fitting_candidates(ALL, params, cost) == ALL[:2]
    assert (
        fitting_candidates(ALL, dataclasses.replace(macs, max_params=2), cost)
        == ALL[:2]
    )
    assert (
        fitting_candidates(ALL, dataclasses.replace(params, max_latency_us=1.0), cost)
        == ALL[:1]
    )
    assert fitting_candidates(ALL, Budgets(), cost) == ALL


def test_parameters_of_ones_own_students_need_not_grow():
    cost = table(max_params=[8, 3, 9, 4])
    assert fitting_candidates(ALL, Budgets(max_params=4), cost) == ALL[1::2]


@pytest.mark.parametrize("name", NAMES)
def test_when_nothing_fits_it_is_said_by_how_much(name):
    cost = table(**{name: [1010, 2020, 3030, 4040]})
    message = rf"at rate 0.25, fits.*{name}=1,000, but it costs 1,010, 10 too many"
    with pytest.raises(InputError, match=message):
        fitting_candidates(ALL, Budgets(**{name: 1000}), cost)


def test_only_the_broken_budgets_are_named():
    cost = table(max_macs=[10, 20, 30, 40], max_bytes=[50, 60, 70, 80])
    with pytest.raises(InputError) as caught:
        fitting_candidates(ALL, Budgets(max_macs=10, max_bytes=49), cost)
    assert "max_bytes=49" in str(caught.value) and "max_macs" not in str(caught.value)


@given(st.data())
def test_the_last_is_the_widest_that_fits(data):
    numbers = st.integers(1, 50)
    columns = {
        name: sorted(data.draw(st.lists(numbers, min_size=4, max_size=4)))
        for name in NAMES
    }
    limits = {name: data.draw(st.none() | numbers) for name in NAMES}
    fits = [
        candidate
        for i, candidate in enumerate(ALL)
        if all(limits[n] is None or columns[n][i] <= limits[n] for n in NAMES)
    ]
    if fits:
        assert fitting_candidates(ALL, Budgets(**limits), table(**columns)) == fits
    else:
        with pytest.raises(InputError):
            fitting_candidates(ALL, Budgets(**limits), table(**columns))


def test_latency_is_bisected_among_those_that_fit_the_rest():
    candidates = [Candidate("thin", i / 100) for i in range(1, 101)]
    measured = []

    def cost(name, candidate):
        if name == "max_latency_us":
            measured.append(candidate.rate)
        return 1000 * candidate.rate

    got = fitting_candidates(
        candidates, Budgets(max_macs=600, max_latency_us=333.0), cost
    )
    assert got[-1].rate == 0.33
    assert len(measured) <= 7 and max(measured) <= 0.6


@pytest.mark.parametrize(
    ("name", "limit"),
    [*itertools.product(NAMES, (0, -1, float("nan"), float("inf")))],
)
def test_limits_out_of_range_are_refused(name, limit):
    with pytest.raises(InputError, match=f"{name} above 0.*Received: {limit}"):
        Budgets(**{name: limit}).check()


def test_what_may_be_lost():
    assert allowed_loss(None, Budgets()) == 0.002
    assert allowed_loss(None, Budgets(max_bytes=1)) == 1.0
    assert allowed_loss(0.25, Budgets()) == 0.25
    assert allowed_loss(np.float32(0.25), Budgets(max_bytes=1)) == 0.25
    limits = Budgets(max_macs=np.int64(3)).limits()
    assert limits == {"max_macs": 3} and type(limits["max_macs"]) is int


def test_untrained_students_are_counted_and_measured_once(
    trained_teacher, arrays, small_task
):
    built = []

    def build(candidate):
        built.append(candidate)
        return scale_width(trained_teacher, candidate.rate, small_task)

    quarter, half, *_ = ALL
    costs = StudentCosts(build, arrays[0], {"max_latency_us": {quarter: 3.5}})
    expected = complexity(scale_width(trained_teacher, 0.5, small_task))
    assert costs.cost("max_macs", half) == expected.num_macs
    assert costs.cost("max_params", half) == expected.num_params
    assert costs.cost("max_bytes", half) == expected.size_bytes
    assert costs.cost("max_latency_us", quarter) == 3.5
    latency_us = costs.cost("max_latency_us", half)
    assert 0 < latency_us == costs.cost("max_latency_us", half)
    assert costs.measured == {"max_latency_us": {quarter: 3.5, half: latency_us}}
    assert built == [half]


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("thin", ["0.05", "1.0"]),
        (OWN, ["0.05", "1.0"]),
        ("compact", ["compact 0.05", "compact 1.0"]),
    ],
)
def test_latencies_are_kept(tmp_path, family, keys):
    small, large = Candidate(family, 0.05), Candidate(family, 1.0)
    assert kept_costs(tmp_path, family == OWN) == {}
    keep_costs(tmp_path, {"max_macs": {large: 3}, "max_latency_us": {}})
    assert not list(tmp_path.iterdir())
    measured = {"max_latency_us": {small: 1.5, large: 20.25}}
    keep_costs(tmp_path, measured)
    assert kept_costs(tmp_path, family == OWN) == measured
    (path,) = tmp_path.iterdir()
    assert path.name == "latencies.json" and list(json.loads(path.read_text())) == keys
