"""Students that learn together, and the head that fuses them to a teacher."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import check_student
from tskd_tf.errors import InputError


def build_students(
    build_student: Callable[[], keras.Model], num_students: int
) -> list[keras.Model]:
    """Students of one architecture, each with random weights of its own.

    Args:
        build_student: Gives a fresh student.
        num_students: m, at least 2.

    Raises:
        InputError: If there are fewer, or all of them start alike.
    """
    if num_students < 2:
        raise InputError(f"Expected at least 2 students. Received: {num_students}")
    first, *others = students = [build_student() for _ in range(num_students)]
    for other in others:
        pairs = zip(first.get_weights(), other.get_weights())
        if all(a.shape == b.shape and (a == b).all() for a, b in pairs):
            raise InputError(
                "Expected students with random weights of their own, as alike ones "
                f"cannot teach each other. Received: {first.name!r} twice with the "
                "same weights; leave out initialize and fixed seeds of initialisers"
            )
    return students


def build_fused_head(
    shape: Sequence[int], num_students: int, num_outputs: int
) -> keras.Model:
    """The online teacher: logits from the students' feature maps.

    Computes in float32. On several devices the batch is normalised as a whole.

    Args:
        shape: `(height, width, channels)` of a student's map.
        num_students: m; maps are side by side in the channels.
        num_outputs: C.

    Returns:
        A model of `(batch, height, width, m · channels)`. With 4 students of 64
        channels and 10 outputs it has 3,082 trainable parameters.
    """
    height, width, num_channels = shape
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    layers = [
        keras.layers.BatchNormalization(synchronized=num_replicas > 1, dtype="float32"),
        keras.layers.ReLU(dtype="float32"),
        keras.layers.GlobalAveragePooling2D(dtype="float32"),
        keras.layers.Dense(num_outputs, dtype="float32"),
    ]
    image = keras.Input((height, width, num_students * num_channels))
    return keras.Sequential([image, *layers], name="fused_head")


def check_students(
    students: Sequence[keras.Model], task: Task | None
) -> list[keras.Model]:
    """Checks that models can learn a task together.

    Returns:
        The models.

    Raises:
        InputError: If there is one only, or they are not of one architecture, or cannot
            be students of the task.
    """
    students = list(students)
    if len(students) < 2:
        raise InputError(
            f"Expected at least 2 students to learn together. Received: {len(students)}"
        )
    for student in students:
        check_student(student, task)
    shapes = [[weight.shape for weight in student.weights] for student in students]
    if any(other != shapes[0] for other in shapes):
        raise InputError(
            "Expected students of one architecture. Received: some with weights of "
            "other shapes"
        )
    return students
