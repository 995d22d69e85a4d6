"""Adversarial distillation: the student learns to pass its logits off as the teacher's.

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
    """L_L1: the sum of absolute differences of the raw logits.

    Args:
        teacher_logits: Shape `(batch, num_outputs)`; no gradient flows into them.
        student_logits: Shape `(batch, num_outputs)`.

    Returns:
        float32, shape `(batch,)`.
    """
    targets = tf.stop_gradient(tf.cast(teacher_logits, tf.float32))
    return tf.reduce_sum(tf.abs(tf.cast(student_logits, tf.float32) - targets), -1)


@keras.saving.register_keras_serializable("tskd_tf")
class AdversarialDistiller(Distiller):
    """Trains a student beside a discriminator of its logits and the teacher's.

    In each step first the discriminator minimises −(L_A + L_DS) / 2, then the student
    L_S + L_L1 + L_GAN, each with a weight: the cross entropy with the labels, the L1
    distance of raw logits, and `adversarial_loss`. There is no temperature and no λ.

    The discriminator is trained, saved and counted with the distiller, not with the
    student. It sees the logits of teacher and student as one batch, normalised alike:
    each by its own statistics, it could not see how large either are. It is in training
    mode in the student's step, too, where it stands still, statistics included. In its
    own step the student stands still in the same way: it is in training mode, with the
    dropout masks of its step to come, so that the logits judged are those it will be
    corrected for.

    Args:
        student: As in `Distiller`.
        teacher: As in `Distiller`.
        task: As in `Distiller`.
        discriminator_depth: See `build_discriminator`.
        discriminator_dropout: See `build_discriminator`.
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
            optimizer: The student's: a Keras optimiser, or its name.
            discriminator_optimizer: The discriminator's, another one.
            hard_loss_weight: Of L_S, ≥ 0. The weights are variables, which a callback
                may `assign`; all are 1 in the paper, whose ablations have some at 0.
            l1_loss_weight: Of L_L1, ≥ 0.
            adversarial_loss_weight: Of L_GAN, ≥ 0. At 0 the discriminator learns all
                the same, and nothing comes of it.
            is_saturating: Whether L_GAN is the paper's, see `adversarial_loss`.
            **kwargs: As in `Distiller.compile`, but those of Eq. 8.

        Raises:
            InputError: If a value is out of range, or of Eq. 8.
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
                "Expected an optimiser each for student and discriminator. Received: "
                f"the same {type(optimizer).__name__} for both"
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
        """What the discriminator minimises; the student is left as it is.

        Args:
            batch: With teacher logits.

        Returns:
            `discriminator_loss` of shape `(batch,)`, and the student's logits.
        """
        with _standing_still():
            logits = tf.stop_gradient(self.student(batch.images, training=True))
        of_teacher, of_student = self._discriminate(batch.teacher_logits, logits)
        loss = discriminator_loss(of_teacher, of_student, batch.labels)
        return {"discriminator_loss": loss}, logits

    def compute_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """What the student minimises; the discriminator is left as it is.

        Args:
            batch: With teacher logits.

        Returns:
            The losses, each of shape `(batch,)`: `hard_loss`, `l1_loss` and
            `adversarial_loss` unweighted, `loss` their weighted sum; and the student's
            logits.
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
        """The discriminator's outputs, for the teacher's logits and the student's."""
        logits = [
            tf.stop_gradient(tf.cast(teacher_logits, tf.float32)),
            tf.cast(student_logits, tf.float32),
        ]
        outputs: list[tf.Tensor] = tf.split(
            self.discriminator(tf.concat(logits, 0), training=True), 2
        )
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The student, the task and how the discriminator is built."""
        return {**super().get_config(), **self._discriminator_config}


def _standing_still() -> keras.StatelessScope:
    """Within it a network runs in training mode, and none of its variables changes."""
    return keras.StatelessScope(initialize_variables=False)


def _build(parts: Parts) -> AdversarialDistiller:
    return AdversarialDistiller(parts.build_student(), parts.teacher, parts.task)


def _compile_arguments(compilation: Compilation) -> dict[str, Any]:
    # A hundredth with SGD, as in the paper. Adam's steps are as long as its rate
    # whatever the gradient: a hundredth of them leaves the discriminator as it was
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
