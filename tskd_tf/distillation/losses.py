"""The losses of Shi et al. 2017, Eq. 5 to 8, one value an example.

All of them are computed in float32, whatever the precision of the logits: a softmax
in bfloat16 keeps two to three digits. Nothing is averaged here; the mean over the
batch, its sample weights and its replicas belong to the `Distiller`.
"""

from typing import Any

import keras
import tensorflow as tf

from tskd_tf.choices import ABOVE_0, check_within
from tskd_tf.errors import InputError

# What Keras 3.15's losses of logits hand them to as if they were probabilities
_LOSSES_OF_PROBABILITIES = (
    "kl_divergence",
    "binary_crossentropy",
    "categorical_crossentropy",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
)


def softened_log_probabilities(logits: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """log P^τ of Eq. 5: log softmax of `logits / temperature` over the last axis.

    Args:
        logits: Z, shape `(batch, num_outputs)`, any float type.
        temperature: τ, a positive scalar.

    Returns:
        float32, shape `(batch, num_outputs)`.
    """
    scaled = tf.cast(logits, tf.float32) / tf.cast(temperature, tf.float32)
    return tf.nn.log_softmax(scaled)


def hard_loss(labels: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
    """H(Y, P_S) of Eq. 6 with one-hot Y: cross entropy with the true labels, τ = 1.

    Args:
        labels: Integers of shape `(batch,)`, positions among the outputs.
        student_logits: Shape `(batch, num_outputs)`.

    Returns:
        float32, shape `(batch,)`, in nats.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels, tf.cast(student_logits, tf.float32)
    )


def soft_loss(
    teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
    """H(P_T^τ, P_S^τ) of Eq. 6: cross entropy with the teacher's soft targets.

    Args:
        teacher_logits: Shape `(batch, num_outputs)`; no gradient flows into them.
        student_logits: Shape `(batch, num_outputs)`.
        temperature: τ, a positive scalar; the same for teacher and student.

    Returns:
        float32, shape `(batch,)`, in nats. Its smallest value is the entropy of
        P_T^τ, not zero.
    """
    targets = tf.exp(softened_log_probabilities(teacher_logits, temperature))
    scaled = tf.cast(student_logits, tf.float32) / tf.cast(temperature, tf.float32)
    return tf.nn.softmax_cross_entropy_with_logits(tf.stop_gradient(targets), scaled)


def divergence(
    target_logits: tf.Tensor, logits: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
    """KL(P_target^τ ‖ P^τ), the loss between networks that learn together.

    Args:
        target_logits: Shape `(batch, num_outputs)`; gradients flow into them, too,
            unless the caller stops them.
        logits: Shape `(batch, num_outputs)`.
        temperature: τ, a positive scalar; the same for both.

    Returns:
        float32, shape `(batch,)`, in nats, ≥ 0 except for rounding. The sum over the
        classes, not their mean.
    """
    targets = softened_log_probabilities(target_logits, temperature)
    difference = targets - softened_log_probabilities(logits, temperature)
    return tf.reduce_sum(tf.exp(targets) * difference, axis=-1)


def distillation_loss(
    hard: tf.Tensor, soft: tf.Tensor, soft_loss_weight: tf.Tensor
) -> tf.Tensor:
    """The summand of Eq. 7 and 8: (1−λ)·H(Y, P_S) + λ·H(P_T^τ, P_S^τ).

    As printed: the soft term carries no factor τ² (Hinton's form multiplies it in).

    Args:
        hard: Shape `(batch,)`.
        soft: Shape `(batch,)`.
        soft_loss_weight: λ in [0, 1].

    Returns:
        float32, shape `(batch,)`.
    """
    return (1.0 - soft_loss_weight) * hard + soft_loss_weight * soft


@keras.saving.register_keras_serializable("tskd_tf")
class SoftLoss(keras.distillation.DistillationLoss):
    """The soft loss of Eq. 6, H(P_T^τ, P_S^τ), for `keras.distillation.Distiller`.

    Mean over the batch. With `student_loss_weight` 1 − λ and a hard loss on logits,
    that distiller minimises Eq. 8, as `Distiller` does.

    Args:
        temperature: τ > 0.
        scale_soft_loss: Multiplies by τ² (Hinton's form), which the paper does not.

    Raises:
        InputError: If the temperature is out of range.

    Example:

    >>> distiller = keras.distillation.Distiller(
    ...     teacher, student, SoftLoss(temperature=3.0), student_loss_weight=0.1
    ... )
    >>> distiller.compile(
    ...     "adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ... )
    """

    def __init__(self, temperature: float = 3.0, scale_soft_loss: bool = False) -> None:
        check_within("temperature", temperature, ABOVE_0)
        self.temperature = float(temperature)
        self.scale_soft_loss = scale_soft_loss

    def compute_loss(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, **_: Any
    ) -> tf.Tensor:
        """The loss of a batch of logits, each `(batch, num_outputs)`; a scalar."""
        scale = self.temperature**2 if self.scale_soft_loss else 1.0
        losses = soft_loss(teacher_outputs, student_outputs, self.temperature)
        return scale * tf.reduce_mean(losses)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "temperature": self.temperature,
            "scale_soft_loss": self.scale_soft_loss,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SoftLoss":
        """From `get_config`."""
        return cls(**config)


def check_soft_loss(loss: Any) -> None:
    """Checks a loss that is to take the place of `soft_loss`.

    Raises:
        InputError: If it is no `keras.distillation.DistillationLoss` that compares
            the logits of teacher and student.
    """
    name = type(loss).__name__
    if not isinstance(loss, keras.distillation.DistillationLoss):
        raise InputError(
            "Expected soft_loss to be a keras.distillation.DistillationLoss. Received: "
            f"{name}"
        )
    layers = ("teacher_layer_name", "student_layer_name")
    if any(getattr(loss, attribute, None) for attribute in layers):
        raise InputError(
            f"Expected a soft_loss of the models' outputs. Received: a {name} of inner "
            "layers, whose values are not stored; see keras.distillation.Distiller"
        )
    for part in keras.tree.flatten(getattr(loss, "loss", None)):
        part_name = getattr(part, "__name__", type(part).__name__)
        if part_name in _LOSSES_OF_PROBABILITIES:
            raise InputError(
                f"Expected a soft_loss of logits. Received: {name}(loss={part_name}), "
                "which takes logits for probabilities; pass "
                "loss=keras.losses.KLDivergence() to LogitsDistillation, which then "
                "applies the softmax, or use tskd_tf.SoftLoss"
            )
