"""What a search is asked for, whatever teacher and data it is given."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tskd_tf.choices import Budgets
from tskd_tf.data.images import MEMORY_LIMIT_MB
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training_settings import check_own_students
from tskd_tf.errors import InputError
from tskd_tf.networks.width import StudentBuilder, check_rate
from tskd_tf.search.budgets import allowed_loss
from tskd_tf.search.plan import DEFAULT_MAX_EXECUTIONS, SMALLEST, SearchPlan


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """The arguments of `find_smallest_student`, which says what they mean.

    Attributes:
        max_accuracy_loss: Tacc_loss of Eq. 4, a fraction in [0, 1), or None.
        rates: Width rates to choose from, each in (0, 1], or None for 0.05, 0.10, … 1.
        recipe: How each student is trained.
        confidence: Of the interval for the loss, in (0, 1).
        directory: Where trials are kept, or None for a temporary folder.
        log_dir: For TensorBoard, or None.
        verbose: `"auto"`, or as in `keras.Model.fit`.
        memory_limit_mb: Megabytes of images of each data set that memory may hold.
        build_student: The user's own students, or None for thinner teachers.
        budgets: What the student may cost.
        oracle: One of `plan.ORACLES`.
        max_executions: Trainings of a width that is close to the floor, at least 1.
        num_workers: Processes that train at the same time, at least 1.
    """

    max_accuracy_loss: float | None = None
    rates: Sequence[float] | None = None
    recipe: Recipe = Recipe()
    confidence: float = 0.95
    directory: str | None = None
    log_dir: str | None = None
    verbose: Any = "auto"
    memory_limit_mb: float = MEMORY_LIMIT_MB
    build_student: StudentBuilder | None = None
    budgets: Budgets = Budgets()
    oracle: str = SMALLEST
    max_executions: int = DEFAULT_MAX_EXECUTIONS
    num_workers: int = 1

    def check(self) -> None:
        """Checks what can be wrong without a teacher and data.

        Raises:
            InputError: If a setting is out of range or contradicts another.
        """
        loss, confidence = self.max_accuracy_loss, self.confidence
        if loss is not None and not 0.0 <= loss < 1.0:
            raise InputError(
                "Expected max_accuracy_loss from 0 to below 1 (0.002 is 0.2 points). "
                f"Received: {loss}"
            )
        if not 0.0 < confidence < 1.0:
            raise InputError(
                f"Expected confidence between 0 and 1. Received: {confidence}"
            )
        self.budgets.check()
        self.plan([], 0.0).check()
        self.recipe.check()
        for rate in () if self.rates is None else self.rates:
            check_rate(rate)
        if self.build_student is not None:
            check_own_students(self.recipe)

    @property
    def allowed_loss(self) -> float:
        """Tacc_loss of Eq. 4, in [0, 1]; see `budgets.allowed_loss`."""
        return allowed_loss(self.max_accuracy_loss, self.budgets)

    def plan(self, candidates: list[float], floor: float) -> SearchPlan:
        """The plan over these candidates, each in (0, 1], and this accuracy floor."""
        return SearchPlan(
            candidates, floor, self.oracle, self.max_executions, self.num_workers
        )

    def with_plain_recipe(self) -> "SearchSettings":
        """The same, with a recipe of plain numbers and a precision of its own name."""
        recipe = Recipe.from_json(self.recipe.as_json())
        precision = choose_precision(recipe.precision)
        recipe = dataclasses.replace(recipe, precision=precision)
        return dataclasses.replace(self, recipe=recipe)
