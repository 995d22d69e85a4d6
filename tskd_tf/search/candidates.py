"""The candidates of a search: rates whose students can be built and are distinct."""

import dataclasses
import logging
import math
import pathlib
import tempfile
from collections.abc import Sequence

import keras

from tskd_tf.choices import AUTO, PLAIN, THIN
from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import check_student
from tskd_tf.distillation.methods.method import Parts, method_named
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.family import family_named
from tskd_tf.networks.layers.convolution import convolution_named
from tskd_tf.networks.rebuild import load_kept_model, with_policy
from tskd_tf.networks.width import StudentBuilder, distinct_rates, spaced_rates
from tskd_tf.search.candidate import OWN, Candidate

_logger = logging.getLogger(__name__)


class BuiltOnce:
    """A user's untrained students: each is built at most once, until `forget`.

    Args:
        build_student: The user's function of the rate.
    """

    def __init__(self, build_student: StudentBuilder) -> None:
        self._build_student = build_student
        self._built: dict[float, keras.Model] = {}

    def __call__(self, rate: float) -> keras.Model:
        """Returns the student of a rate in (0, 1]; the same model each time."""
        if rate not in self._built:
            self._built[rate] = self._build_student(rate)
        return self._built[rate]

    def fresh_copy(self, rate: float) -> keras.Model:
        """A new model of the same network, made without the user's function.

        Methods that train several students check that all are different models.
        """
        return keras.models.clone_model(self(rate))

    def forget(self) -> None:
        """Frees the models."""
        self._built.clear()


def buildable_chains(
    teacher: keras.Model,
    task: Task,
    rates: Sequence[float] | None,
    recipe: Recipe,
    families: Sequence[str],
    built: BuiltOnce | None = None,
) -> list[dict[Candidate, int]]:
    """The candidates of each family that has students of a teacher.

    Args:
        teacher: Its students are built if there is no builder.
        task: θ and the head.
        rates: Rates above 0. None: the rates of each family.
        recipe: How students are trained.
        families: Names in `choices.FAMILIES`, the most promising first.
        built: The user's students, which are the only ones then. Default: None.

    Returns:
        One dictionary per family: multiply-adds by candidate, both ascending. The
        multiply-adds are 0 where they were not counted.

    Raises:
        InputError: If no family has students of this teacher that fit the recipe.
    """
    if built is not None:
        own = buildable_rates(teacher, task, rates, recipe, built)
        check_method_fits(teacher, task, min(own), recipe, built.fresh_copy)
        return [{Candidate(OWN, rate): own[rate] for rate in own}]
    chains: list[dict[Candidate, int]] = []
    refusals: dict[str, InputError] = {}
    for family in families:
        of_family = dataclasses.replace(recipe, family=family)
        try:
            found = buildable_rates(teacher, task, rates, of_family)
            check_method_fits(teacher, task, min(found), of_family)
        except InputError as error:
            refusals[family] = error
        else:
            chains.append({Candidate(family, rate): found[rate] for rate in found})
    if not chains:
        raise refusals[families[-1]]
    for family, refusal in refusals.items():
        _logger.info("No %s students: %s", family, refusal)
    return chains


def buildable_rates(
    teacher: keras.Model,
    task: Task,
    rates: Sequence[float] | None,
    recipe: Recipe,
    build_student: StudentBuilder | None = None,
) -> dict[float, int]:
    """The rates whose students can be built and are distinct.

    A wider student may cost no more than a thinner one, e.g. if groups do not divide
    the thinner width. Then only the wider one is a candidate.

    Args:
        teacher: Its students are built if there is no builder.
        task: θ and the head.
        rates: Rates in (0, 1]. None: the rates of the recipe's family; 0.05, 0.10, …
            1.0 for other convolutions and the user's students.
        recipe: Names the family and the convolutions of the students; they are thin
            without a choice of family.
        build_student: The user's function of the rate; all its students are built here.
            Default: None, students of the recipe's family.

    Returns:
        Multiply-adds by rate, both ascending; of rates that give the same student, the
        largest. The multiply-adds are 0 where they were not counted.

    Raises:
        InputError: If there is no rate, if a student cannot be built, if the builder's
            students do not fit the task, or if they are not smaller at smaller rates.
    """
    if rates is not None and len(rates) == 0:
        raise InputError("Expected at least one rate. Received: none")
    if build_student is not None:
        own = _distinct_rates(teacher, task, _wanted(rates), build_student)
        return dict.fromkeys(own, 0)
    build = recipe.students_of(teacher, task)
    if rates is None and recipe.convolutions == PLAIN:
        family = THIN if recipe.family == AUTO else recipe.family
        distinct = family_named(family).rates(teacher, task)
    elif recipe.family in (AUTO, THIN):
        distinct = dict.fromkeys(distinct_rates(teacher, _wanted(rates)), 0)
        if convolution_named(recipe.convolutions).default_groups is not None:
            distinct = _rising_rates(list(distinct), build)
    else:
        distinct = _rising_rates(_wanted(rates), build)
    for rate in (max(distinct), min(distinct)):
        student = build(rate)
        complexity(student)
    _check_can_be_kept(student)
    return distinct


def _wanted(rates: Sequence[float] | None) -> list[float]:
    """The rates to choose from, ascending; without a choice in steps of 0.05."""
    return sorted({float(r) for r in (spaced_rates(0.05) if rates is None else rates)})


def _rising_rates(rates: list[float], build: StudentBuilder) -> dict[float, int]:
    """The rates whose students cost less than all wider ones, and their costs."""
    rising: dict[float, int] = {}
    least = math.inf
    for rate in reversed(rates):
        num_macs = complexity(build(rate)).num_macs
        if num_macs < least:
            rising[rate] = least = num_macs
    return dict(reversed(rising.items()))


def check_method_fits(
    teacher: keras.Model,
    task: Task,
    rate: float,
    recipe: Recipe,
    build_student: StudentBuilder | None = None,
) -> None:
    """Checks that a recipe's method can train a student, before any training.

    Args:
        teacher: Its students are built if there is no builder.
        task: θ and the head.
        rate: Rate of the student that is built for the check, in (0, 1].
        recipe: How students are trained.
        build_student: The user's function of the rate. Default: None, students of the
            recipe's family.

    Raises:
        InputError: If teacher, student and method do not fit each other.
    """
    build = build_student or recipe.students_of(teacher, task)
    parts = Parts(lambda: build(rate), teacher, task, recipe.num_students)
    method_named(recipe.method).build(parts)


def _distinct_rates(
    teacher: keras.Model,
    task: Task,
    rates: list[float],
    build_student: StudentBuilder,
) -> list[float]:
    """Builds the user's students; returns the rates whose costs differ."""
    costs: dict[float, tuple[int, int]] = {}
    for rate in rates:
        try:
            student = build_student(rate)
        except Exception as error:  # the user's code may raise anything
            raise InputError(
                f"Expected build_student({rate:g}) to give a student. Received: "
                f"{type(error).__name__}: {in_one_line(error)}"
            ) from error
        check_student(student, task)
        expected, got = teacher.inputs[0].shape[1:], student.inputs[0].shape[1:]
        if expected != got:
            raise InputError(
                f"Expected build_student({rate:g}) to give a student for the teacher's "
                f"images, {tuple(expected)}. Received: one for {tuple(got)}"
            )
        cost = complexity(student)
        costs[rate] = (cost.num_macs, cost.num_params)
        if rate == rates[0]:
            _check_can_be_kept(student)
    ordered = list(costs.values())
    if len(rates) > 1 and (ordered[0] == ordered[-1] or ordered != sorted(ordered)):
        listing = ", ".join(f"{cost[0]:,} at {rate:g}" for rate, cost in costs.items())
        raise InputError(
            "Expected build_student to give students with fewer multiply-adds at "
            f"smaller rates. Received: {listing}"
        )
    return sorted({cost: rate for rate, cost in costs.items()}.values())


def _check_can_be_kept(student: keras.Model) -> None:
    """Checks that a student can be saved and loaded: each trial is kept in a file.

    Raises:
        InputError: If it cannot, e.g. because a layer is not registered with Keras.
    """
    with_policy(student, "float32")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "student.keras"
        student.save(path)
        try:
            load_kept_model(path)
        except InputError as error:
            raise InputError(
                "Expected students that can be loaded from a file again: register "
                "your own layers with keras.saving.register_keras_serializable. "
                f"Received: {student.name!r}. {error}"
            ) from error
