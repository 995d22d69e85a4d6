"""The recipe of a training: its settings, and values that depend on the data."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tskd_tf.choices import (
    ALL_FAMILIES,
    FAMILIES,
    PLAIN,
    THIN,
    check_settings,
    describe_settings,
    setting,
)
from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.task import Task
from tskd_tf.distillation.methods.method import DISTILLATION, method_named
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.distillation.training_settings import TrainingSettings
from tskd_tf.errors import InputError
from tskd_tf.networks.families.family import family_named
from tskd_tf.networks.importance import channel_importance
from tskd_tf.networks.layers.convolution import convolution_named
from tskd_tf.networks.students import check_convolutions, thin_student
from tskd_tf.networks.width import StudentBuilder

# What a small network needs to settle, whatever the size of the transfer set
_SETTLING_STEPS = 1500
_FEWEST_EPOCHS = 10


@dataclasses.dataclass(frozen=True)
class Recipe(TrainingSettings):
    """Settings of a training; the defaults of τ and λ are the paper's."""

    augmentation: Augmentation = setting(
        Augmentation(), "Random changes to the images that teacher and student see."
    )
    jit_compile: Any = setting(
        "auto", "Whether to compile training with XLA. auto: on a GPU only."
    )

    def check(self) -> None:
        """Checks the ranges, and that the method uses each changed setting.

        Raises:
            InputError: If a value is out of range or contradicts another.
        """
        check_settings(self)
        if self.jit_compile not in ("auto", True, False):
            raise InputError(
                'Expected jit_compile "auto", True or False. Received: '
                f"{self.jit_compile!r}"
            )
        check_convolutions(self.convolutions, self.groups)
        self._check_family()
        self.augmentation.check()
        unused = method_named(self.method).unused_settings
        changed = [n for n in unused if getattr(self, n) != getattr(Recipe, n)]
        if changed:
            raise InputError(
                f"Expected {', '.join(unused)} at their defaults with "
                f"method={self.method}, which does not use them. Received another "
                f"{' and '.join(changed)}; leave it out"
            )

    def _check_family(self) -> None:
        if self.family in (THIN, ALL_FAMILIES):
            return
        if self.convolutions != PLAIN or self.initialize == "teacher":
            raise InputError(
                f"Expected plain convolutions and a random start with family="
                f"{self.family}, whose networks are not the teacher's. Received: "
                f"convolutions={self.convolutions}, initialize={self.initialize}"
            )

    def as_json(self) -> dict[str, Any]:
        """Setting by setting, JSON-able."""
        # NumPy's numbers do not go into JSON files
        settings = {
            field.name: value.item() if isinstance(value, np.generic) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }
        return {**settings, "augmentation": self.augmentation._asdict()}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> "Recipe":
        """The recipe from the result of `as_json`."""
        augmentation = Augmentation(**settings["augmentation"])
        return cls(**{**settings, "augmentation": augmentation})

    @property
    def initialization(self) -> str:
        """`"teacher"` or `"random"`: where thinner copies of a teacher start.

        `"auto"` means the teacher, except for other families and convolutions, which
        have no kernels of it, and for methods whose students must differ.
        """
        if self.initialize != "auto":
            return self.initialize
        kind = convolution_named(self.convolutions)
        takes_kernels = kind.replace is None or kind.start_from is not None
        has_shape = self.family == THIN and takes_kernels
        unused = method_named(self.method).unused_settings
        return "teacher" if has_shape and "initialize" not in unused else "random"

    @property
    def families(self) -> tuple[str, ...]:
        """The families of students to choose from, the most promising first.

        Other convolutions and the teacher's weights are for thin students only.
        """
        if self.family != ALL_FAMILIES:
            return (self.family,)
        is_thin = self.convolutions != PLAIN or self.initialize == "teacher"
        return (THIN,) if is_thin else tuple(FAMILIES)

    @property
    def uses_live_teacher(self) -> bool:
        """Whether the teacher runs in every step, on new views each time."""
        return bool(self.augmentation) and self.num_views == 0

    @property
    def stored_views(self) -> Augmentation:
        """The views whose soft targets are stored; none for a live teacher."""
        return Augmentation() if self.uses_live_teacher else self.augmentation

    def students_of(
        self,
        teacher: keras.Model,
        task: Task,
        initialize: str = "random",
        importance: np.ndarray | None = None,
    ) -> StudentBuilder:
        """Builds the students of a teacher that this recipe asks for.

        Args:
            teacher: A Keras classifier that gives logits.
            task: θ and the head.
            initialize: `"random"` or `"teacher"`, for thin students only.
            importance: Of the teacher's channels, see `thin_student`.
        """
        if self.family != THIN:
            return functools.partial(
                family_named(self.family).build, teacher, task=task
            )
        return functools.partial(
            thin_student,
            teacher,
            task=task,
            convolutions=self.convolutions,
            groups=self.groups,
            initialize=initialize,
            importance=importance,
        )

    def on_hard_labels(self) -> "Recipe":
        """This recipe on hard labels only, without a teacher: the control."""
        return dataclasses.replace(self, method=DISTILLATION, soft_loss_weight=0.0)

    def num_steps(self, num_examples: int) -> int:
        """Steps per epoch; the last batch may be smaller."""
        return -(-num_examples // self.batch_size)

    def num_epochs(self, num_examples: int) -> int:
        """`epochs`; if None, enough for 1,500 steps, and at least 10."""
        if self.epochs is not None:
            return self.epochs
        enough = -(-_SETTLING_STEPS // self.num_steps(num_examples))
        return max(_FEWEST_EPOCHS, enough)


Recipe.__doc__ = f"{Recipe.__doc__}\n\n{describe_settings(Recipe)}"


def student_builder(
    teacher: keras.Model, transfer: TransferSet, task: Task, recipe: Recipe
) -> StudentBuilder:
    """Builds the students of a teacher that the recipe asks for."""
    importance = None
    if recipe.initialization == "teacher":
        importance = channel_importance(teacher, task, transfer.images, transfer.labels)
    return recipe.students_of(teacher, task, recipe.initialization, importance)
