"""Adversarial distillation: the student learns to deceive a discriminator.

Xu, Hsu and Huang, arXiv:1709.00513v2, see `discriminator`.
"""

from typing import Any

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.batch import Batch
from tskd_tf.distillation.distiller import Distiller, Losses, Update
from tskd_tf.distillation.losses import hard_loss
from tskd_tf.distillation.methods.discriminator import (
    adversarial_loss,
    build_discriminator,
    discriminator_loss,
)
from tskd_tf.distillation.methods.method import Compilation, Method, Parts
from tskd_tf.distillation.solvers import ADAM
from tskd_tf.errors import InputError

_OF_EQUATION_8 = ("temperature", "soft_loss_weight", "scale_soft_loss", "soft_loss")


def l1_loss(teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
    """L_L1: the sum of the absolute differences of raw logits.

    Args:
        teacher_logits: Shape `(batch, num_outputs)`. They get no gradient.
        student_logits: Shape `(batch, num_outputs)`.

    Returns:
        float32, shape `(batch,)`.
    """
    targets = tf.stop_gradient(tf.cast(teacher_logits, tf.float32))
    return tf.reduce_sum(tf.abs(tf.cast(student_logits, tf.float32) - targets), -1)


@keras.saving.register_keras_serializable("tskd_tf")
class AdversarialDistiller(Distiller):
    """Trains a student together with a discriminator of logits.

    Each training step has two updates. First the discriminator minimises
    −(L_A + L_DS) / 2. Then the student minimises a weighted sum of three losses: L_S,
    the cross entropy with the labels; L_L1, the L1 distance of raw logits; and L_GAN,
    see `adversarial_loss`. There is no temperature and no λ.

    The discriminator is trained, saved and counted with the distiller, not with the
    student. It normalises the logits of teacher and student as one batch: separate
    statistics would hide their scales. In the student's update it is in training mode,
    but neither its weights nor its statistics change. In the discriminator's update the
    student is in training mode and does not change either. It uses the dropout masks of
    its own update, so both updates see the same logits.

    Args:
        student: Gives logits for the task's outputs. It is trained in place.
        teacher: Gives logits for all classes of the data set; None if every batch
            carries them.
        task: Which teacher outputs the student learns; by default all of them.
        discriminator_depth: Number of layers with a kernel, ≥ 1. Default: 3.
        discriminator_dropout: Share of dropped units, in [0, 1). Default: 0.3.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: As in `Distiller`, or if the discriminator cannot be built.

    Example:

    >>> distiller = AdversarialDistiller(student, teacher, task=task)
    >>> distiller.compile("adam", discriminator_optimizer="adam")
    >>> distiller.fit(transfer_set(train, teacher, task), epochs=10)
    """

    training_losses = (
        "hard_loss",
        "l1_loss",
        "adversarial_loss",
        "discriminator_loss",
    )

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        task: Task | None = None,
        discriminator_depth: int = 3,
        discriminator_dropout: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, teacher, task, **kwargs)
        self.discriminator = build_discriminator(
            student.outputs[0].shape[-1], discriminator_depth, discriminator_dropout
        )
        self.hard_loss_weight = self._add_scalar("hard_loss_weight", 1.0)
        self.l1_loss_weight = self._add_scalar("l1_loss_weight", 1.0)
        self.adversarial_loss_weight = self._add_scalar("adversarial_loss_weight", 1.0)
        self._is_saturating = True
        self._discriminator_config = {
            "discriminator_depth": discriminator_depth,
            "discriminator_dropout": discriminator_dropout,
        }

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "adam",
        discriminator_optimizer: Any = "adam",
        hard_loss_weight: float = 1.0,
        l1_loss_weight: float = 1.0,
        adversarial_loss_weight: float = 1.0,
        is_saturating: bool = True,
        **kwargs: Any,
    ) -> None:
        """Sets the optimisers, the weights of the losses and the metrics.

        Args:
            optimizer: Optimiser of the student: a Keras optimiser, or its name.
            discriminator_optimizer: Optimiser of the discriminator: another object, or
                a name.
            hard_loss_weight: Weight of L_S, ≥ 0. Default: 1. The weights are
                variables, which a callback may `assign`. The paper uses 1 for all, and
                0 for some in its ablations.
            l1_loss_weight: Weight of L_L1, ≥ 0. Default: 1.
            adversarial_loss_weight: Weight of L_GAN, ≥ 0. Default: 1. At 0 the
                discriminator is still trained, but the student ignores it.
            is_saturating: Whether L_GAN has the paper's form, see `adversarial_loss`.
                Default: True.
            **kwargs: As in `Distiller.compile`, except for the settings of Eq. 8.

        Raises:
            InputError: If a value is out of range, a setting of Eq. 8 is given, or both
                networks get the same optimiser.
        """
        if given := [name for name in _OF_EQUATION_8 if name in kwargs]:
            raise InputError(
                "Expected the weights hard_loss_weight, l1_loss_weight and "
                "adversarial_loss_weight; the adversarial loss has no temperature and "
                f"no lambda. Received: {', '.join(given)}"
            )
        weights = {
            "hard_loss_weight": hard_loss_weight,
            "l1_loss_weight": l1_loss_weight,
            "adversarial_loss_weight": adversarial_loss_weight,
        }
        for name, weight in weights.items():
            if not 0.0 <= weight < float("inf"):
                raise InputError(f"Expected {name} from 0 on. Received: {weight}")
        if discriminator_optimizer is optimizer and not isinstance(optimizer, str):
            raise InputError(
                "Expected different optimisers for student and discriminator. "
                f"Received: the same {type(optimizer).__name__} for both"
            )
        self.discriminator_optimizer = keras.optimizers.get(discriminator_optimizer)
        self._is_saturating = is_saturating
        super().compile(optimizer, **kwargs)
        for name, weight in weights.items():
            getattr(self, name).assign(weight)
        self._loss_config = {
            **{k: v for k, v in self._loss_config.items() if k not in _OF_EQUATION_8},
            **weights,
            "is_saturating": is_saturating,
            "discriminator_optimizer": keras.saving.serialize_keras_object(
                self.discriminator_optimizer
            ),
        }

    def updates(self) -> list[Update]:
        """The discriminator's step, then the student's."""
        return [
            Update(
                self.discriminator_optimizer,
                self.discriminator.trainable_variables,
                self.compute_discriminator_losses,
                "discriminator_loss",
            ),
            Update(
                self.optimizer, self.student.trainable_variables, self.compute_losses
            ),
        ]

    def compute_discriminator_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """The discriminator's loss for one batch; the student does not change.

        Args:
            batch: One batch with teacher logits.

        Returns:
            `discriminator_loss` of shape `(batch,)`, and the student's logits.
        """
        with _standing_still():
            logits = tf.stop_gradient(self.student(batch.images, training=True))
        of_teacher, of_student = self._discriminate(batch.teacher_logits, logits)
        loss = discriminator_loss(of_teacher, of_student, batch.labels)
        return {"discriminator_loss": loss}, logits

    def compute_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """The student's losses for one batch; the discriminator does not change.

        Args:
            batch: One batch with teacher logits.

        Returns:
            The unweighted losses `hard_loss`, `l1_loss` and `adversarial_loss` and
            their weighted sum `loss`, each of shape `(batch,)`; and the student's
            logits, shape `(batch, num_outputs)`.
        """
        logits = self.student(batch.images, training=True)
        with _standing_still():
            _, of_student = self._discriminate(batch.teacher_logits, logits)
        hard = hard_loss(batch.labels, logits)
        distance = l1_loss(batch.teacher_logits, logits)
        deceit = adversarial_loss(of_student, batch.labels, self._is_saturating)
        losses = {"hard_loss": hard, "l1_loss": distance, "adversarial_loss": deceit}
        loss = tf.add_n([getattr(self, f"{n}_weight") * v for n, v in losses.items()])
        return {"loss": loss, **losses}, logits

    def _discriminate(
        self, teacher_logits: tf.Tensor, student_logits: tf.Tensor
    ) -> list[tf.Tensor]:
        """The discriminator's outputs for the teacher's and the student's logits."""
        logits = [
            tf.stop_gradient(tf.cast(teacher_logits, tf.float32)),
            tf.cast(student_logits, tf.float32),
        ]
        outputs: list[tf.Tensor] = tf.split(
            self.discriminator(tf.concat(logits, 0), training=True), 2
        )
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The student, the task, and the discriminator's depth and dropout."""
        return {**super().get_config(), **self._discriminator_config}


def _standing_still() -> keras.StatelessScope:
    """A scope in which a network in training mode does not change its variables."""
    return keras.StatelessScope(initialize_variables=False)


def _build(parts: Parts) -> AdversarialDistiller:
    return AdversarialDistiller(parts.build_student(), parts.teacher, parts.task)


def _compile_arguments(compilation: Compilation) -> dict[str, Any]:
    # With SGD, a hundredth of the learning rate, as in the paper. Adam's step does not
    # grow with the gradient, so a hundredth would hardly train the discriminator
    factor = 1.0 if compilation.recipe.solver == ADAM else 0.01
    return {
        "optimizer": compilation.build_optimizer(1.0),
        "discriminator_optimizer": compilation.build_optimizer(factor),
    }


METHOD = Method(
    _build,
    unused_settings=("temperature", "soft_loss_weight", "scale_soft_loss"),
    compile_arguments=_compile_arguments,
)
