"""Eq. 4 on the test set, with a paired confidence interval for the loss.

Teacher and student see the same images, so only the images on which they disagree
carry information. The interval is Tango's score interval for the difference of two
paired proportions (T. Tango, "Equivalence test and confidence interval for the
difference in proportions for the paired-sample design", Statistics in Medicine 17,
1998). It keeps its coverage for accuracies near 1 with few or no discordant images.
There, Wald's interval can have width zero or leave [−1, 1]. Inverting a score test also
makes "the interval excludes a larger loss" and "the test rejects a larger loss" the
same statement.
"""

import math
import statistics
from typing import NamedTuple

import numpy as np

# Accuracies are quotients of counts: differences closer than this are rounding
_TOLERANCE = 1e-9


class PairedLoss(NamedTuple):
    """What the student loses against the teacher on the same images.

    Attributes:
        num_examples: Images compared.
        num_lost: Images that only the teacher gets right.
        num_gained: Images that only the student gets right.
        accuracy_loss: (lost − gained) / examples; negative if the student is better.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Confidence level of the two-sided interval, in (0, 1).
    """

    num_examples: int
    num_lost: int
    num_gained: int
    accuracy_loss: float
    low: float
    high: float
    confidence: float


def meets_threshold(accuracy_loss: float, max_accuracy_loss: float) -> bool:
    """Eq. 4 of Shi et al. 2017: Tacc_orig − Tacc ≤ Tacc_loss."""
    return accuracy_loss <= max_accuracy_loss + _TOLERANCE


def accuracy_floor(teacher_accuracy: float, max_accuracy_loss: float) -> float:
    """The smallest accuracy that meets Eq. 4, less a rounding tolerance."""
    return max(-1.0, teacher_accuracy - max_accuracy_loss - _TOLERANCE)


def paired_loss(
    teacher_is_correct: np.ndarray,
    student_is_correct: np.ndarray,
    confidence: float = 0.95,
) -> PairedLoss:
    """Compares teacher and student image by image.

    Args:
        teacher_is_correct: bool, shape `(n,)`, n ≥ 1.
        student_is_correct: bool, shape `(n,)`, for the same images in the same order.
        confidence: Confidence level of the interval, in (0, 1). Default: 0.95.
    """
    num_examples = len(teacher_is_correct)
    num_lost = int(np.sum(teacher_is_correct & ~student_is_correct))
    num_gained = int(np.sum(student_is_correct & ~teacher_is_correct))
    low, high = paired_interval(num_examples, num_lost, num_gained, confidence)
    return PairedLoss(
        num_examples,
        num_lost,
        num_gained,
        (num_lost - num_gained) / num_examples,
        low,
        high,
        confidence,
    )


def paired_interval(
    num_examples: int, num_lost: int, num_gained: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Tango's score interval for (lost − gained) / examples.

    Args:
        num_examples: n ≥ 1.
        num_lost: Images that only the teacher gets right, ≥ 0.
        num_gained: Images that only the student gets right, ≥ 0; the sum is ≤ n.
        confidence: Two-sided confidence level, in (0, 1). Default: 0.95.

    Returns:
        `(low, high)` in [−1, 1], with the estimate between them.

    Raises:
        ValueError: If the counts do not fit each other.
    """
    if min(num_lost, num_gained) < 0 or num_lost + num_gained > num_examples:
        raise ValueError(
            "Expected counts of disagreement that are not negative and at most "
            f"num_examples together. Received: {num_lost}, {num_gained} of "
            f"{num_examples}"
        )
    z = _normal_quantile(confidence)
    estimate = (num_lost - num_gained) / num_examples
    high = _bisect_score(num_examples, num_lost, num_gained, -z, (estimate, 1.0))
    low = _bisect_score(num_examples, num_lost, num_gained, z, (estimate, -1.0))
    return low, high


def wilson_interval(
    num_correct: int, num_examples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's score interval for one accuracy (E. B. Wilson, JASA 22, 1927).

    Args:
        num_correct: 0 to `num_examples`.
        num_examples: n ≥ 1.
        confidence: Two-sided confidence level, in (0, 1). Default: 0.95.

    Returns:
        `(low, high)` in [0, 1], with the accuracy between them.

    Raises:
        ValueError: If the counts do not fit each other.
    """
    if not 0 <= num_correct <= num_examples or num_examples < 1:
        raise ValueError(
            "Expected num_correct from 0 to num_examples, of at least one example. "
            f"Received: {num_correct} of {num_examples}"
        )
    # It takes a while to load, which only those who need it should wait for
    from scipy.stats import binomtest

    found = binomtest(num_correct, num_examples).proportion_ci(confidence, "wilson")
    accuracy = num_correct / num_examples
    # Rounding must keep the accuracy in the interval, and the interval in [0, 1]
    low, high = min(accuracy, float(found.low)), max(accuracy, float(found.high))
    return max(0.0, low), min(1.0, high)


def _bisect_score(
    num_examples: int,
    num_lost: int,
    num_gained: int,
    target: float,
    bounds: tuple[float, float],
) -> float:
    """Where the score, which falls as the difference rises, passes `target`."""
    inside, outside = bounds
    for _ in range(100):
        middle = (inside + outside) / 2
        score = _tango_score(num_examples, num_lost, num_gained, middle)
        if abs(score) < abs(target):
            inside = middle
        else:
            outside = middle
    return inside


def _tango_score(
    num_examples: int, num_lost: int, num_gained: int, difference: float
) -> float:
    """Score statistic of H0: the true loss is `difference`; N(0, 1) if it is."""
    n, b, c, delta = num_examples, num_lost, num_gained, difference
    # Probability of a gain, estimated under H0: the root of a quadratic
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    gain = (root - linear) / (4 * n)
    variance = n * (2 * gain + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0.0:
        return 0.0 if distance == 0.0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def smallest_certifiable_loss(num_examples: int, confidence: float = 0.95) -> float:
    """The smallest loss that this many images rule out if all of them agree.

    When teacher and student agree on every image, the interval reaches up to
    z² / (n + z²); a student that is better than its teacher can certify less.
    """
    z = _normal_quantile(confidence)
    return z * z / (num_examples + z * z)


def _normal_quantile(confidence: float) -> float:
    return statistics.NormalDist().inv_cdf((1 + confidence) / 2)
