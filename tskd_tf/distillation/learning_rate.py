"""Which learning rate a network is trained at, and how it changes.

The rule was measured on LeNet, cifar10_full and a wide residual network, at width
rates 0.05 to 1, tasks of two and ten classes, three to five seeds. Adam's best rate
grows as a network thins, about as the inverse square root of its width rate. With batch
normalisation it is five to ten times that without. A linear warm-up over the first
tenth of the steps keeps networks without it from losing their ReLUs at the start.
"""

import math

import keras

WARM_UP_SHARE = 0.1


def automatic_learning_rate(rate: float, has_batch_normalization: bool) -> float:
    """Adam's largest learning rate for a student.

    Args:
        rate: Its width rate, above 0; 1 for a teacher.
        has_batch_normalization: Whether a layer of it normalises batches.

    Returns:
        The rate at the end of the warm-up, above 0 and at most 0.03.
    """
    at_full_width, largest = (0.01, 0.03) if has_batch_normalization else (0.002, 0.01)
    return min(largest, at_full_width / math.sqrt(rate))


def has_batch_normalization(model: keras.Model) -> bool:
    """Whether a layer of a model, or of a model in it, is `BatchNormalization`."""
    return any(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in model._flatten_layers()
    )


def warm_cosine(
    learning_rate: float, num_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rises linearly over the first tenth of the steps, then falls to 0 by a cosine.

    Args:
        learning_rate: The largest, above 0.
        num_steps: Of the whole training, at least 1.
    """
    num_warm_steps = int(WARM_UP_SHARE * num_steps)
    return keras.optimizers.schedules.CosineDecay(
        # Adam's first step is as large as any, so it is not one of 0
        learning_rate / max(1, num_warm_steps),
        num_steps - num_warm_steps,
        warmup_target=learning_rate if num_warm_steps else None,
        warmup_steps=num_warm_steps,
    )
