"""What a classifier takes for what, and where it is surest and wrong."""

from typing import NamedTuple

import numpy as np


class Mistakes(NamedTuple):
    """Wrongly classified images, those first of which the classifier is surest.

    Attributes:
        indices: Positions among the images, shape `(n,)`.
        predictions: The outputs it chose, shape `(n,)`.
        probabilities: Their softmax, in [0, 1], shape `(n,)`.
    """

    indices: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray


def confusion_counts(
    rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int
) -> np.ndarray:
    """How often each pair of a row and a column occurs.

    Args:
        rows: The true class of each image, in `[0, num_rows)`, shape `(n,)`.
        columns: The class it is taken for, in `[0, num_columns)`, shape `(n,)`.
        num_rows: Number of true classes.
        num_columns: Number of classes it may be taken for.

    Returns:
        int64, shape `(num_rows, num_columns)`; their sum is n.
    """
    counts = np.zeros((num_rows, num_columns), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def surest_mistakes(
    logits: np.ndarray, labels: np.ndarray, considered: np.ndarray, most: int
) -> Mistakes:
    """The images that are taken for something else with the highest probability.

    Args:
        logits: Shape `(n, outputs)`.
        labels: The right output of each image, shape `(n,)`.
        considered: Which images to look at, bool of shape `(n,)`.
        most: How many to return at most.

    Returns:
        Of equal probability the earlier images first.
    """
    predictions = logits.argmax(axis=-1)
    wrong = np.flatnonzero(considered & (predictions != labels))
    exact = logits[wrong].astype(np.float64)
    # The largest logit is 0 then
    shifted = exact - exact.max(axis=-1, keepdims=True)
    probabilities = 1.0 / np.exp(shifted).sum(axis=-1)
    # Sums in another order differ in their last bits
    order = np.argsort(-probabilities.round(12), kind="stable")[:most]
    return Mistakes(wrong[order], predictions[wrong[order]], probabilities[order])
