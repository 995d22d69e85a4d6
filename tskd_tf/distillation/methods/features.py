"""The base class of methods that compare feature maps of teacher and student."""

import types
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.stages import with_stages
from tskd_tf.errors import InputError


class FeatureDistiller(Distiller):
    """Base class of distillers that use the feature maps at the ends of stages.

    Teacher logits that the batches carry are used. The teacher's maps are not stored:
    in training, the live teacher is run up to the last stage in use.

    Args:
        student: Gives logits for the task's outputs. It has as many stages as the
            teacher (see `stages`) and is trained in place.
        teacher: Gives logits for all classes of the data set. Training needs it, also
            with stored logits.
        task: Which teacher outputs the student learns; by default all of them.
        stages: Indices of the compared stages, from 0 on; by default `default_stages`.
        teacher_maps: Shapes `(height, width, channels)` of the teacher's maps at these
            stages. They replace the teacher when a distiller is loaded from a file.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: As in `Distiller`. Also if a network lacks a stage, if teacher and
            student differ in the number of stages, or if neither teacher nor
            `teacher_maps` is given.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        task: Task | None = None,
        stages: Sequence[int] | None = None,
        teacher_maps: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        if teacher is None and teacher_maps is None:
            raise InputError(
                f"Expected a live teacher, as {type(self).__name__} compares feature "
                "maps, which are not stored with its logits. Received: none"
            )
        super().__init__(student, None, task, **kwargs)
        view = with_stages(student, "the student")
        num_stages = len(view.outputs) - 1
        chosen = self.default_stages(num_stages) if stages is None else stages
        self.stages = tuple(chosen)
        if not self.stages or not all(0 <= i < num_stages for i in self.stages):
            raise InputError(
                f"Expected stages from 0 to {num_stages - 1}, as {student.name!r} has "
                f"{num_stages}. Received: stages={list(self.stages)}"
            )
        self._num_stages = num_stages
        outputs = [view.outputs[0], *(view.outputs[i + 1] for i in self.stages)]
        # Keras would count the layers of a model in an attribute once more
        self._views = types.SimpleNamespace(student=keras.Model(view.input, outputs))
        self.student_maps = tuple(map_shape(tensor) for tensor in outputs[1:])
        self.teacher_maps = tuple(tuple(shape) for shape in teacher_maps or ())
        self.set_teacher(teacher)

    @staticmethod
    def default_stages(num_stages: int) -> Sequence[int]:
        """The stages to compare by default: all."""
        return range(num_stages)

    def set_teacher(self, teacher: keras.Model | None) -> None:
        """Sets or removes the live teacher.

        Args:
            teacher: Gives logits for all classes of the data set; None removes it.

        Raises:
            InputError: If it does not fit the student or the task, or its maps differ
                in shape from those of the previous teacher.
        """
        super().set_teacher(teacher)
        if teacher is None:
            return
        view = with_stages(teacher, "the teacher")
        if (num_stages := len(view.outputs) - 1) != self._num_stages:
            raise InputError(
                "Expected teacher and student with equally many stages, which poolings "
                f"divide. Received: {num_stages} and {self._num_stages}; choose "
                "another method, or a student with as many stages as the teacher"
            )
        outputs = [view.outputs[i + 1] for i in self.stages]
        maps = tuple(map_shape(tensor) for tensor in outputs)
        if self.teacher_maps and maps != self.teacher_maps:
            raise InputError(
                f"Expected a teacher with maps of shapes {self.teacher_maps}, like the "
                f"previous one. Received: {teacher.name!r} with {maps}"
            )
        self.teacher_maps = maps
        self._borrowed.view = keras.Model(view.input, outputs)

    def maps_of_teacher(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The teacher's maps at `stages`, in float32 and without a gradient.

        Args:
            images: Shape `(batch, height, width, channels)`.

        Raises:
            InputError: If there is no teacher.
        """
        if self._borrowed.teacher is None:
            raise InputError(
                f"Expected a live teacher, as {type(self).__name__} compares feature "
                "maps, which are not stored with its logits. Received: none; a "
                "distiller from a file has no teacher until set_teacher(teacher)"
            )
        maps = keras.tree.flatten(self._borrowed.view(images, training=False))
        return [tf.stop_gradient(tf.cast(values, tf.float32)) for values in maps]

    def run_student(self, images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Runs the student in training mode.

        Args:
            images: Shape `(batch, height, width, channels)`.

        Returns:
            Its logits, and its maps at `stages` in float32.
        """
        logits, *maps = self._views.student(images, training=True)
        return logits, [tf.cast(values, tf.float32) for values in maps]

    def get_config(self) -> dict[str, Any]:
        """The student, the task, the stages and the shapes of the teacher's maps."""
        return {
            **super().get_config(),
            "stages": list(self.stages),
            "teacher_maps": [list(shape) for shape in self.teacher_maps],
        }


def map_shape(tensor: keras.KerasTensor) -> tuple[int, int, int]:
    """`(height, width, channels)` of a feature map."""
    _, height, width, channels = tensor.shape
    return height, width, channels
