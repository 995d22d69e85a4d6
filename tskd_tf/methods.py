"""Methods of distillation, by name: which `Distiller` trains a student, and how."""

from collections.abc import Callable
from typing import Any

import keras

from tskd_tf.adversarial import AdversarialDistiller
from tskd_tf.distiller import Distiller
from tskd_tf.errors import InputError
from tskd_tf.solvers import ADAM
from tskd_tf.task import Task

DISTILLATION, ADVERSARIAL = "distillation", "adversarial"
METHODS = (DISTILLATION, ADVERSARIAL)


def check_method(method: str) -> None:
    """Checks a method's name.

    Raises:
        InputError: If there is no such method.
    """
    if method not in METHODS:
        raise InputError(
            f"Expected method out of {', '.join(METHODS)}. Received: {method}"
        )


def has_temperature(method: str) -> bool:
    """Whether τ, λ and the factor τ² mean something to a method."""
    return method != ADVERSARIAL


def build_distiller(
    method: str,
    build_student: Callable[[], keras.Model],
    teacher: keras.Model | None,
    task: Task,
) -> Distiller:
    """The distiller of a method, not compiled yet.

    Args:
        method: One of `METHODS`.
        build_student: Gives a fresh student with the task's outputs.
        teacher: The live teacher; None where the batches carry its logits and the
            method needs nothing else of it.
        task: θ.
    """
    if method == ADVERSARIAL:
        return AdversarialDistiller(build_student(), teacher, task)
    return Distiller(build_student(), teacher, task=task)


def compile_arguments(
    method: str,
    build_optimizer: Callable[[float], keras.optimizers.Optimizer],
    solver: str,
    of_equation_8: dict[str, Any],
) -> dict[str, Any]:
    """What `compile` of a method's distiller takes that others may not.

    Args:
        method: One of `METHODS`.
        build_optimizer: Gives a fresh optimiser, for a factor of the learning rate.
        solver: One of `solvers.SOLVERS`.
        of_equation_8: `temperature`, `soft_loss_weight` and `scale_soft_loss`.
    """
    if method == ADVERSARIAL:
        # A hundredth with SGD, as in the paper. Adam's steps are as long as its rate
        # whatever the gradient: a hundredth of them leaves the discriminator as it was
        factor = 1.0 if solver == ADAM else 0.01
        return {
            "optimizer": build_optimizer(1.0),
            "discriminator_optimizer": build_optimizer(factor),
        }
    return {"optimizer": build_optimizer(1.0), **of_equation_8}
