"""The record of a method of distillation, one per method."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from tskd_tf.choices import METHODS, check_choice
from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller

if TYPE_CHECKING:
    from tskd_tf.distillation.recipe import Recipe

DISTILLATION = "distillation"


class Parts(NamedTuple):
    """The parts that a distiller is built from.

    Attributes:
        build_student: Function that builds a new student with the task's outputs.
        teacher: The live teacher; None if the batches carry its logits and the method
            does not need the teacher itself.
        task: θ.
        num_students: Number of students of a method that trains several, ≥ 2.
    """

    build_student: Callable[[], keras.Model]
    teacher: keras.Model | None
    task: Task
    num_students: int = 4


class Compilation(NamedTuple):
    """Inputs of a method's `compile_arguments`.

    Attributes:
        recipe: How the student is trained.
        build_optimizer: Function that builds a new optimiser for a factor of the
            recipe's learning rate.
        num_steps: Number of steps of the whole training.
    """

    recipe: "Recipe"
    build_optimizer: Callable[[float], keras.optimizers.Optimizer]
    num_steps: int


def equation_8_arguments(compilation: Compilation) -> dict[str, Any]:
    """Arguments of `Distiller.compile`: an optimiser and the settings of Eq. 8."""
    recipe = compilation.recipe
    return {
        "optimizer": compilation.build_optimizer(1.0),
        "temperature": recipe.temperature,
        "soft_loss_weight": recipe.soft_loss_weight,
        "scale_soft_loss": recipe.scale_soft_loss,
    }


class Method(NamedTuple):
    """The record of a method.

    Attributes:
        build: Function that builds the distiller, not compiled yet.
        unused_settings: Fields of a `Recipe` that have no meaning for the method.
        needs_live_teacher: Whether it needs the teacher besides its stored logits.
        compile_arguments: Function that gives the arguments of the distiller's
            `compile` for its losses and optimisers.
    """

    build: Callable[[Parts], Distiller]
    unused_settings: tuple[str, ...] = ()
    needs_live_teacher: bool = False
    compile_arguments: Callable[[Compilation], dict[str, Any]] = equation_8_arguments


def method_named(name: str) -> Method:
    """Finds the record of a method.

    Args:
        name: One of `choices.METHODS`.

    Raises:
        InputError: If there is no such method.
    """
    check_choice("method", name, METHODS)
    method: Method = METHODS[name].load()
    return method
