"""Which candidate comes next, on made-up scores and under any order of events."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.bisection import Bisection

WORKERS = st.integers(1, 5)
ORDERS = st.randoms(use_true_random=False)


def mean(executions):
    return math.fsum(executions) / len(executions)


def run(bisection, execute, num_workers=1, order=None, check=None):
    """Lets workers ask and end in an order drawn by chance until nothing is left.

    Args:
        bisection: Whose answers are followed.
        execute: `(candidate, execution)` → score, known when the execution ends.
        num_workers: That ask.
        order: A `random.Random`; by default who can ask does so before anything ends.
        check: Called with every answer, the scores and what was running.

    Returns:
        Scores by candidate, and all candidates in the order in which they started.
    """
    scores, running, started = {}, [], []
    while True:
        can_ask = len(running) < num_workers
        if can_ask and (not running or order is None or order.random() < 0.5):
            candidate = bisection.next_candidate(scores, running, num_workers)
            if check:
                check(candidate, scores, list(running))
            if candidate is not None:
                started.append(candidate)
                running.append(candidate)
                continue
            if not running:
                return scores, started
        ended = running.pop(order.randrange(len(running)) if order else 0)
        executions = scores.setdefault(ended, [])
        executions.append(execute(ended, len(executions)))


@st.composite
def noisy_searches(draw):
    """A bisection, and scores of all executions that need not rise at all."""
    num_candidates = draw(st.integers(1, 25))
    max_executions = draw(st.integers(1, 4))
    score = st.integers(0, 20).map(lambda hundredths: hundredths / 100)
    bisection = Bisection(
        num_candidates,
        0.1,
        draw(st.sampled_from([0.0, 0.03, 0.07, 0.15])),
        max_executions,
    )
    scores = draw(
        st.lists(
            st.lists(score, min_size=max_executions, max_size=max_executions),
            min_size=num_candidates,
            max_size=num_candidates,
        )
    )
    return bisection, lambda candidate, execution: scores[candidate][execution]


def reference(bisection, execute):
    """One worker's search with two stacks instead of an interval found anew."""
    kept, started, feasible, infeasible = {}, [], [], []

    def try_it(candidate):
        started.append(candidate)
        executions = kept.setdefault(candidate, [])
        executions.append(execute(candidate, len(executions)))
        stack = feasible if mean(executions) >= bisection.floor else infeasible
        stack.append(candidate)

    while True:
        high = feasible[-1] if feasible else bisection.num_candidates
        low = infeasible[-1] if infeasible else -1
        if high - low > 1:
            try_it((low + high) // 2)
            continue
        rests_on = []
        for stack in (feasible, infeasible):
            executions = kept[stack[-1]] if stack else []
            if 0 < len(executions) < bisection.max_executions:
                distance = abs(mean(executions) - bisection.floor)
                if distance < bisection.margin / math.sqrt(len(executions)):
                    rests_on.append((distance, len(rests_on), stack))
        if not rests_on:
            return (feasible[-1] if feasible else None), started
        try_it(min(rests_on)[2].pop())


@given(
    curve=st.lists(st.floats(0, 1), min_size=1, max_size=30).map(sorted),
    floor=st.floats(0, 1),
    num_workers=WORKERS,
    order=ORDERS,
)
def test_exact_on_every_rising_curve(curve, floor, num_workers, order):
    bisection = Bisection(len(curve), floor)
    scores, started = run(
        bisection, lambda candidate, _: curve[candidate], num_workers, order
    )
    feasible = [i for i, accuracy in enumerate(curve) if accuracy >= floor]
    assert bisection.smallest_feasible(scores) == (feasible[0] if feasible else None)
    assert len(set(started)) == len(started)


@given(search=noisy_searches())
def test_one_worker_does_what_the_reference_does(search):
    bisection, execute = search
    scores, started = run(bisection, execute)
    answer, expected = reference(bisection, execute)
    assert started == expected
    assert bisection.smallest_feasible(scores) == answer


@given(search=noisy_searches(), num_workers=WORKERS, order=ORDERS)
def test_no_worker_idles_while_a_candidate_is_undecided(search, num_workers, order):
    def check(candidate, scores, running):
        low, high = search[0].open_interval(scores)
        undecided = set(range(low + 1, high)) - set(running)
        if undecided:
            assert candidate in undecided

    run(*search, num_workers, order, check)


@given(search=noisy_searches(), num_workers=WORKERS, order=ORDERS)
def test_again_only_what_the_answer_rests_on_and_is_close(search, num_workers, order):
    bisection, execute = search

    def check(candidate, scores, running):
        if candidate is not None and candidate in [*scores, *running]:
            assert candidate in bisection.open_interval(scores)
            spread = bisection.margin / math.sqrt(len(scores[candidate]))
            assert abs(mean(scores[candidate]) - bisection.floor) < spread

    scores, started = run(bisection, execute, num_workers, order, check)
    assert max(map(started.count, started)) <= bisection.max_executions
    low, high = bisection.open_interval(scores)
    assert high - low == 1
    for executions in (scores[c] for c in (low, high) if c in scores):
        if len(executions) < bisection.max_executions:
            distance = abs(mean(executions) - bisection.floor)
            assert distance >= bisection.margin / math.sqrt(len(executions))


@given(search=noisy_searches(), num_workers=WORKERS, order=ORDERS)
def test_without_a_margin_nothing_is_executed_again(search, num_workers, order):
    bisection, execute = search
    _, started = run(bisection._replace(margin=0.0), execute, num_workers, order)
    assert len(set(started)) == len(started)


@pytest.mark.parametrize(
    ("num_candidates", "num_workers", "starts"),
    [
        (19, 1, [9]),
        (20, 2, [6, 13]),
        (19, 3, [4, 9, 14]),
        (19, 4, [3, 7, 11, 15]),
        (23, 5, [3, 7, 11, 15, 19]),
        (2, 5, [0, 1]),
        (1, 3, [0]),
    ],
)
def test_workers_cut_into_equal_parts_at_the_start(num_candidates, num_workers, starts):
    bisection, running = Bisection(num_candidates, 0.5), []
    for _ in range(num_workers):
        candidate = bisection.next_candidate({}, running, num_workers)
        if candidate is not None:
            running.append(candidate)
    assert running == starts


@given(
    num_candidates=st.integers(1, 60),
    positions=st.sets(st.integers(0, 59), max_size=5),
)
def test_a_worker_that_comes_later_halves_the_largest_part(num_candidates, positions):
    running = [c for c in positions if c < num_candidates - 1]
    candidate = Bisection(num_candidates, 0.5).next_candidate(
        {}, running, len(running) + 1
    )
    assert candidate is not None
    cuts = sorted([-1, *running, num_candidates])
    left = max(c for c in cuts if c < candidate)
    right = min(c for c in cuts if c > candidate)
    assert right - left == max(b - a for a, b in zip(cuts, cuts[1:]))
    assert abs((candidate - left) - (right - candidate)) <= 1


@pytest.mark.parametrize(
    ("again", "expected", "answer"),
    [
        # 3 stays feasible
        ({3: [0.51, 0.52]}, [7, 3, 1, 2, 3], 3),
        # 3 was feasible by chance: between it and 7 all is undecided again
        ({3: [0.51, 0.30]}, [7, 3, 1, 2, 3, 5, 6], 7),
        # 2 was infeasible by chance, and is the smallest after 1
        ({2: [0.49, 0.70], 3: [0.9]}, [7, 3, 1, 2, 2], 2),
        # 3 was infeasible by chance: below it all is undecided again
        ({3: [0.49, 0.70], 4: [0.9], 5: [0.9]}, [7, 3, 5, 4, 3, 1, 2], 3),
    ],
)
def test_a_verdict_that_turns_reopens_the_interval(again, expected, answer):
    scores = {c: [0.9] if c == 7 else [0.1] for c in range(16)} | again
    bisection = Bisection(16, 0.5, margin=0.1, max_executions=2)
    found, started = run(bisection, lambda c, execution: scores[c][execution])
    assert started == expected
    assert bisection.smallest_feasible(found) == answer


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize(("score", "answer"), [(0.5, 0), (0.4, None)])
def test_a_single_candidate(score, answer, num_workers):
    bisection = Bisection(1, 0.5, margin=0.2, max_executions=3)
    scores, started = run(bisection, lambda *_: score, num_workers)
    assert bisection.smallest_feasible(scores) == answer
    assert started == [0, 0, 0]


@pytest.mark.parametrize(
    ("score", "executions"), [(0.39, 1), (0.42, 2), (0.44, 3), (0.46, 5), (0.5, 5)]
)
def test_executions_until_the_mean_is_far_for_as_many(score, executions):
    # 0.1, 0.071, 0.058, 0.05 and 0.045 are what one to five executions leave to chance
    bisection = Bisection(1, 0.5, margin=0.1, max_executions=5)
    _, started = run(bisection, lambda *_: score)
    assert len(started) == executions


@given(num_candidates=st.integers(1, 40), num_workers=WORKERS, order=ORDERS)
def test_nothing_feasible_is_known_from_the_dearest(num_candidates, num_workers, order):
    bisection = Bisection(num_candidates, 0.5, margin=0.1, max_executions=3)
    scores, started = run(bisection, lambda *_: 0.1, num_workers, order)
    assert bisection.smallest_feasible(scores) is None
    assert num_candidates - 1 in started


def test_the_closer_of_two_close_ones_comes_first():
    bisection = Bisection(2, 0.5, margin=0.1, max_executions=2)
    assert bisection.next_candidate({0: [0.46], 1: [0.52]}) == 1
    assert bisection.next_candidate({0: [0.48], 1: [0.54]}) == 0


def rounds_needed(bisection, smallest, num_workers):
    """By workers that begin and end together."""
    scores, num_rounds = {}, 0
    while True:
        running = []
        for _ in range(num_workers):
            candidate = bisection.next_candidate(scores, running, num_workers)
            if candidate is not None:
                running.append(candidate)
        if not running:
            return num_rounds
        num_rounds += 1
        scores.update((c, [float(c >= smallest)]) for c in running)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("num_candidates", [1, 2, 3, 7, 8, 20])
def test_rounds_left_are_those_of_the_worst_case(num_candidates, num_workers):
    bisection = Bisection(num_candidates, 0.5)
    worst = max(
        rounds_needed(bisection, smallest, num_workers)
        for smallest in range(num_candidates + 1)
    )
    assert bisection.num_rounds_left({}, num_workers) == worst


def test_close_verdicts_are_rounds_to_come():
    bisection = Bisection(3, 0.9, margin=0.01, max_executions=3)
    scores = {0: [0.5], 1: [0.895], 2: [0.905]}
    assert bisection.num_rounds_left(scores) == 4
    assert bisection.num_rounds_left(scores, num_workers=3) == 2
    assert bisection.num_rounds_left({0: [0.5], 1: [0.8], 2: [1.0]}) == 0


def test_by_default_one_worker_executes_each_candidate_once():
    bisection = Bisection(2, 0.5)
    assert (bisection.margin, bisection.max_executions) == (0.0, 1)
    assert Bisection(9, 0.5).next_candidate({}) == 4
    # At the floor itself, nothing is closer
    assert bisection.next_candidate({0: [0.5]}) is None
