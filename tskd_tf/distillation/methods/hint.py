"""Hints: the student's middle first learns to give what the teacher's middle gives.

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
    """L_HT: half of the squared distance of two maps, as a mean over their values.

    Romero et al. print the sum. The mean is of the size of a cross entropy whatever the
    map's, so that one learning rate serves both of their stages.

    Args:
        hint: The teacher's map, `(batch, height, width, channels)`.
        guided: The student's through the regressor, of the same shape.

    Returns:
        float32, shape `(batch,)`, ≥ 0.
    """
    distance = tf.cast(hint, tf.float32) - tf.cast(guided, tf.float32)
    return 0.5 * tf.reduce_mean(tf.square(distance), axis=[1, 2, 3])


@keras.saving.register_keras_serializable("tskd_tf")
class HintDistiller(FeatureDistiller):
    """Trains a student on hints, then on Eq. 8, in one `fit`.

    In the first `hint_steps` steps of the optimiser `loss` is L_HT = ½‖u − r(v)‖², see
    `hint_loss`: u is the teacher's map at a stage, v the student's at the same, and r
    a convolution whose kernel is as large as makes v's places as many as u's. Layers
    behind the stage get no gradient then. Afterwards it is Eq. 8, `hint_loss` is 0, and
    the teacher's maps are not asked for any more. What counts is the optimiser's step,
    so that a training that was cut off goes on in the right half. The regressor is
    trained and saved with the distiller, not with the student.

    Unlike theirs: r is linear, as the map at the end of a stage need not have passed
    their non-linearity; the whole training has one optimiser and one schedule; λ stays
    as it is; and the student starts where it starts.

    Args:
        student: As in `FeatureDistiller`.
        teacher: As in `FeatureDistiller`.
        task: As in `Distiller`.
        stages: The one stage of hint and guided map; by default the middle one, of an
            even number the later of the two.
        teacher_maps: As in `FeatureDistiller`.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: As in `FeatureDistiller`; if not one stage is given, or the
            student's map has fewer places than the teacher's.

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
                "Expected a student whose map at the stage has as many places as the "
                f"teacher's, {sides}, or more. Received: {student.name!r} with "
                f"{guided_sides}; name another stage"
            )
        self.regressor = keras.layers.Conv2D(
            channels, kernel, dtype="float32", name="regressor"
        )
        self.regressor.build((None, *self.student_maps[0]))
        self._hint_steps = 0

    @staticmethod
    def default_stages(num_stages: int) -> Sequence[int]:
        """The middle one."""
        return (num_stages // 2,)

    def compile(  # type: ignore[override]
        self, optimizer: Any = "adam", hint_steps: int = 500, **kwargs: Any
    ) -> None:
        """Sets the optimiser, the loss's parameters and the metrics.

        Args:
            optimizer: A Keras optimiser, or its name.
            hint_steps: Steps of the optimiser, counted from its first, in which the
                loss is L_HT; 0 is Eq. 8 from the start.
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
        """The losses of one batch, each `(batch,)`, and the student's logits."""
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
