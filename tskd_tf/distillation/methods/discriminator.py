"""A discriminator of the teacher's and the student's logits, and its losses.

Xu, Hsu and Huang, "Training Shallow and Thin Networks for Acceleration via Knowledge
Distillation with Conditional Adversarial Networks", arXiv:1709.00513v2. The losses are
cross entropies with one value per example, in float32.
"""

import keras
import tensorflow as tf
from keras import layers

from tskd_tf.distillation.losses import hard_loss
from tskd_tf.errors import InputError

_REAL, _FAKE = 0, 1


def build_discriminator(
    num_outputs: int, depth: int = 3, dropout: float = 0.3
) -> keras.Model:
    """Builds a residual network that predicts the origin and the class of logits.

    It has batch normalisation of the logits, then blocks as wide as the logits,
    a ← ReLU(a + Dropout(BN(Linear(a)))), then a linear layer. The paper's "3-layer MLP"
    does not say whether the last layer counts; here it does. So `depth` 3 means two
    blocks and the last layer: 31,102 trainable parameters for 100 outputs, 412 for 10.
    It computes in float32. On several devices, batch statistics cover all replicas.

    Args:
        num_outputs: C, the number of logits, ≥ 2.
        depth: Number of layers with a kernel, including the last one, ≥ 1. Default:
            3. The paper tries 1 to 4.
        dropout: Share of dropped units, in [0, 1). Default: 0.3.

    Returns:
        A model that maps logits of shape `(batch, C)` to outputs `(batch, C + 2)`: the
        logits of the C classes, of "real" (the teacher's) and of "fake".

    Raises:
        InputError: If a value is out of range.
    """
    if depth < 1:
        raise InputError(
            f"Expected a discriminator of depth at least 1. Received: depth={depth}"
        )
    if not 0.0 <= dropout < 1.0:
        raise InputError(
            f"Expected dropout from 0 to below 1. Received: dropout={dropout}"
        )
    logits = keras.Input((num_outputs,), name="logits")
    x = _normalization("normalize")(logits)
    for i in range(1, depth):
        branch = layers.Dense(num_outputs, dtype="float32", name=f"linear_{i}")(x)
        branch = _normalization(f"normalize_{i}")(branch)
        branch = layers.Dropout(dropout, dtype="float32", name=f"drop_{i}")(branch)
        x = layers.Add(dtype="float32", name=f"add_{i}")([x, branch])
        x = layers.ReLU(dtype="float32", name=f"relu_{i}")(x)
    outputs = layers.Dense(num_outputs + 2, dtype="float32", name="verdict")(x)
    return keras.Model(logits, outputs, name="discriminator")


def _normalization(name: str) -> layers.Layer:
    return layers.BatchNormalization(
        dtype="float32",
        # On one device it would leak memory in a registry of TensorFlow, see solvers
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
        name=name,
    )


def authenticity_loss(outputs: tf.Tensor, is_real: bool) -> tf.Tensor:
    """−log P(Real | ·) or −log P(Fake | ·), a summand of −L_A.

    Args:
        outputs: The discriminator's outputs, shape `(batch, C + 2)`.
        is_real: Whether the right answer is "real"; otherwise it is "fake".

    Returns:
        float32, shape `(batch,)`, in nats.
    """
    labels = tf.fill(tf.shape(outputs)[:1], _REAL if is_real else _FAKE)
    return hard_loss(labels, outputs[:, -2:])


def class_loss(outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """−log P(l | ·), a summand of −L_DS.

    Args:
        outputs: The discriminator's outputs, shape `(batch, C + 2)`.
        labels: Positions of the right classes among C, integers of shape `(batch,)`.

    Returns:
        float32, shape `(batch,)`, in nats.
    """
    return hard_loss(labels, outputs[:, :-2])


def discriminator_loss(
    of_teacher: tf.Tensor, of_student: tf.Tensor, labels: tf.Tensor
) -> tf.Tensor:
    """−(L_A + L_DS) / 2, which the discriminator minimises.

    Args:
        of_teacher: The discriminator's outputs for the teacher's logits, shape
            `(batch, C + 2)`.
        of_student: The discriminator's outputs for the student's logits, shape
            `(batch, C + 2)`.
        labels: Positions of the right classes among C, integers of shape `(batch,)`.

    Returns:
        float32, shape `(batch,)`, in nats, ≥ 0.
    """
    authenticity = authenticity_loss(of_teacher, True)
    authenticity += authenticity_loss(of_student, False)
    classes = class_loss(of_teacher, labels) + class_loss(of_student, labels)
    return 0.5 * (authenticity + classes)


def adversarial_loss(
    of_student: tf.Tensor, labels: tf.Tensor, is_saturating: bool = True
) -> tf.Tensor:
    """The student's part of L_GAN = (L_A − L_DS) / 2; the teacher's is a constant.

    The printed form has no lower bound: log P(Fake | ·) falls without limit when the
    discriminator takes the student's logits for the teacher's. Its gradient vanishes
    when the discriminator is sure of a fake. The non-saturating form of Goodfellow et
    al. 2014, −log P(Real | ·), has the same fixed point, a gradient in that case, and
    the lower bound 0.

    Args:
        of_student: The discriminator's outputs for the student's logits, shape
            `(batch, C + 2)`.
        labels: Positions of the right classes among C, integers of shape `(batch,)`.
        is_saturating: Whether to use the paper's form. Default: True.

    Returns:
        float32, shape `(batch,)`, in nats.
    """
    if is_saturating:
        deceit = -authenticity_loss(of_student, False)
    else:
        deceit = authenticity_loss(of_student, True)
    return 0.5 * (deceit + class_loss(of_student, labels))
