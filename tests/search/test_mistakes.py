"""Confusion counts and the surest mistakes against loops over the images."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.search.mistakes import confusion_counts, surest_mistakes


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=30))
def test_counts_are_those_of_a_loop(pairs):
    expected = [[pairs.count((row, column)) for column in range(4)] for row in range(3)]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    assert confusion_counts(rows, columns, 3, 4).tolist() == expected


LOGITS = st.lists(st.integers(-4, 4), min_size=3, max_size=3)
IMAGES = st.lists(st.tuples(LOGITS, st.integers(0, 2), st.booleans()), max_size=12)


@given(IMAGES, st.integers(0, 6))
def test_mistakes_are_those_of_a_loop(images, most):
    expected = []
    for index, (logits, label, is_considered) in enumerate(images):
        prediction = logits.index(max(logits))
        if is_considered and prediction != label:
            total = sum(math.exp(value) for value in logits)
            probability = math.exp(logits[prediction]) / total
            expected.append((index, prediction, probability))
    expected.sort(key=lambda found: (-round(found[2], 9), found[0]))
    got = surest_mistakes(
        np.array([logits for logits, *_ in images], np.float32).reshape(-1, 3),
        np.array([label for _, label, _ in images], int),
        np.array([is_considered for *_, is_considered in images], bool),
        most,
    )
    found = zip(got.indices.tolist(), got.predictions.tolist(), strict=True)
    assert list(found) == [told[:2] for told in expected[:most]]
    probabilities = [told[2] for told in expected[:most]]
    np.testing.assert_allclose(got.probabilities, probabilities, rtol=1e-12)


def test_large_logits_are_no_overflow():
    logits = np.array([[1e4, 0.0], [3e38, -3e38]], np.float32)
    got = surest_mistakes(logits, np.array([1, 1]), np.array([True, True]), 9)
    assert got.probabilities.tolist() == [1.0, 1.0]
    assert got.indices.tolist() == [0, 1]


def test_of_equal_probability_the_earlier_image_comes_first():
    # The same three logits; in this order the second sum is smaller by its last bit
    logits = np.array([[-4, -3, -1], [-4, -1, -3]], np.float32)
    got = surest_mistakes(logits, np.array([0, 0]), np.array([True, True]), 2)
    assert got.indices.tolist() == [0, 1]
