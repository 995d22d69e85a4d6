"""Methods of distillation, by name: which `Distiller` trains a student, and how."""

from collections.abc import Callable
from typing import Any

import keras

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.adversarial import AdversarialDistiller
from tskd_tf.distillation.methods.hint import HintDistiller
from tskd_tf.distillation.methods.online import OnlineDistiller
from tskd_tf.distillation.methods.peers import build_students
from tskd_tf.distillation.methods.pre_regression import PreRegressionDistiller
from tskd_tf.distillation.solvers import ADAM
from tskd_tf.errors import InputError

DISTILLATION = "distillation"
HINT = "hint"
PRE_REGRESSION = "pre_regression"
ONLINE = "online"
MUTUAL = "mutual"
ADVERSARIAL = "adversarial"
METHODS = (DISTILLATION, HINT, PRE_REGRESSION, ONLINE, MUTUAL, ADVERSARIAL)


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


def unused_settings(method: str) -> tuple[str, ...]:
    """Fields of a `Recipe` that mean nothing to a method."""
    if method == ADVERSARIAL:
        return ("temperature", "soft_loss_weight", "scale_soft_loss")
    if trains_several(method):
        # Students that start alike cannot teach each other
        return ("initialize", "soft_loss_weight", "scale_soft_loss")
    return ()


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
    if method == ADVERSARIAL:
        return AdversarialDistiller(build_student(), teacher, task)
    if method == HINT:
        return HintDistiller(build_student(), teacher, task)
    if method == PRE_REGRESSION:
        return PreRegressionDistiller(build_student(), teacher, task)
    return Distiller(build_student(), teacher, task=task)


def compile_arguments(
    method: str,
    build_optimizer: Callable[[float], keras.optimizers.Optimizer],
    solver: str,
    of_equation_8: dict[str, Any],
    hint_steps: int,
) -> dict[str, Any]:
    """What `compile` of a method's distiller takes that others may not.

    Args:
        method: One of `METHODS`.
        build_optimizer: Gives a fresh optimiser, for a factor of the learning rate.
        solver: One of `solvers.SOLVERS`.
        of_equation_8: `temperature`, `soft_loss_weight` and `scale_soft_loss`.
        hint_steps: Of the training, the first ones with hints only.
    """
    if method == ADVERSARIAL:
        # A hundredth with SGD, as in the paper. Adam's steps are as long as its rate
        # whatever the gradient: a hundredth of them leaves the discriminator as it was
        factor = 1.0 if solver == ADAM else 0.01
        return {
            "optimizer": build_optimizer(1.0),
            "discriminator_optimizer": build_optimizer(factor),
        }
    of_hint = {"hint_steps": hint_steps} if method == HINT else {}
    return {"optimizer": build_optimizer(1.0), **of_equation_8, **of_hint}
