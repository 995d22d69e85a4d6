"""Several chains of candidates: exact, no more trainings than needed, any order."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bisection import ORDERS, WORKERS, run

from tuner.bisection import Bisection
from tuner.chains import Chains, number_by_cost

FLOOR = 0.5


@st.composite
def chains_of_curves(draw):
    """Chains of candidates whose scores rise within each chain."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    owners = [chain for chain, length in enumerate(lengths) for _ in range(length)]
    owners = draw(st.permutations(owners))
    members = tuple(
        tuple(i for i, owner in enumerate(owners) if owner == chain)
        for chain in range(len(lengths))
    )
    scores = {}
    for chain in members:
        curve = draw(
            st.lists(st.floats(0, 1), min_size=len(chain), max_size=len(chain))
        )
        scores |= dict(zip(chain, sorted(curve)))
    return members, scores


@given(search=chains_of_curves(), num_workers=WORKERS, order=ORDERS)
def test_the_cheapest_feasible_of_all_chains_is_found(search, num_workers, order):
    members, curve = search
    chains = Chains(members, FLOOR)
    scores, started = run(
        chains, lambda candidate, _: curve[candidate], num_workers, order
    )
    feasible = [c for c in sorted(curve) if curve[c] >= FLOOR]
    assert chains.smallest_feasible(scores) == (feasible[0] if feasible else None)
    assert len(set(started)) == len(started)


def test_nothing_cheaper_than_an_infeasible_candidate_is_tried():
    """17 is infeasible, so 13 of its chain is not tried, although 14 is feasible."""
    first = (0, 1, 3, 5, 9, 12, 13, 15, 16, 17, 18, 19)
    second = (2, 4, 6, 7, 8, 10, 11, 14)
    feasible = {18, 19, *second}
    chains = Chains((first, second), FLOOR)
    scores, started = run(chains, lambda c, _: float(c in feasible))
    assert started.index(14) > started.index(17) and 13 not in started
    assert chains.smallest_feasible(scores) == 2


@given(search=chains_of_curves())
def test_one_worker_trains_few(search):
    members, curve = search
    _, started = run(Chains(members, FLOOR), lambda candidate, _: curve[candidate])
    # A bisection of each chain, and before it one of its dearest
    most = sum(1 + math.ceil(math.log2(len(chain) + 1)) for chain in members)
    assert len(started) <= most


@given(
    scores=st.lists(
        st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=1, max_size=20
    ),
    margin=st.sampled_from([0.0, 1.5, 4.0]),
    num_workers=WORKERS,
    order=ORDERS,
)
def test_a_single_chain_is_a_bisection(scores, margin, num_workers, order):
    both = [
        Bisection(len(scores), 10, margin, 3),
        Chains((tuple(range(len(scores))),), 10, margin, 3),
    ]
    state = order.getstate()
    ran = []
    for rules in both:
        order.setstate(state)
        found, started = run(
            rules, lambda candidate, n: scores[candidate][n], num_workers, order
        )
        left = rules.num_rounds_left({0: found[0]} if 0 in found else {}, num_workers)
        ran.append((started, rules.smallest_feasible(found), left))
    assert ran[0] == ran[1]


@given(search=chains_of_curves(), num_workers=WORKERS, order=ORDERS)
def test_no_worker_idles_and_nothing_dear_is_tried(search, num_workers, order):
    members, curve = search
    chains = Chains(members, FLOOR)

    def check(candidate, scores, running):
        answer = chains.smallest_feasible(scores)
        cheap = [c for c in curve if answer is None or c < answer]
        # Within a chain, what is cheaper than an infeasible one is infeasible
        undecided = {
            c
            for chain in members
            for c in chain
            if c in cheap
            and not any(c <= d for d in chain if d in scores and curve[d] < FLOOR)
        } - set(running)
        if undecided:
            assert candidate in undecided
        else:
            assert candidate is None

    run(chains, lambda candidate, _: curve[candidate], num_workers, order, check)


def test_a_chain_out_of_reach_costs_one_training():
    # The second chain's candidates are dearer at equal accuracy
    first, second = tuple(range(0, 20, 2)), tuple(range(1, 20, 2))
    curve = {c: (0.9 if c >= 8 else 0.1) if c in first else 0.2 for c in range(20)}
    scores, started = run(Chains((first, second), FLOOR), lambda c, _: curve[c])
    assert [c for c in started if c in second] == [7]
    assert Chains((first, second), FLOOR).smallest_feasible(scores) == 8


def test_a_chain_all_of_which_is_dearer_is_not_tried():
    chains = Chains(((0, 1, 2), (3, 4)), FLOOR)
    _, started = run(chains, lambda c, _: float(c >= 1))
    assert set(started) <= {0, 1, 2}


def test_verdicts_close_to_the_floor_are_taken_again():
    chains = Chains(((0, 2), (1, 3)), FLOOR, margin=0.1, max_executions=2)
    curve = {0: 0.2, 1: 0.45, 2: 0.9, 3: 0.95}
    _, started = run(chains, lambda c, _: curve[c])
    # The answer, 2, rests on 1 being infeasible, which is close
    assert started.count(1) == 2 and started.count(0) == started.count(2) == 1


def test_rounds_left_count_all_chains():
    chains = Chains(((0, 2, 4), (1, 3, 5)), FLOOR)
    assert chains.num_rounds_left({}) >= 4
    assert chains.num_rounds_left({0: [0.9]}) == 0
    assert chains.num_rounds_left({2: [0.9], 0: [0.1]}) == 1


@pytest.mark.parametrize(
    ("costs", "order", "members"),
    [
        ({"a": [1, 3]}, [("a", 0), ("a", 1)], ((0, 1),)),
        (
            {"a": [2, 4], "b": [1, 2, 9]},
            [("b", 0), ("a", 0), ("b", 1), ("a", 1), ("b", 2)],
            ((1, 3), (0, 2, 4)),
        ),
        ({"a": [], "b": [5]}, [("b", 0)], ((), (0,))),
    ],
)
def test_candidates_are_numbered_by_cost(costs, order, members):
    assert number_by_cost(costs) == (order, members)
