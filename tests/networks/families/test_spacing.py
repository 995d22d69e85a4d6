"""Candidates of a family: from one channel a layer on, a tenth apart in cost."""

import functools

from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.networks.channels import Channels
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.spacing import spaced_by_cost
from tskd_tf.networks.families.thin import thin_rates
from tskd_tf.networks.width import layer_widths, scale_width
from tskd_tf.networks.zoo.models import lenet


def test_candidates_of_lenet():
    teacher = lenet((28, 28, 1), 10)
    found = thin_rates(teacher)
    rates, costs = list(found), list(found.values())
    assert rates == sorted(rates) and costs == sorted(set(costs))
    assert rates[-1] == 1.0 and costs[-1] == complexity(teacher).num_macs
    assert layer_widths(scale_width(teacher, rates[0])) == [1, 1, 1, 10]
    # Where layers are wide, no step is much larger than a tenth
    steps = [b / a for a, b in zip(costs, costs[1:])]
    assert max(steps[-20:]) < 1.2
    for rate in rates[::8]:
        assert complexity(scale_width(teacher, rate)).num_macs == found[rate]


@functools.cache
def channels_of_lenet():
    return Channels(lenet((28, 28, 1), 10))


@given(st.floats(1.0, 3.0), st.integers(2, 10**6))
def test_costs_rise_and_fit(power, most):
    def count(rate):
        return 1 + int((100 * rate) ** power)

    found = spaced_by_cost(count, channels_of_lenet(), 1.0, most)
    rates, costs = list(found), list(found.values())
    assert rates == sorted(rates) and costs == sorted(set(costs))
    assert all(count(rate) == cost <= most for rate, cost in found.items())
    # The dearest that fits is a candidate, and so is the cheapest
    assert costs[0] == count(1 / 500)
    if count(1.0) <= most:
        assert rates[-1] == 1.0
    # No candidate between two others is closer to both than a tenth
    for left, middle, right in zip(costs, costs[1:], costs[2:]):
        assert right > 1.1 * left
