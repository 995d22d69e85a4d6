"""Knowledge pre-regression: teacher and student are compared by class scores of maps.

Inspired by Wang, Deng and Wang, ECCV 2016, "Accelerating convolutional neural networks
with dominant convolutional kernel and knowledge pre-regression". Only the abstract of
the paper was available. It extends the hints of FitNets (see `hint`) by a cross entropy
in place of the Euclidean distance, which converges more easily. All else is our own
choice, so our results cannot be compared with the paper's.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.batch import Batch
from tskd_tf.distillation.distiller import Losses
from tskd_tf.distillation.losses import hard_loss, soft_loss
from tskd_tf.distillation.methods.features import FeatureDistiller
from tskd_tf.distillation.methods.method import Method, Parts
from tskd_tf.errors import InputError


@keras.saving.register_keras_serializable("tskd_tf")
class PreRegressionDistiller(FeatureDistiller):
    """Trains a student on Eq. 8 and on the class scores of its stages.

    At the end of each stage j, a head turns the map into class scores: a 1x1
    convolution with a channel per output, and the spatial mean. Both are linear, so the
    mean is taken first, which costs less and gives the same. Teacher and student have
    separate heads, with softened predictions q_Tj and q_Sj:

        L = (1−λ)·H(Y, P_S) + λ·H(P_T^τ, P_S^τ) + Σ_j β_j·H(q_Tj^τ, q_Sj^τ)
            + Σ_j H(Y, q_Tj).

    The last sum trains only the teacher's heads, as the teacher is frozen. The sum
    before it trains only the student and its heads, as q_Tj gets no gradient there. So
    one optimiser step updates everything. The student's heads do not learn from labels:
    FitNets report that class targets for half a network did not help. All heads are
    trained and saved with the distiller, not with the student.

    Args:
        student: Gives logits for the task's outputs. It has as many stages as the
            teacher (see `stages`) and is trained in place.
        teacher: Gives logits for all classes of the data set. Training needs it, also
            with stored logits.
        task: Which teacher outputs the student learns; by default all of them.
        stages: Indices of the compared stages, from 0 on; by default all stages.
        teacher_maps: Shapes `(height, width, channels)` of the teacher's maps at these
            stages. They replace the teacher when a distiller is loaded from a file.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: As in `FeatureDistiller`.

    Example:

    >>> distiller = PreRegressionDistiller(student, teacher, task=task)
    >>> distiller.compile("adam", stage_weights=0.5)
    >>> distiller.fit(transfer_set(train, teacher, task), epochs=10)
    """

    training_losses = (
        "hard_loss",
        "soft_loss",
        "pre_regression_loss",
        "teacher_heads_loss",
    )

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
        num_outputs = student.outputs[0].shape[-1]
        self.student_heads = _heads("student", self.student_maps, num_outputs)
        self.teacher_heads = _heads("teacher", self.teacher_maps, num_outputs)
        self._stage_weights: list[float] = []

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "adam",
        stage_weights: float | Sequence[float] = 1.0,
        **kwargs: Any,
    ) -> None:
        """Sets the optimiser, the loss's parameters and the metrics.

        Args:
            optimizer: A Keras optimiser, or its name. It updates the student and all
                heads.
            stage_weights: β_j ≥ 0: one number per stage, or one number for all stages.
                Default: 1.
            **kwargs: As in `Distiller.compile`.

        Raises:
            InputError: If a value is out of range, or stages and weights differ in
                number.
        """
        weights = (
            [stage_weights] * len(self.stages)
            if isinstance(stage_weights, (int, float))
            else list(stage_weights)
        )
        if len(weights) != len(self.stages) or not all(
            0.0 <= weight < float("inf") for weight in weights
        ):
            raise InputError(
                f"Expected stage_weights from 0 on, one number or {len(self.stages)}. "
                f"Received: {stage_weights}"
            )
        self._stage_weights = weights
        super().compile(optimizer, **kwargs)
        self._loss_config = {**self._loss_config, "stage_weights": weights}

    def compute_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """The losses of one batch, each of shape `(batch,)`, and the student's logits.

        `pre_regression_loss` is the sum with β_j, `teacher_heads_loss` the last sum.

        Args:
            batch: One batch with teacher logits.
        """
        logits, maps = self.run_student(batch.images)
        losses = self.losses_of_logits(batch, logits)
        taught = _scores(self.teacher_heads, self.maps_of_teacher(batch.images))
        scores = _scores(self.student_heads, maps)
        compared = tf.add_n(
            [
                weight * soft_loss(target, score, self.temperature)
                for weight, target, score in zip(self._stage_weights, taught, scores)
            ]
        )
        of_teacher = tf.add_n([hard_loss(batch.labels, score) for score in taught])
        losses["loss"] = losses["loss"] + compared + of_teacher
        own = {"pre_regression_loss": compared, "teacher_heads_loss": of_teacher}
        return {**losses, **own}, logits


def _heads(
    name: str, maps: Sequence[Sequence[int]], num_outputs: int
) -> list[keras.layers.Dense]:
    heads = [
        keras.layers.Dense(num_outputs, dtype="float32", name=f"{name}_head_{index}")
        for index in range(len(maps))
    ]
    for head, (_, _, channels) in zip(heads, maps, strict=True):
        head.build((None, channels))
    return heads


def _scores(
    heads: Sequence[keras.layers.Dense], maps: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    means = [tf.reduce_mean(values, axis=[1, 2]) for values in maps]
    return [head(mean) for head, mean in zip(heads, means, strict=True)]


def _build(parts: Parts) -> PreRegressionDistiller:
    return PreRegressionDistiller(parts.build_student(), parts.teacher, parts.task)


METHOD = Method(_build, needs_live_teacher=True)
