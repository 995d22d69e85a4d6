"""When a training's verdict is known before its end.

Feasible is what stands above the floor of Eq. 4 by more than chance moves a student.
Out of reach is what stays below it even if the error falls as 1/epochs, a power law of
exponent 1. Learning curves are extrapolated by power laws since T. Domhan,
J. T. Springenberg & F. Hutter, "Speeding up automatic hyperparameter optimization of
deep neural networks by extrapolation of learning curves", IJCAI 2015; J. Hestness et
al., "Deep learning scaling is predictable, empirically", arXiv:1712.00409, 2017, found
exponents below 1 over training data. 1 is on the hopeful side: here, with a cosine
schedule, they were 0.9 at most (`benchmarks/early_verdicts.py`).
"""

import math
from collections.abc import Sequence


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
    """The verdict on a training under way, if it can be told by now.

    Args:
        accuracies: On the validation data after each epoch so far, in [0, 1].
        num_epochs: Of the whole training, ≥ 1.
        floor: Smallest accuracy that meets Eq. 4; 0 or less is met by any student.
        margin: By how much an accuracy must differ from the floor, ≥ 0; see
            `decision_margin`.

    Returns:
        True, feasible: the latest accuracy is at least `floor + margin`. False, out of
        reach: with an error that falls as 1/epochs the last one would be below
        `floor - margin`. None: too close to tell, or nothing is left to save, or the
        accuracy is no number.
    """
    num_done = len(accuracies)
    if not 0 < num_done < num_epochs or math.isnan(accuracies[-1]):
        return None
    if floor <= 0.0 or accuracies[-1] >= floor + margin:
        return True
    last_error = (1.0 - accuracies[-1]) * num_done / num_epochs
    return False if 1.0 - last_error < floor - margin else None
