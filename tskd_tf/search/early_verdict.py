"""Decides a training's verdict before its end, if possible.

A student is feasible if its accuracy exceeds the floor of Eq. 4 by more than chance
explains. It is out of reach if its accuracy would stay below the floor even with an
error that falls as 1/epochs², a power law.

T. Domhan, J. T. Springenberg & F. Hutter extrapolate learning curves by power laws
("Speeding up automatic hyperparameter optimization of deep neural networks by
extrapolation of learning curves", IJCAI 2015). J. Hestness et al. found exponents below
1 over the size of training data ("Deep learning scaling is predictable, empirically",
arXiv:1712.00409, 2017). The exponent 2 is optimistic: among the curves of
`benchmarks/early_verdicts.py`, the fastest fell with 1.8, most with less than 1.

The law holds only after training has settled. Before, validation accuracy may be low
for hundreds of steps and then rise steeply. Reasons are a high learning rate, or moving
averages of BatchNormalization that lag. So no student is given up in the first half of
its epochs, while its accuracy is below its best, or while it rises faster than the law.
"""

import math
from collections.abc import Sequence

_EXPONENT = 2.0


def decision_margin(floor: float, num_examples: int) -> float:
    """The binomial standard error of an accuracy at the floor, at least one example.

    A floor near 1 has almost no binomial error, but students still differ by an example
    or two.

    Args:
        floor: Smallest accuracy that meets Eq. 4; clipped to [0, 1].
        num_examples: Number of validation examples, ≥ 1.

    Returns:
        √(floor · (1 − floor) / examples) or 1 / examples, whichever is larger.

    Raises:
        ValueError: If there are no examples.
    """
    if num_examples < 1:
        raise ValueError(
            f"Expected at least one validation example. Received: {num_examples}"
        )
    share = min(max(floor, 0.0), 1.0)
    binomial = math.sqrt(share * (1.0 - share) / num_examples)
    return max(binomial, 1.0 / num_examples)


def early_verdict(
    accuracies: Sequence[float], num_epochs: int, floor: float, margin: float
) -> bool | None:
    """The verdict on a training in progress, if it can be decided yet.

    Args:
        accuracies: Validation accuracy after each epoch so far, in [0, 1].
        num_epochs: Number of epochs of the whole training, ≥ 1.
        floor: Smallest accuracy that meets Eq. 4; any student meets 0 or less.
        margin: Distance from the floor beyond which the verdict is decided, ≥ 0; see
            `decision_margin`.

    Returns:
        True (feasible) if the latest accuracy is at least `floor + margin`.

        False (out of reach) if all of these hold: the final accuracy would be below
        `floor - margin` with an error that falls as 1/epochs²; at least half of the
        epochs are done; the latest accuracy is the best, and rose no faster than that.

        None (undecided) otherwise, also after the last epoch and for NaN.
    """
    num_done = len(accuracies)
    if not 0 < num_done < num_epochs or math.isnan(accuracies[-1]):
        return None
    if floor <= 0.0 or accuracies[-1] >= floor + margin:
        return True
    if 2 * num_done < num_epochs or not _has_settled(accuracies):
        return None
    last_error = _error_at(num_epochs, num_done, accuracies[-1])
    return False if 1.0 - last_error < floor - margin else None


def _has_settled(accuracies: Sequence[float]) -> bool:
    """Whether the latest accuracy is the best and rose no faster than the law."""
    *before, latest = accuracies
    if not before or not latest > max(before):
        return False
    return 1.0 - latest >= _error_at(len(accuracies), len(before), before[-1])


def _error_at(epoch: int, num_done: int, accuracy: float) -> float:
    """The error that the law gives at an epoch, from the accuracy after `num_done`."""
    return (1.0 - accuracy) * (num_done / epoch) ** _EXPONENT
