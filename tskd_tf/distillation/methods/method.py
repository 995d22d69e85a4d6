"""What the package knows of a method of distillation: one record a method."""

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
    """What a distiller is built of.

    Attributes:
        build_student: Gives a fresh student with the task's outputs.
        teacher: The live teacher; None where the batches carry its logits and the
            method needs nothing else of it.
        task: θ.
        num_students: Of the methods that train several, at least 2.
    """

    build_student: Callable[[], keras.Model]
    teacher: keras.Model | None
    task: Task
    num_students: int = 4


class Compilation(NamedTuple):
    """What a distiller's `compile` is given.

    Attributes:
        recipe: How the student is trained.
        build_optimizer: Gives a fresh optimiser, for a factor of the learning rate.
        num_steps: Of the whole training.
    """

    recipe: "Recipe"
    build_optimizer: Callable[[float], keras.optimizers.Optimizer]
    num_steps: int


def equation_8_arguments(compilation: Compilation) -> dict[str, Any]:
    """Arguments of `Distiller.compile` that are about the losses of Eq. 8."""
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
        build: Gives its distiller, not compiled yet.
        unused_settings: Fields of a `Recipe` that mean nothing to it.
        needs_live_teacher: Whether it needs the teacher beside its stored logits.
        compile_arguments: What `compile` of its distiller takes for its losses and
            optimisers.
    """

    build: Callable[[Parts], Distiller]
    unused_settings: tuple[str, ...] = ()
    needs_live_teacher: bool = False
    compile_arguments: Callable[[Compilation], dict[str, Any]] = equation_8_arguments


def method_named(name: str) -> Method:
    """The record of a method.

    Args:
        name: One of `choices.METHODS`.

    Raises:
        InputError: If there is no such method.
    """
    check_choice("method", name, METHODS)
    method: Method = METHODS[name].load()
    return method
