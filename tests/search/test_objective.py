"""What "smallest" means: the order of candidates of several families by a cost."""

import math
import pathlib

import numpy as np
import pytest
from conftest import make_data, make_network
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.choices import OBJECTIVES
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.width import scale_width
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.objective import costs_of_chain, measure, ordered_chains
from tskd_tf.search.settings import SearchSettings


def chain_of(num_candidates, family="thin"):
    return [Candidate(family, (i + 1) / num_candidates) for i in range(num_candidates)]


def by_macs(chain):
    return {candidate: int(10_000 * candidate.rate**2) + 1 for candidate in chain}


@given(st.integers(1, 60), st.floats(0.3, 2.0))
def test_a_power_of_the_multiply_adds_is_interpolated_exactly(num_candidates, power):
    chain = chain_of(num_candidates)
    num_macs = by_macs(chain)
    asked = []

    def cost(candidate):
        asked.append(candidate)
        return 3.0 * num_macs[candidate] ** power

    found = costs_of_chain(chain, num_macs, cost)
    np.testing.assert_allclose(found, [3 * num_macs[c] ** power for c in chain])
    assert len(asked) == min(9, num_candidates) and chain[0] in asked
    assert chain[-1] in asked


@given(st.lists(st.floats(0.5, 100.0), min_size=30, max_size=30))
def test_costs_never_fall_whatever_is_measured(noisy):
    chain = chain_of(30)
    found = costs_of_chain(chain, by_macs(chain), dict(zip(chain, noisy)).__getitem__)
    assert found == sorted(found) and all(map(math.isfinite, found))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_wider_student_costs_more_of_everything(objective):
    teacher = make_network()
    images, _ = make_data(4)
    narrow, wide = (
        measure(objective, scale_width(teacher, rate), images) for rate in (0.25, 1.0)
    )
    assert 0 < narrow
    if objective != "latency":
        assert narrow < wide
    if objective == "params":
        assert wide == complexity(teacher).num_params


def test_measured_costs_are_kept_for_a_resumed_search(tmp_path):
    teacher, (images, _) = make_network(), make_data(4)
    chains = [chain_of(3), chain_of(2, "compact")]
    num_macs = by_macs([*chains[0], *chains[1]])
    built = []

    def build(candidate):
        built.append(candidate)
        return scale_width(teacher, candidate.rate)

    def order(folder: pathlib.Path, objective="params"):
        return ordered_chains(chains, objective, num_macs, build, images, folder)

    found = order(tmp_path)
    assert set(built) == {*chains[0], *chains[1]}
    assert found["thin"][-1] == pytest.approx(complexity(teacher).num_params)
    assert order(tmp_path) == found and len(built) == 5
    assert order(tmp_path / "other", "macs") == {
        chain[0].family: [num_macs[c] for c in chain] for chain in chains
    }
    assert len(built) == 5


def test_another_objective_is_refused():
    with pytest.raises(InputError, match="minimize out of macs, params.*watts"):
        SearchSettings(minimize="watts").check()
