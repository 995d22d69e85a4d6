"""Students that learn together, and the head over their feature maps."""

import itertools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import check_student
from tskd_tf.errors import InputError


def build_students(
    build_student: Callable[[], keras.Model], num_students: int
) -> list[keras.Model]:
    """Builds students of one architecture with different random weights.

    Args:
        build_student: Function that builds a new student.
        num_students: m, the number of students, ≥ 2.

    Raises:
        InputError: If `num_students` is below 2, or two students have the same weights.
    """
    if num_students < 2:
        raise InputError(f"Expected at least 2 students. Received: {num_students}")
    students = [build_student() for _ in range(num_students)]
    for first, other in itertools.combinations(students, 2):
        pairs = zip(first.get_weights(), other.get_weights())
        if all(a.shape == b.shape and (a == b).all() for a, b in pairs):
            raise InputError(
                "Expected students with different random weights, as equal students "
                f"cannot teach each other. Received: {first.name!r} twice with the "
                "same weights; leave out initialize and fixed seeds of initialisers"
            )
    return students


def build_fused_head(
    shape: Sequence[int], num_students: int, num_outputs: int
) -> keras.Model:
    """Builds the teacher of online distillation, a head over the students' maps.

    It computes in float32. On several devices, batch statistics cover all replicas.

    Args:
        shape: `(height, width, channels)` of a student's map.
        num_students: m, the number of maps, which are joined along the channels.
        num_outputs: C, the number of logits.

    Returns:
        A model that maps `(batch, height, width, m · channels)` to logits `(batch, C)`.
        With 4 students of 64 channels and 10 outputs it has 3,082 trainable parameters.
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

    Args:
        students: At least two models of one architecture.
        task: The classes of the students, and their head; None for no task.

    Returns:
        The models as a list.

    Raises:
        InputError: If there is only one model, if their architectures differ, or if one
            cannot be a student of the task.
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
