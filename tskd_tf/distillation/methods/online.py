"""Students that teach each other: online distillation, and deep mutual learning.

Online distillation is by Xie, Lin, Zhang and Luo, arXiv:1909.13063; it follows the
authors' code. It trains m students of one architecture. Their teacher is only a head
over their feature maps. Mutual learning has no such head; it is by Zhang, Xiang,
Hospedales and Lu, CVPR 2018 (arXiv:1706.00384). Neither needs a trained teacher.
"""

import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.batch import Batch, images_of
from tskd_tf.distillation.distiller import Distiller, Losses
from tskd_tf.distillation.losses import divergence, hard_loss
from tskd_tf.distillation.methods.method import Method, Parts
from tskd_tf.distillation.methods.peers import (
    build_fused_head,
    build_students,
    check_students,
)
from tskd_tf.distillation.methods.stages import with_stages
from tskd_tf.errors import InputError


@keras.saving.register_keras_serializable("tskd_tf")
class OnlineDistiller(Distiller):
    """Trains several students that learn from the labels and from each other.

    With the fused head, the loss of an example is

        L = H(Y, P_t) + Σ_j [H(Y, P_j) + w·KL(P_t^τ ‖ P_j^τ)].

    P_t is the prediction of the fused head: batch normalisation, ReLU, spatial mean and
    a dense layer. Its inputs are the students' last feature maps (see `stages`), joined
    along the channels. Without the fused head, the loss is

        L = Σ_j [H(Y, P_j) + w/(m−1) · Σ_{k≠j} KL(P_k^τ ‖ P_j^τ)].

    All students are updated at once; Zhang et al. update one after the other. Teacher
    logits are not needed, and stored ones are ignored. `loss` is the sum above.
    `hard_loss` and `soft_loss` are means of its parts over the students. `teacher_loss`
    is H(Y, P_t). Metrics in training are those of the first student.

    One student is kept. Each validation of `fit` measures all students and chooses the
    best, by accuracy if there is that metric, else by loss. Until the next validation,
    its results, `predict`, `evaluate` and `best_student` are those of the chosen
    student. Without any validation it is the first.

    Args:
        students: At least two models of one architecture, with different weights; see
            `build_students`. The first is also `student`, the others are `peers`.
        task: The classes of the students, and their head; None without a check.
        fused_head: Whether the fused head teaches; otherwise the students teach each
            other. Default: True.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: If students and task do not fit each other, if there is only one
            student, or if the students have no feature maps for the fused head.

    Example:

    >>> students = build_students(lambda: scale_width(teacher, 0.3, task), 4)
    >>> distiller = OnlineDistiller(students, task)
    >>> distiller.compile("adam", temperature=4.0, metrics=["accuracy"])
    >>> distiller.fit(task.filter(train), validation_data=task.filter(validation))
    >>> distiller.best_student().save("student.keras")
    """

    training_losses: tuple[str, ...] = ("hard_loss", "soft_loss", "teacher_loss")
    needs_teacher_logits = False

    def __init__(
        self,
        students: Sequence[keras.Model],
        task: Task | None = None,
        fused_head: bool = True,
        **kwargs: Any,
    ) -> None:
        first, *peers = check_students(students, task)
        if not fused_head:
            self.training_losses = ("hard_loss", "soft_loss")
        super().__init__(first, task=task, **kwargs)
        self.peers = peers
        # Saved with the distiller, so that a loaded one has the same chosen student
        self.chosen_student = self._add_scalar("chosen_student", 0.0)
        self.fused_head = None
        self._kl_weight: float | None = None
        self._stops_gradient = False
        if fused_head:
            views = [
                with_stages(student, "the students") for student in self.students()
            ]
            views = [
                keras.Model(v.inputs[0], [v.outputs[0], v.outputs[-1]]) for v in views
            ]
            shape, num_outputs = views[0].outputs[1].shape, first.outputs[0].shape[-1]
            self.fused_head = build_fused_head(shape[1:], len(views), num_outputs)
            # Keras would count the layers of models in attributes once more
            self._views = types.SimpleNamespace(students=views)

    def students(self) -> list[keras.Model]:
        """All students: the first, then `peers`."""
        return [self.student, *self.peers]

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "adam",
        temperature: float = 3.0,
        kl_weight: float | None = None,
        stop_gradient: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimiser, the loss's parameters and the metrics.

        Args:
            optimizer: A Keras optimiser, or its name. It updates all students and the
                head.
            temperature: τ > 0 of the divergence. Default: 3. Xie et al. use 4, Zhang
                et al. 1.
            kl_weight: Weight w ≥ 0 of an example's divergence, which is a sum over the
                classes. With the fused head it is τ²/C by default, C the number of
                outputs. Xie et al. write τ², but their code takes the mean over the
                classes, which divides by C. Without the head it is τ² by default; at
                Zhang et al.'s τ = 1 that is their weight.
            stop_gradient: Whether P_t, or P_k, is a constant in the divergence. By
                default as in the papers: False with the fused head, which then also
                learns from its students, and True without it.
            **kwargs: As in `Distiller.compile`. There is no λ: `soft_loss_weight` and
                `scale_soft_loss` have no effect.

        Raises:
            InputError: If a value is out of range, or a `soft_loss` is given.
        """
        if kl_weight is not None and not 0.0 <= kl_weight < float("inf"):
            raise InputError(f"Expected kl_weight from 0 on. Received: {kl_weight}")
        if kwargs.get("soft_loss") is not None:
            raise InputError(
                "Expected no soft_loss: students that teach each other are compared by "
                f"a divergence. Received: {type(kwargs['soft_loss']).__name__}"
            )
        super().compile(optimizer, temperature=temperature, **kwargs)
        self._kl_weight = kl_weight
        is_mutual = self.fused_head is None
        self._stops_gradient = is_mutual if stop_gradient is None else stop_gradient
        own = {"kl_weight": kl_weight, "stop_gradient": stop_gradient}
        self._loss_config = {**self._loss_config, **own}

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Logits of `best_student`, shape `(batch, num_outputs)`.

        Args:
            inputs: Images, or a dictionary with them under `"images"`.
            training: As for any Keras model.
        """
        images = images_of(inputs)
        return tf.switch_case(
            tf.cast(self.chosen_student, tf.int32),
            [_calling(student, images, training) for student in self.students()],
        )

    def best_student(self) -> keras.Model:
        """The best student of the last validation in `fit`; without any, the first."""
        return self.students()[int(self.chosen_student)]

    def compute_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """Losses of one batch, each of shape `(batch,)`; the first student's logits.

        Args:
            batch: One batch; teacher logits are ignored.
        """
        if self.fused_head is None:
            logits = [
                student(batch.images, training=True) for student in self.students()
            ]
            return self._mutual_losses(batch, logits), logits[0]
        outputs = [view(batch.images, training=True) for view in self._views.students]
        logits = [z for z, _ in outputs]
        joint = tf.concat([tf.cast(m, tf.float32) for _, m in outputs], axis=-1)
        teacher_logits = self.fused_head(joint, training=True)
        return self._online_losses(batch, logits, teacher_logits), logits[0]

    def _online_losses(
        self, batch: Batch, logits: Sequence[tf.Tensor], teacher_logits: tf.Tensor
    ) -> Losses:
        target = self._target(teacher_logits)
        divergences = [divergence(target, z, self.temperature) for z in logits]
        losses = self._sum_up(batch, logits, divergences)
        teacher_loss = hard_loss(batch.labels, teacher_logits)
        loss = losses["loss"] + teacher_loss
        return {**losses, "loss": loss, "teacher_loss": teacher_loss}

    def _mutual_losses(self, batch: Batch, logits: Sequence[tf.Tensor]) -> Losses:
        divergences = [
            tf.add_n(
                [
                    divergence(self._target(other), z, self.temperature)
                    for other in logits
                    if other is not z
                ]
            )
            / (len(logits) - 1)
            for z in logits
        ]
        return self._sum_up(batch, logits, divergences)

    def _sum_up(
        self, batch: Batch, logits: Sequence[tf.Tensor], divergences: list[tf.Tensor]
    ) -> Losses:
        num_students, num_outputs = len(logits), logits[0].shape[-1]
        weight: Any = self._kl_weight
        if weight is None:
            share = 1 if self.fused_head is None else num_outputs
            weight = tf.square(self.temperature) / share
        hard = tf.add_n([hard_loss(batch.labels, z) for z in logits])
        soft = weight * tf.add_n(divergences)
        return {
            "loss": hard + soft,
            "hard_loss": hard / num_students,
            "soft_loss": soft / num_students,
        }

    def _target(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(logits) if self._stops_gradient else logits

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, for the chosen student on the task."""
        # Only the validation of `fit` passes this. It chooses; a test must not
        if not kwargs.get("_use_cached_eval_dataset"):
            return super().evaluate(*args, **kwargs)
        results = []
        for index in range(len(self.students())):
            self.chosen_student.assign(float(index))
            results.append(super().evaluate(*args, **kwargs))
        best = max(range(len(results)), key=lambda index: _merit(results[index]))
        self.chosen_student.assign(float(best))
        return results[best]

    def get_config(self) -> dict[str, Any]:
        """The students, the task, and whether there is a fused head."""
        students = [keras.saving.serialize_keras_object(s) for s in self.students()]
        config = {k: v for k, v in super().get_config().items() if k != "student"}
        fused_head = self.fused_head is not None
        return {**config, "students": students, "fused_head": fused_head}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "OnlineDistiller":
        """A new distiller with students of the same architecture, from `get_config`."""
        students = [
            keras.saving.deserialize_keras_object(student, custom_objects)
            for student in config["students"]
        ]
        task = None if config["task"] is None else Task(**config["task"])
        return cls(students, task, config["fused_head"], name=config["name"])


def _calling(
    student: keras.Model, images: tf.Tensor, training: bool | None
) -> Callable[[], tf.Tensor]:
    return lambda: student(images, training=training)


def _merit(results: dict[str, float]) -> tuple[float, float]:
    """Sort key of students: by accuracy, then by loss."""
    return results.get("accuracy", 0.0), -results["loss"]


def _build(parts: Parts) -> OnlineDistiller:
    students = build_students(parts.build_student, parts.num_students)
    return OnlineDistiller(students, parts.task, fused_head=True)


# Students with the same initial weights cannot teach each other
UNUSED_SETTINGS = ("initialize", "soft_loss_weight", "scale_soft_loss")
METHOD = Method(_build, UNUSED_SETTINGS)
