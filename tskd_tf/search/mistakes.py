"""Confusion counts of a classifier, and its most confident mistakes."""

from typing import NamedTuple

import numpy as np


class Mistakes(NamedTuple):
    """Wrongly classified images, those with the highest probability first.

    Attributes:
        indices: Positions among the images, shape `(n,)`.
        predictions: The predicted outputs, shape `(n,)`.
        probabilities: Softmax probabilities of these outputs, in [0, 1], shape `(n,)`.
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
        columns: The predicted class, in `[0, num_columns)`, shape `(n,)`.
        num_rows: Number of true classes.
        num_columns: Number of predicted classes.

    Returns:
        int64, shape `(num_rows, num_columns)`; their sum is n.
    """
    counts = np.zeros((num_rows, num_columns), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def surest_mistakes(
    logits: np.ndarray, labels: np.ndarray, considered: np.ndarray, most: int
) -> Mistakes:
    """The wrongly classified images with the highest probability of the prediction.

    Args:
        logits: Shape `(n, outputs)`.
        labels: The correct output of each image, shape `(n,)`.
        considered: Which images to consider, bool of shape `(n,)`.
        most: Largest number of images to return.

    Returns:
        Mistakes, by descending probability; equal ones in the order of the images.
    """
    predictions = logits.argmax(axis=-1)
    wrong = np.flatnonzero(considered & (predictions != labels))
    exact = logits[wrong].astype(np.float64)
    # Now the largest logit is 0
    shifted = exact - exact.max(axis=-1, keepdims=True)
    probabilities = 1.0 / np.exp(shifted).sum(axis=-1)
    # Rounded, because sums in another order differ in their last bits
    order = np.argsort(-probabilities.round(12), kind="stable")[:most]
    return Mistakes(wrong[order], predictions[wrong[order]], probabilities[order])
