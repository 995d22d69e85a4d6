"""Early verdicts against their definition, and on curves whose end is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.verdicts import decision_margin, early_verdict

SHARES = st.floats(0.0, 1.0)
MARGINS = st.floats(0.0, 0.1)


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
        # An error of 0.4 after five of ten epochs ends at 0.2
        ([0.6] * 5, 0.82, False),
        ([0.6] * 5, 0.81 - 1e-9, None),
        ([0.1], 0.93, False),
        ([0.1], 0.91, None),
        # One epoch to go
        ([0.85] * 9, 0.9, False),
        # Nothing left to save
        ([0.85] * 10, 0.9, None),
        ([0.99] * 10, 0.9, None),
        ([0.85] * 11, 0.9, None),
        # No epoch, no number
        ([], 0.9, None),
        ([0.95, math.nan], 0.9, None),
        # Any student will do
        ([0.0], 0.0, True),
        ([0.0], -0.3, True),
        # A perfect one is asked for: a margin above cannot be reached
        ([1.0], 1.0, None),
        ([0.95], 1.0, None),
        ([0.85], 1.0, False),
    ],
)
def test_verdicts(accuracies, floor, expected):
    assert early_verdict(accuracies, 10, floor, 0.01) is expected


def test_the_only_epoch_is_the_last():
    assert early_verdict([0.1], 1, 0.9, 0.01) is None
    assert early_verdict([0.99], 1, 0.9, 0.01) is None


@given(st.integers(2, 30), st.floats(0.0, 1.0), st.floats(0.0, 1.0), SHARES, MARGINS)
def test_curves_of_the_family_get_the_verdict_of_their_end(
    num_epochs, first_error, exponent, floor, margin
):
    """Errors that fall as epochs^-exponent, an exponent of at most 1."""
    errors = first_error * np.arange(1.0, num_epochs + 1) ** -exponent
    accuracies = list(1.0 - errors)
    verdicts = [
        early_verdict(accuracies[:num_done], num_epochs, floor, margin)
        for num_done in range(1, num_epochs)
    ]
    if True in verdicts:
        assert accuracies[-1] >= floor + margin
    if False in verdicts:
        assert accuracies[-1] < floor - margin + 1e-12


ORDER = {False: 0, None: 1, True: 2}


@given(st.integers(1, 9), st.floats(0.01, 1.0), SHARES, SHARES, MARGINS, MARGINS)
def test_more_accuracy_never_speaks_against_and_more_margin_only_waits(
    num_done, floor, one, other, small, large
):
    def verdict(accuracy, margin):
        return early_verdict([accuracy] * num_done, 10, floor, margin)

    low, high = sorted([one, other])
    assert ORDER[verdict(low, small)] <= ORDER[verdict(high, small)]
    small, large = sorted([small, large])
    assert verdict(one, large) in (verdict(one, small), None)
