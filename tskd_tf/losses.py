"""The losses of Shi et al. 2017, Eq. 5 to 8, one value an example.

All of them are computed in float32, whatever the precision of the logits: a softmax
in bfloat16 keeps two to three digits. Nothing is averaged here; the mean over the
batch, its sample weights and its replicas belong to the `Distiller`.
"""

import tensorflow as tf


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
