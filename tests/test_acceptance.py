"""The paired interval against published values, its definition, and its coverage."""

import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.acceptance import (
    accuracy_floor,
    meets_threshold,
    paired_interval,
    paired_loss,
    smallest_certifiable_loss,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("counts", "published"),
    [
        # Airway hyper-responsiveness (Bentur et al. 2009), as computed by Fagerland,
        # Lydersen & Laake, BMC Medical Research Methodology 14, 2014
        ((21, 1, 7), (-0.517, -0.026)),
    ],
)
def test_published_intervals(counts, published):
    assert paired_interval(*counts) == pytest.approx(published, abs=5e-4)


def constrained_score(num_examples, num_lost, num_gained, difference):
    """The score statistic, its nuisance parameter found by maximising the likelihood
    on a grid rather than by Tango's quadratic."""
    # gain p, loss p + difference, concordant 1 - 2 p - difference
    low = max(0.0, -difference)
    gain = np.linspace(low, (1 - difference) / 2, 400_001)[1:-1]
    likelihood = (num_examples - num_lost - num_gained) * np.log(
        1 - 2 * gain - difference
    )
    likelihood += num_lost * np.log(gain + difference) + num_gained * np.log(gain)
    best = gain[likelihood.argmax()]
    variance = num_examples * (2 * best + difference - difference**2)
    return (num_lost - num_gained - num_examples * difference) / math.sqrt(variance)


@pytest.mark.parametrize("counts", [(50, 12, 2), (40, 1, 3), (100, 5, 5), (30, 1, 0)])
def test_ends_solve_the_score_equation(counts):
    z = statistics.NormalDist().inv_cdf(0.975)
    low, high = paired_interval(*counts)
    assert constrained_score(*counts, high) == pytest.approx(-z, abs=2e-3)
    assert constrained_score(*counts, low) == pytest.approx(z, abs=2e-3)


@pytest.mark.parametrize("num_examples", [1, 10, 2115, 10_000])
def test_no_discordant_image_has_the_closed_form(num_examples):
    z = statistics.NormalDist().inv_cdf(0.975)
    expected = z * z / (num_examples + z * z)
    assert paired_interval(num_examples, 0, 0) == pytest.approx((-expected, expected))
    assert smallest_certifiable_loss(num_examples) == pytest.approx(expected)


@pytest.mark.parametrize("num_examples", [60, 500, 2115, 10_000])
def test_no_discordant_image_is_no_bolder_than_the_exact_bound(num_examples):
    """Clopper and Pearson's upper bound for an event never seen in n draws."""
    assert paired_interval(num_examples, 0, 0)[1] >= 1 - 0.025 ** (1 / num_examples)


@given(st.integers(1, 500), st.data())
def test_interval_is_ordered_antisymmetric_and_holds_the_estimate(num_examples, data):
    lost = data.draw(st.integers(0, num_examples))
    gained = data.draw(st.integers(0, num_examples - lost))
    low, high = paired_interval(num_examples, lost, gained)
    estimate = (lost - gained) / num_examples
    assert -1 <= low <= estimate <= high <= 1
    mirrored = paired_interval(num_examples, gained, lost)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


@given(st.integers(2, 300), st.data())
def test_more_confidence_is_a_wider_interval(num_examples, data):
    lost = data.draw(st.integers(0, num_examples))
    gained = data.draw(st.integers(0, num_examples - lost))
    narrow = paired_interval(num_examples, lost, gained, 0.8)
    wide = paired_interval(num_examples, lost, gained, 0.99)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def binomial(n, k, p):
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(
    ("loss", "gain"), [(0.0, 0.0), (0.02, 0.0), (0.02, 0.02), (0.05, 0.01), (0.1, 0.1)]
)
def test_coverage_by_enumeration_of_every_outcome(loss, gain):
    """At n = 60, where 0 or 1 discordant images are common, the exact probability that
    the interval holds the truth."""
    n, covered = 60, 0.0
    for lost in range(n + 1):
        if (p_lost := binomial(n, lost, loss)) < 1e-9:
            continue
        for gained in range(n - lost + 1):
            p_gained = binomial(n - lost, gained, gain / (1 - loss))
            if p_gained < 1e-9:
                continue
            low, high = paired_interval(n, lost, gained)
            covered += p_lost * p_gained * (low <= loss - gain <= high)
    assert covered >= 0.94


def test_paired_loss_counts_disagreement():
    teacher = np.array([True, True, True, False, False])
    student = np.array([True, False, False, True, False])
    got = paired_loss(teacher, student)
    assert (got.num_lost, got.num_gained, got.num_examples) == (2, 1, 5)
    assert got.accuracy_loss == pytest.approx(0.2)
    assert (got.low, got.high) == paired_interval(5, 2, 1)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="at most"):
        paired_interval(3, 2, 2)
    with pytest.raises(ValueError, match="not negative"):
        paired_interval(3, -1, 0)


def test_the_threshold_itself_is_met():
    # 0.99 - 0.988 is 0.0020000000000000018
    assert meets_threshold(0.99 - 0.988, 0.002)
    assert not meets_threshold(0.0021, 0.002)
    assert 0.988 >= accuracy_floor(0.99, 0.002)
    assert meets_threshold(-0.5, 0.0)


@pytest.mark.parametrize(
    ("counts", "published"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, table I, method 3
        ((81, 263), (0.2553, 0.3662)),
        ((15, 148), (0.0624, 0.1605)),
        ((0, 20), (0.0, 0.1611)),
        ((1, 29), (0.0061, 0.1718)),
    ],
)
def test_published_intervals_of_one_accuracy(counts, published):
    assert wilson_interval(*counts) == pytest.approx(published, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_an_accuracy_ends_where_the_score_test_rejects(counts):
    num_correct, num_examples = counts
    low, high = wilson_interval(num_correct, num_examples, 0.9)
    accuracy = num_correct / num_examples
    assert 0.0 <= low <= accuracy <= high <= 1.0
    z = statistics.NormalDist().inv_cdf(0.95)
    for end in (low, high):
        if 0.0 < end < 1.0:
            deviation = math.sqrt(end * (1 - end) / num_examples)
            assert abs(accuracy - end) / deviation == pytest.approx(z)


@given(
    st.integers(1, 100_000).flatmap(
        lambda n: st.tuples(st.integers(0, n), st.just(n), st.floats(0.01, 0.999))
    )
)
def test_the_interval_of_an_accuracy_against_its_closed_form(counts_and_confidence):
    num_correct, num_examples, confidence = counts_and_confidence
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    total = num_examples + z * z
    middle = (num_correct + z * z / 2) / total
    spread = num_correct * (num_examples - num_correct) / num_examples + z * z / 4
    reach = z * math.sqrt(spread) / total
    expected = (max(0.0, middle - reach), min(1.0, middle + reach))
    interval = wilson_interval(num_correct, num_examples, confidence)
    assert interval == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3), (0, 0)])
def test_counts_of_an_accuracy_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match="num_correct from 0 to num_examples"):
        wilson_interval(*counts)


def test_neither_help_nor_an_import_waits_for_scipy():
    code = (
        "import sys, tskd_tf, tskd_tf.main, tskd_tf.acceptance; "
        "sys.exit('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_floor_is_never_below_minus_one():
    assert accuracy_floor(0.0, 1.0) == -1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_paired_counts_are_those_of_a_loop(pairs):
    teacher, student = (np.array(side, bool) for side in zip(*pairs))
    found = paired_loss(teacher, student, 0.9)
    assert found.num_examples == len(pairs) and found.confidence == 0.9
    assert found.num_lost == pairs.count((True, False))
    assert found.num_gained == pairs.count((False, True))
    lost = found.num_lost - found.num_gained
    assert found.accuracy_loss == lost / len(pairs)
    assert (found.low, found.high) == paired_interval(
        len(pairs), found.num_lost, found.num_gained, 0.9
    )
