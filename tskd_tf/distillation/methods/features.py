"""What methods that compare feature maps of teacher and student have in common."""

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
    """A distiller with the feature maps of both networks at the ends of their stages.

    Stored logits are used where the batches have them; the maps are the live teacher's,
    which is run up to the last stage in use. For subclasses.

    Args:
        student: As in `Distiller`; with as many stages as the teacher, see `stages`.
        teacher: As in `Distiller`; needed in training, stored logits or not.
        task: As in `Distiller`.
        stages: Which stages are compared, from 0 on; by default `default_stages`.
        teacher_maps: Without a teacher, as in a distiller that is being loaded, the
            shapes `(height, width, channels)` of its maps at these stages.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: As in `Distiller`; if a network has no such stages, teacher and
            student have not as many, or neither teacher nor `teacher_maps` is given.
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
        # Keras would count a model in an attribute as further layers
        self._views = types.SimpleNamespace(student=keras.Model(view.input, outputs))
        self.student_maps = tuple(map_shape(tensor) for tensor in outputs[1:])
        self.teacher_maps = tuple(tuple(shape) for shape in teacher_maps or ())
        self.set_teacher(teacher)

    @staticmethod
    def default_stages(num_stages: int) -> Sequence[int]:
        """The stages that are compared if none are named: all."""
        return range(num_stages)

    def set_teacher(self, teacher: keras.Model | None) -> None:
        """Sets the live teacher, or none.

        Args:
            teacher: Gives logits for all classes of the data set.

        Raises:
            InputError: If it does not fit the student, the task, or the maps of the
                teacher before.
        """
        super().set_teacher(teacher)
        if teacher is None:
            return
        view = with_stages(teacher, "the teacher")
        if (num_stages := len(view.outputs) - 1) != self._num_stages:
            raise InputError(
                "Expected teacher and student with as many stages each, where poolings "
                f"divide them. Received: {num_stages} and {self._num_stages}; choose "
                "another method, or a student with as many"
            )
        outputs = [view.outputs[i + 1] for i in self.stages]
        maps = tuple(map_shape(tensor) for tensor in outputs)
        if self.teacher_maps and maps != self.teacher_maps:
            raise InputError(
                f"Expected a teacher with maps of shapes {self.teacher_maps}, as that "
                f"before. Received: {teacher.name!r} with {maps}"
            )
        self.teacher_maps = maps
        self._borrowed.view = keras.Model(view.input, outputs)

    def maps_of_teacher(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The teacher's maps at `stages`, in float32; no gradient flows into them.

        Raises:
            InputError: If there is no teacher.
        """
        if self._borrowed.teacher is None:
            raise InputError(
                f"Expected a live teacher, as {type(self).__name__} compares feature "
                "maps, which are not stored with its logits. Received: none; one that "
                "is loaded from a file has no teacher until set_teacher(teacher)"
            )
        maps = keras.tree.flatten(self._borrowed.view(images, training=False))
        return [tf.stop_gradient(tf.cast(values, tf.float32)) for values in maps]

    def run_student(self, images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The student's logits, and its maps at `stages` in float32, in training."""
        logits, *maps = self._views.student(images, training=True)
        return logits, [tf.cast(values, tf.float32) for values in maps]

    def get_config(self) -> dict[str, Any]:
        """As in `Distiller`, with what is known of the teacher's maps."""
        return {
            **super().get_config(),
            "stages": list(self.stages),
            "teacher_maps": [list(shape) for shape in self.teacher_maps],
        }


def map_shape(tensor: keras.KerasTensor) -> tuple[int, int, int]:
    """`(height, width, channels)` of a feature map."""
    _, height, width, channels = tensor.shape
    return height, width, channels
