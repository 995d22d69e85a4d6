"""Hints: the student first learns a feature map from the middle of the teacher.

FitNets, Romero et al., ICLR 2015 (arXiv:1412.6550).
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.batch import Batch
from tskd_tf.distillation.distiller import Losses
from tskd_tf.distillation.methods.features import FeatureDistiller
from tskd_tf.distillation.methods.method import (
    Compilation,
    Method,
    Parts,
    equation_8_arguments,
)
from tskd_tf.errors import InputError


def hint_loss(hint: tf.Tensor, guided: tf.Tensor) -> tf.Tensor:
    """L_HT: half of the mean squared difference of two feature maps.

    Romero et al. print the sum. For maps of any size, the mean is about as large as a
    cross entropy, so one learning rate serves both phases of the training.

    Args:
        hint: The teacher's map, shape `(batch, height, width, channels)`.
        guided: The student's map after the regressor, of the same shape.

    Returns:
        float32, shape `(batch,)`, ≥ 0.
    """
    distance = tf.cast(hint, tf.float32) - tf.cast(guided, tf.float32)
    return 0.5 * tf.reduce_mean(tf.square(distance), axis=[1, 2, 3])


@keras.saving.register_keras_serializable("tskd_tf")
class HintDistiller(FeatureDistiller):
    """Trains a student first on hints, then on Eq. 8, in one `fit`.

    In the first `hint_steps` optimiser steps, `loss` is L_HT = ½‖u − r(v)‖², see
    `hint_loss`. u is the teacher's map at a stage, and v the student's map at the same
    stage. r is the regressor: a convolution without padding, whose kernel makes r(v)
    as large as u. Layers behind the stage get no gradient in these steps. Afterwards
    `loss` is Eq. 8, `hint_loss` is 0, and the teacher's maps are not computed. The
    optimiser's step counts, so a training that is continued is in the right phase. The
    regressor is trained and saved with the distiller, not with the student.

    Differences from FitNets: r is linear, as a map at the end of a stage need not have
    passed an activation. The whole training has one optimiser and one schedule. λ is
    constant. The student keeps its initial weights.

    Args:
        student: Gives logits for the task's outputs. It has as many stages as the
            teacher (see `stages`) and is trained in place.
        teacher: Gives logits for all classes of the data set. Training needs it, also
            with stored logits.
        task: Which teacher outputs the student learns; by default all of them.
        stages: Index of the stage of hint and guided map, in a sequence of length 1; by
            default the middle one, the later one of two.
        teacher_maps: Shape `(height, width, channels)` of the teacher's map, in a
            sequence of length 1. It replaces the teacher in loading from a file.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: As in `FeatureDistiller`. Also if `stages` does not have length 1,
            or the student's map is smaller than the teacher's.

    Example:

    >>> distiller = HintDistiller(student, teacher, task=task)
    >>> distiller.compile("adam", hint_steps=500)
    >>> distiller.fit(transfer_set(train, teacher, task), epochs=10)
    """

    training_losses = ("hard_loss", "soft_loss", "hint_loss")

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        task: Task | None = None,
        stages: Sequence[int] | None = None,
        teacher_maps: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, teacher, task, stages, teacher_maps, **kwargs)
        if len(self.stages) != 1:
            raise InputError(
                f"Expected one stage for hints. Received: stages={list(self.stages)}"
            )
        ((*guided_sides, _),), ((*sides, channels),) = (
            self.student_maps,
            self.teacher_maps,
        )
        kernel = [large - small + 1 for large, small in zip(guided_sides, sides)]
        if min(kernel) < 1:
            raise InputError(
                "Expected a student whose map at the stage is at least as large as the "
                f"teacher's, {sides}. Received: {student.name!r} with {guided_sides}; "
                "choose another stage"
            )
        self.regressor = keras.layers.Conv2D(
            channels, kernel, dtype="float32", name="regressor"
        )
        self.regressor.build((None, *self.student_maps[0]))
        self._hint_steps = 0

    @staticmethod
    def default_stages(num_stages: int) -> Sequence[int]:
        """The middle stage, or the later one of two."""
        return (num_stages // 2,)

    def compile(  # type: ignore[override]
        self, optimizer: Any = "adam", hint_steps: int = 500, **kwargs: Any
    ) -> None:
        """Sets the optimiser, the loss's parameters and the metrics.

        Args:
            optimizer: A Keras optimiser, or its name.
            hint_steps: Number of optimiser steps with L_HT as the loss, from the first
                step on; ≥ 0. Default: 500. 0 means Eq. 8 from the start.
            **kwargs: As in `Distiller.compile`.

        Raises:
            InputError: If a value is out of range.
        """
        if hint_steps < 0:
            raise InputError(f"Expected hint_steps from 0 on. Received: {hint_steps}")
        self._hint_steps = hint_steps
        super().compile(optimizer, **kwargs)
        self._loss_config = {**self._loss_config, "hint_steps": hint_steps}

    def compute_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """The losses of one batch, each of shape `(batch,)`, and the student's logits.

        Args:
            batch: One batch with teacher logits.
        """
        logits, (guided,) = self.run_student(batch.images)
        losses = self.losses_of_logits(batch, logits)
        is_hinting = self.optimizer.iterations < self._hint_steps
        hint = tf.cond(
            is_hinting,
            lambda: self.maps_of_teacher(batch.images)[0],
            lambda: tf.zeros([tf.shape(logits)[0], *self.teacher_maps[0]]),
        )
        distance = hint_loss(hint, self.regressor(guided))
        losses["loss"] = tf.where(is_hinting, distance, losses["loss"])
        losses["hint_loss"] = tf.where(is_hinting, distance, 0.0)
        return losses, logits


def _build(parts: Parts) -> HintDistiller:
    return HintDistiller(parts.build_student(), parts.teacher, parts.task)


def _compile_arguments(compilation: Compilation) -> dict[str, Any]:
    hint_steps = round(compilation.recipe.hint_share * compilation.num_steps)
    return {**equation_8_arguments(compilation), "hint_steps": hint_steps}


METHOD = Method(_build, needs_live_teacher=True, compile_arguments=_compile_arguments)
