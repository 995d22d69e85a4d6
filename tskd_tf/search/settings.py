"""The settings of a search, apart from teacher and data."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tskd_tf.choices import (
    AUTO,
    FAMILIES,
    JUDGES,
    MACS,
    OBJECTIVES,
    THIN,
    Budgets,
    check_choice,
)
from tskd_tf.data.images import MEMORY_LIMIT_MB
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training_settings import check_own_students
from tskd_tf.errors import InputError
from tskd_tf.networks.width import StudentBuilder, check_rate
from tskd_tf.search.budgets import ANY_LOSS, allowed_loss
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.plan import DEFAULT_MAX_EXECUTIONS, SMALLEST, SearchPlan


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """Settings of a search; `find_smallest_student` explains them.

    Attributes:
        max_accuracy_loss: Tacc_loss of Eq. 4, a fraction in [0, 1), or None.
        rates: Width rates to choose from, or None for those of each family.
        recipe: How each student is trained.
        confidence: Confidence level of the interval for the loss, in (0, 1).
        directory: Folder for the trials, or None for a temporary folder.
        log_dir: Folder for TensorBoard's curves, or None.
        verbose: `"auto"`, or as in `keras.Model.fit`.
        memory_limit_mb: Megabytes of images of each data set to hold in memory.
        build_student: The user's function of the rate, or None.
        budgets: Upper limits of the student's costs.
        oracle: One of `choices.ORACLES`.
        max_executions: Number of trainings of a width close to the floor, ≥ 1.
        num_workers: Number of processes that train in parallel, ≥ 1.
        minimize: What the smallest student has least of, in `choices.OBJECTIVES`.
        judge_by: What decides on a candidate, in `choices.JUDGES`.
        families: Families to choose from, the most promising first, or None for those
            of the recipe.
        refine: Whether to remove channels of the chosen student.
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
    families: Sequence[str] | None = None
    minimize: str = MACS
    judge_by: str = "float"
    refine: bool = False

    def check(self) -> None:
        """Checks the settings, without teacher and data.

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
        if self.refine and self.allowed_loss >= ANY_LOSS:
            raise InputError(
                "Expected max_accuracy_loss with refine. Received: budgets only, which "
                "allow any loss, so that nothing says when to stop"
            )
        self.budgets.check()
        self.plan([], 0.0).check()
        self.recipe.check()
        check_choice("minimize", self.minimize, OBJECTIVES)
        check_choice("judge_by", self.judge_by, JUDGES)
        self._check_families()
        for rate in () if self.rates is None else self.rates:
            check_rate(rate)
        if self.build_student is not None:
            check_own_students(self.recipe)

    @property
    def allowed_loss(self) -> float:
        """Tacc_loss of Eq. 4, in [0, 1]; see `budgets.allowed_loss`."""
        return allowed_loss(self.max_accuracy_loss, self.budgets)

    def families_of_search(self) -> tuple[str, ...]:
        """Names of the families to choose from, the most promising first.

        Rates are those of thin students where several families could have them.
        """
        if self.families is not None:
            return tuple(self.families)
        if self.recipe.family == AUTO and self.rates is not None:
            return (THIN,)
        return self.recipe.families

    def plan(
        self,
        candidates: Sequence[Candidate],
        floor: float,
        chains: Sequence[Sequence[int]] = (),
    ) -> SearchPlan:
        """The plan over these candidates and this accuracy floor.

        Args:
            candidates: In ascending order of multiply-adds.
            floor: Smallest feasible accuracy on the validation data.
            chains: Positions of each family's candidates. Default: one family.
        """
        return SearchPlan(
            candidates,
            floor,
            self.oracle,
            self.max_executions,
            self.num_workers,
            chains,
            self.allowed_loss >= ANY_LOSS,
            self.judge_by,
        )

    def _check_families(self) -> None:
        if self.families is None:
            return
        if not self.families or self.build_student is not None:
            raise InputError(
                "Expected at least one family of the teacher's students, and no "
                f"students of your own. Received: families={self.families!r}, "
                f"build_student={self.build_student!r}"
            )
        for name in self.families:
            check_choice("family", name, FAMILIES)
            dataclasses.replace(self.recipe, family=name).check()
        if self.rates is not None and len(self.families) > 1:
            raise InputError(
                "Expected rates with one family only, because other families have "
                f"other rates. Received: families={self.families!r}, "
                f"rates={self.rates!r}"
            )

    def with_plain_recipe(self) -> "SearchSettings":
        """A copy whose recipe has Python numbers and a precision other than `auto`."""
        recipe = Recipe.from_json(self.recipe.as_json())
        precision = choose_precision(recipe.precision)
        recipe = dataclasses.replace(recipe, precision=precision)
        return dataclasses.replace(self, recipe=recipe)
