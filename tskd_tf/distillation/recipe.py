"""How a student is trained: what can be chosen, what goes together, what by default."""

import functools
from typing import Any, NamedTuple

import keras

from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.task import Task
from tskd_tf.distillation.device import DISTRIBUTIONS
from tskd_tf.distillation.methods.method import DISTILLATION, method_named
from tskd_tf.distillation.soft_targets import DEFAULT_NUM_VIEWS, TransferSet
from tskd_tf.distillation.solvers import ADAM, SOLVERS
from tskd_tf.errors import InputError
from tskd_tf.networks.importance import channel_importance
from tskd_tf.networks.students import PLAIN, check_convolutions, thin_student
from tskd_tf.networks.width import INITIALIZATIONS, StudentBuilder

CLASS_WEIGHTS = ("none", "balanced")
# What a small network needs to settle, whatever the size of the transfer set
_SETTLING_STEPS = 1500
_FEWEST_EPOCHS = 10


class Recipe(NamedTuple):
    """How a student is trained; the defaults of τ and λ are the paper's.

    Attributes:
        method: One of `choices.METHODS`; what means nothing to it, as its record's
            `unused_settings` says, is left at its default.
        num_students: Of the methods that train several at once, ≥ 2.
        hint_share: Of all steps, the share in which `"hint"` trains on hints only, in
            [0, 1).
        epochs: Passes over the transfer set, ≥ 1; None means as many as make 1,500
            steps, at least 10.
        batch_size: Examples a step.
        learning_rate: At the first step; Adam's falls to 0 by a cosine.
        solver: `"adam"`, or one of Caffe's, see `solvers.CAFFE_SOLVERS`.
        temperature: τ.
        soft_loss_weight: λ.
        scale_soft_loss: Whether the soft loss is multiplied by τ².
        class_weights: `"balanced"` weighs the examples of each class by n / (k·n_c),
            on hard and soft loss alike, so that rare classes count as much as others;
            see `data.balanced_weights`. `"none"` weighs all examples alike.
        precision: Keras dtype policy of the student in training.
        seed: Of initial weights, of the order of examples and of views.
        augmentation: Views that teacher and student see.
        num_views: Views of an image whose soft targets are stored; 0 means that the
            live teacher is run on new ones in every step.
        initialize: Where students of `scale_width` start, see there; from the teacher,
            its channels are ranked by their Taylor importance on D(θ).
        convolutions: What such students have in the place of plain convolutions, one of
            `students.CONVOLUTIONS`.
        groups: Of grouped convolutions, see `replace_convolutions`; 4 by default.
        steps_per_execution: Steps in one call of TensorFlow; None means by device and
            data, see `device.choose_steps_per_execution`.
        jit_compile: XLA: `"auto"` (on a GPU only), True or False.
        distribute: One of `device.DISTRIBUTIONS`.
    """

    method: str = DISTILLATION
    num_students: int = 4
    hint_share: float = 0.2
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 2e-3
    solver: str = ADAM
    temperature: float = 3.0
    soft_loss_weight: float = 0.9
    scale_soft_loss: bool = False
    class_weights: str = "none"
    precision: str = "float32"
    seed: int = 1
    augmentation: Augmentation = Augmentation()
    num_views: int = DEFAULT_NUM_VIEWS
    initialize: str = "random"
    convolutions: str = PLAIN
    groups: int | None = None
    steps_per_execution: int | None = None
    jit_compile: Any = "auto"
    distribute: str = "auto"

    def check(self) -> None:
        """Checks the ranges that no later stage checks.

        Raises:
            InputError: If a value is out of range.
        """
        method_named(self.method)
        for name in ("epochs", "batch_size", "steps_per_execution"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"Expected {name} of at least 1. Received: {value}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise InputError(
                f"Expected learning_rate above 0. Received: {self.learning_rate}"
            )
        if not 0.0 < self.temperature < float("inf"):
            raise InputError(
                f"Expected temperature above 0. Received: {self.temperature}"
            )
        if not 0.0 <= self.soft_loss_weight <= 1.0:
            raise InputError(
                f"Expected soft_loss_weight from 0 to 1. Received: "
                f"{self.soft_loss_weight}"
            )
        if self.solver not in SOLVERS:
            raise InputError(
                f"Expected solver out of {', '.join(SOLVERS)}. Received: {self.solver}"
            )
        if self.class_weights not in CLASS_WEIGHTS:
            raise InputError(
                f"Expected class_weights out of {', '.join(CLASS_WEIGHTS)}. Received: "
                f"{self.class_weights}"
            )
        if self.num_views < 0:
            raise InputError(
                f"Expected num_views from 0 on. Received: {self.num_views}"
            )
        if self.jit_compile not in ("auto", True, False):
            raise InputError(
                'Expected jit_compile "auto", True or False. Received: '
                f"{self.jit_compile!r}"
            )
        if self.initialize not in INITIALIZATIONS:
            raise InputError(
                f"Expected initialize out of {', '.join(INITIALIZATIONS)}. Received: "
                f"{self.initialize!r}"
            )
        check_convolutions(self.convolutions, self.groups)
        if self.distribute not in DISTRIBUTIONS:
            raise InputError(
                f"Expected distribute out of {', '.join(DISTRIBUTIONS)}. Received: "
                f"{self.distribute}"
            )
        self.augmentation.check()
        self._check_other_methods()
        if not 0 <= self.seed < 2**32:
            raise InputError(
                f"Expected seed from 0 to 4294967295. Received: {self.seed}"
            )

    def _check_other_methods(self) -> None:
        if self.num_students < 2:
            raise InputError(
                f"Expected num_students of at least 2. Received: {self.num_students}"
            )
        if not 0.0 <= self.hint_share < 1.0:
            raise InputError(
                f"Expected hint_share from 0 to below 1. Received: {self.hint_share}"
            )
        names = method_named(self.method).unused_settings
        changed = [n for n in names if getattr(self, n) != self._field_defaults[n]]
        if changed:
            raise InputError(
                f"Expected {', '.join(names)} at their defaults with "
                f"method={self.method}, to which they mean nothing. Received another "
                f"{' and '.join(changed)}; leave it out"
            )

    @property
    def uses_live_teacher(self) -> bool:
        """Whether the teacher is run in every step, on views without end."""
        return bool(self.augmentation) and self.num_views == 0

    @property
    def stored_views(self) -> Augmentation:
        """The views whose soft targets are stored; none for a live teacher."""
        return Augmentation() if self.uses_live_teacher else self.augmentation

    def thin_students(
        self, teacher: keras.Model, task: Task, **start: Any
    ) -> StudentBuilder:
        """Builds the thinner students of a teacher that this recipe asks for.

        Args:
            teacher: As in `thin_student`.
            task: θ and the head.
            **start: `initialize` and `importance` of `thin_student`; by default
                students start from random weights.
        """
        return functools.partial(
            thin_student,
            teacher,
            task=task,
            convolutions=self.convolutions,
            groups=self.groups,
            **start,
        )

    def on_hard_labels(self) -> "Recipe":
        """The same training without a teacher: the control."""
        return self._replace(method=DISTILLATION, soft_loss_weight=0.0)

    def num_steps(self, num_examples: int) -> int:
        """Steps an epoch; the last batch may be smaller."""
        return -(-num_examples // self.batch_size)

    def num_epochs(self, num_examples: int) -> int:
        """`epochs`, or where it is None as many as the transfer set's size asks for."""
        if self.epochs is not None:
            return self.epochs
        enough = -(-_SETTLING_STEPS // self.num_steps(num_examples))
        return max(_FEWEST_EPOCHS, enough)


def student_builder(
    teacher: keras.Model, transfer: TransferSet, task: Task, recipe: Recipe
) -> StudentBuilder:
    """Builds the students of a teacher that the recipe asks for."""
    importance = None
    if recipe.initialize == "teacher":
        importance = channel_importance(teacher, task, transfer.images, transfer.labels)
    return recipe.thin_students(
        teacher, task, initialize=recipe.initialize, importance=importance
    )
