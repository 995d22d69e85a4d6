"""Methods of distillation, by name: which `Distiller` trains a student."""

from collections.abc import Callable
from typing import Any

import keras

from tskd_tf.distiller import Distiller
from tskd_tf.errors import InputError
from tskd_tf.hints import HintDistiller
from tskd_tf.online import OnlineDistiller
from tskd_tf.peers import build_students
from tskd_tf.pre_regression import PreRegressionDistiller
from tskd_tf.task import Task

DISTILLATION = "distillation"
HINT = "hint"
PRE_REGRESSION = "pre_regression"
ONLINE = "online"
MUTUAL = "mutual"
METHODS = (DISTILLATION, HINT, PRE_REGRESSION, ONLINE, MUTUAL)


def check_method(method: str) -> None:
    """Checks a method's name.

    Raises:
        InputError: If there is no such method.
    """
    if method not in METHODS:
        raise InputError(
            f"Expected method out of {', '.join(METHODS)}. Received: {method}"
        )


def trains_several(method: str) -> bool:
    """Whether a method trains several students, of which one is kept."""
    return method in (ONLINE, MUTUAL)


def needs_live_teacher(method: str) -> bool:
    """Whether a method needs the teacher beside its stored logits."""
    return method in (HINT, PRE_REGRESSION)


def build_distiller(
    method: str,
    build_student: Callable[[], keras.Model],
    teacher: keras.Model | None,
    task: Task,
    num_students: int = 4,
) -> Distiller:
    """The distiller of a method, not compiled yet.

    Args:
        method: One of `METHODS`.
        build_student: Gives a fresh student with the task's outputs.
        teacher: The live teacher; None where the batches carry its logits and the
            method needs nothing else of it.
        task: θ.
        num_students: Of the methods that train several, see `trains_several`.

    Raises:
        InputError: If student, teacher and method do not fit each other.
    """
    if trains_several(method):
        students = build_students(build_student, num_students)
        return OnlineDistiller(students, task, fused_head=method == ONLINE)
    if method == HINT:
        return HintDistiller(build_student(), teacher, task)
    if method == PRE_REGRESSION:
        return PreRegressionDistiller(build_student(), teacher, task)
    return Distiller(build_student(), teacher, task=task)


def hint_arguments(method: str, num_steps: int, hint_share: float) -> dict[str, Any]:
    """What the `compile` of a method with hints takes, and no other.

    Args:
        method: One of `METHODS`.
        num_steps: Of the whole training.
        hint_share: Of these, the share with hints, in [0, 1].
    """
    return {"hint_steps": round(hint_share * num_steps)} if method == HINT else {}
