"""Early verdicts against their definition, and on curves whose end is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.search.early_verdict import decision_margin, early_verdict

SHARES = st.floats(0.0, 1.0)
MARGINS = st.floats(0.0, 0.1)
HALF = [0.5, 0.55, 0.58, 0.59, 0.6]
NINE = [0.5, 0.6, 0.7, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9]


@pytest.mark.parametrize(("floor", "num_examples"), [(0.99, 6000), (0.7, 5000)])
def test_margin_is_the_spread_of_accuracies_at_the_floor(floor, num_examples):
    generator = np.random.default_rng(1)
    accuracies = generator.binomial(num_examples, floor, 20_000) / num_examples
    margin = decision_margin(floor, num_examples)
    assert margin == pytest.approx(accuracies.std(), rel=0.02)


@pytest.mark.parametrize("floor", [-0.5, 0.0, 1.0 - 1e-9, 1.0, 1.5])
def test_margin_is_an_example_where_chance_has_next_to_no_part(floor):
    assert decision_margin(floor, 500) == 1 / 500


@pytest.mark.parametrize("num_examples", [0, -1])
def test_margin_needs_examples(num_examples):
    with pytest.raises(ValueError, match="at least one validation example"):
        decision_margin(0.9, num_examples)


@pytest.mark.parametrize(
    ("accuracies", "floor", "expected"),
    [
        # The margin is 0.01, the training of ten epochs
        ([0.91], 0.9, True),
        ([0.5, 0.92], 0.9, True),
        # Only the latest counts: it is what would be kept
        ([0.92, 0.905], 0.9, None),
        ([0.905], 0.9, None),
        # An error of 0.4 after five of ten epochs ends at 0.1
        (HALF, 0.92, False),
        (HALF, 0.91 - 1e-9, None),
        # One epoch to go: 0.1 ends at 0.081
        (NINE, 0.929 + 1e-9, False),
        (NINE, 0.929 - 1e-9, None),
        # Less than half of the epochs
        (HALF[1:], 0.99, None),
        ([0.1], 0.99, None),
        # Stuck, worse than it was, or faster than the law, by which 0.8 becomes 0.512
        ([0.1] * 5, 0.99, None),
        ([0.5, 0.55, 0.58, 0.6, 0.59], 0.99, None),
        ([0.65, 0.5, 0.55, 0.58, 0.6], 0.99, None),
        ([0.0, 0.0, 0.1, 0.2, 0.488 - 1e-9], 0.99, False),
        ([0.0, 0.0, 0.1, 0.2, 0.488 + 1e-9], 0.99, None),
        # Nothing left to save
        ([0.85] * 10, 0.9, None),
        ([0.99] * 10, 0.9, None),
        ([0.85] * 11, 0.9, None),
        # No epoch, no number
        ([], 0.9, None),
        ([0.95, math.nan], 0.9, None),
        ([*HALF[:4], math.nan, 0.61], 0.99, None),
        # Any student will do
        ([0.0], 0.0, True),
        ([0.0], -0.3, True),
        # A perfect one is asked for: a margin above cannot be reached
        ([1.0], 1.0, None),
        ([0.95], 1.0, None),
        (HALF, 1.0, False),
    ],
)
def test_verdicts(accuracies, floor, expected):
    assert early_verdict(accuracies, 10, floor, 0.01) is expected


def test_the_only_epoch_is_the_last():
    assert early_verdict([0.1], 1, 0.9, 0.01) is None
    assert early_verdict([0.99], 1, 0.9, 0.01) is None


def verdicts_of(accuracies, num_epochs, floor, margin):
    """The verdict after each epoch but the last."""
    return [
        early_verdict(accuracies[:num_done], num_epochs, floor, margin)
        for num_done in range(1, num_epochs)
    ]


@pytest.mark.parametrize(
    "accuracies",
    [
        # Measured, with BatchNormalization: 141 steps an epoch, 28, 28 at a high rate
        [0.5159, 0.878, 0.974, 0.9845, 0.987, 0.9883, 0.989, 0.9878, 0.988, 0.988],
        [
            0.7385,
            0.3576,
            0.3111,
            0.3057,
            0.3601,
            0.4652,
            0.6121,
            0.7288,
            0.7955,
            0.8521,
        ],
        [0.85, 0.9077, 0.8721, 0.8871, 0.9032, 0.932, 0.937, 0.9513, 0.9598, 0.9637],
        # Made up: at chance until the rate has fallen
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.8, 0.9, 0.92],
    ],
)
def test_late_starters_are_not_given_up(accuracies):
    verdicts = verdicts_of(accuracies, 10, accuracies[-1], 0.0)
    assert False not in verdicts


@given(st.integers(2, 30), st.floats(0.0, 1.0), st.floats(0.0, 2.0), SHARES, MARGINS)
def test_curves_of_the_family_get_the_verdict_of_their_end(
    num_epochs, first_error, exponent, floor, margin
):
    """Errors that fall as epochs^-exponent, an exponent of at most 2."""
    errors = first_error * np.arange(1.0, num_epochs + 1) ** -exponent
    accuracies = list(1.0 - errors)
    verdicts = verdicts_of(accuracies, num_epochs, floor, margin)
    if True in verdicts:
        # A floor of 0 is met by any student
        assert floor == 0.0 or accuracies[-1] >= floor + margin
    if False in verdicts:
        assert accuracies[-1] < floor - margin + 1e-12


@given(st.lists(SHARES, min_size=2, max_size=12), SHARES, MARGINS)
def test_only_what_is_at_its_best_in_the_second_half_is_given_up(
    accuracies, floor, margin
):
    num_epochs = len(accuracies)
    verdicts = verdicts_of(accuracies, num_epochs, floor, margin)
    for num_done, verdict in enumerate(verdicts, start=1):
        if verdict is False:
            assert 2 * num_done >= num_epochs
            assert accuracies[num_done - 1] > max(accuracies[: num_done - 1])


ORDER = {False: 0, None: 1, True: 2}
# Steady enough that all verdicts occur
RISING = st.lists(SHARES, min_size=1, max_size=9).map(sorted)


@given(RISING, SHARES, SHARES, MARGINS, MARGINS)
def test_a_higher_floor_never_speaks_for_and_more_margin_only_waits(
    accuracies, one, other, small, large
):
    low, high = sorted([one, other])
    small, large = sorted([small, large])

    def verdict(floor, margin):
        return early_verdict(accuracies, 10, floor, margin)

    assert ORDER[verdict(low, small)] >= ORDER[verdict(high, small)]
    # A floor of 0 is met whatever the margin
    assert verdict(one, large) in (verdict(one, small), None)
