"""When a training's verdict is known before its end.

Feasible is what stands above the floor of Eq. 4 by more than chance moves a student.
Out of reach is what stays below it even if the error falls as 1/epochs², a power law.
Learning curves are extrapolated by power laws since T. Domhan, J. T. Springenberg &
F. Hutter, "Speeding up automatic hyperparameter optimization of deep neural networks
by extrapolation of learning curves", IJCAI 2015; J. Hestness et al., "Deep learning
scaling is predictable, empirically", arXiv:1712.00409, 2017, found exponents below 1
over training data. 2 is on the hopeful side: of the curves to which it is applied, the
fastest fell with 1.8 from there to its end, most with less than 1
(`benchmarks/early_verdicts.py`).

A law holds where training has settled. Before that a network may validate badly for
hundreds of steps, because the moving averages of BatchNormalization lag or a high
learning rate keeps it from settling, and then rise steeply. So no student is given up
in the first half of its epochs, nor while it is worse than it was or rises faster than
the law.
"""

import math
from collections.abc import Sequence

_EXPONENT = 2.0


def decision_margin(floor: float, num_examples: int) -> float:
    """How far an accuracy at the floor moves by chance: its binomial standard error.

    At least one example, because a floor near 1 has next to no binomial error, but
    students still differ by an example or two.

    Args:
        floor: Smallest accuracy that meets Eq. 4; clipped to [0, 1].
        num_examples: Validation examples, ≥ 1.

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
    """The verdict on a training that has not ended, if it is already certain.

    Args:
        accuracies: On the validation data after each epoch so far, in [0, 1].
        num_epochs: Of the whole training, ≥ 1.
        floor: Smallest accuracy that meets Eq. 4; 0 or less is met by any student.
        margin: By how much an accuracy must differ from the floor, ≥ 0; see
            `decision_margin`.

    Returns:
        True, feasible: the latest accuracy is at least `floor + margin`. False, out of
        reach: with an error that falls as 1/epochs² the last one would be below
        `floor - margin`, at least half of the epochs are done, and the latest of them
        brought the best accuracy so far, but not faster than that. None: too close or
        too early to tell, or nothing is left to save, or the accuracy is no number.
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
    """Whether the latest accuracy is the best, and its error not below the law's."""
    *before, latest = accuracies
    if not before or not latest > max(before):
        return False
    return 1.0 - latest >= _error_at(len(accuracies), len(before), before[-1])


def _error_at(epoch: int, num_done: int, accuracy: float) -> float:
    """The error that the law gives at an epoch, from the accuracy after `num_done`."""
    return (1.0 - accuracy) * (num_done / epoch) ** _EXPONENT
