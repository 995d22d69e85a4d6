"""Prepares a search: all checks are done before any student is trained."""

import dataclasses
import functools
import logging
import operator
import os
import pathlib
from typing import Any

import keras
import numpy as np

from tskd_tf.choices import Budgets
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task, check_pairs
from tskd_tf.distillation.soft_targets import check_teacher
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.graph import check_model
from tskd_tf.networks.rebuild import as_functional, as_logits
from tskd_tf.networks.width import StudentBuilder, layer_widths
from tskd_tf.search.budgets import ANY_LOSS, fitting_candidates, kept_costs
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.candidates import BuiltOnce, buildable_chains
from tskd_tf.search.inputs import as_searched, checked_split
from tskd_tf.search.prepared import PreparedSearch
from tskd_tf.search.refine import check_refinable
from tskd_tf.search.settings import SearchSettings
from tskd_tf.search.student_costs import CostOf, StudentCosts
from tskd_tf.search.workers.crew import address_refused
from tskd_tf.search.workers.shared import check_importable
from tuner import chief

_logger = logging.getLogger(__name__)


def prepare(
    teacher: keras.Model,
    train: Any,
    validation: Any,
    test: Any,
    task: Task | None = None,
    settings: SearchSettings = SearchSettings(),
) -> PreparedSearch:
    """Does all checks of a search and finds its candidates; each is built once.

    Args:
        teacher: A classifier as in `find_smallest_student`. It may still be untrained,
            see `PreparedSearch.run`.
        train: All training images and their class ids, as a `tf.data.Dataset` of
            batches or a pair of arrays.
        validation: The validation images and class ids, in the same form.
        test: The test images and class ids, in the same form.
        task: θ and the head. Default: all classes of the teacher.
        settings: Settings of the search.

    Raises:
        InputError: If an argument is invalid, or if no student fits the budgets.
    """
    build_student = settings.build_student
    teacher = _with_known_shape(teacher, train, settings)
    if task is None:
        num_classes = teacher.outputs[0].shape[-1]
        task = Task(range(num_classes), num_classes)
    settings.check()
    settings = settings.with_plain_recipe()
    by_others = is_by_others(
        settings.directory, teacher, build_student, settings.num_workers
    )
    check_teacher(teacher, task)
    all_train, all_validation, all_test = (
        checked_split(teacher, task, split, settings.memory_limit_mb)
        for split in (train, validation, test)
    )
    teacher = as_searched(teacher, all_train)
    complexity(teacher)
    built = None if build_student is None else BuiltOnce(build_student)
    counted = buildable_chains(
        teacher,
        task,
        settings.rates,
        settings.recipe,
        settings.families_of_search(),
        built,
    )

    def build(candidate: Candidate) -> keras.Model:
        if built is not None:
            return built(candidate.rate)
        recipe = dataclasses.replace(settings.recipe, family=candidate.family)
        return recipe.students_of(teacher, task)(candidate.rate)

    costs = StudentCosts(
        build,
        all_train.images,
        _earlier_costs(settings),
        functools.reduce(operator.or_, counted),
    )
    found = [list(chain) for chain in counted]
    if settings.refine:
        for chain in found:
            check_refinable(build(chain[0]))
    fitting = _fitting_chains(found, settings.budgets, costs.cost)
    num_found, num_fitting = (sum(map(len, chains)) for chains in (found, fitting))
    if settings.budgets.limits():
        _logger.info(
            "%d of %d candidates fit the budgets: %s",
            num_fitting,
            num_found,
            ", ".join(f"up to {chain[-1]}" for chain in fitting),
        )
    shapes = {} if built is None else _own_shapes(built, found[0], costs)
    if settings.allowed_loss >= ANY_LOSS:
        fitting = [chain[-1:] for chain in fitting]
    return PreparedSearch(
        teacher,
        all_train,
        Split(*task.filter(tuple(all_validation))),
        Split(*task.filter(tuple(all_test))),
        task,
        settings,
        found,
        fitting,
        num_found - num_fitting,
        costs,
        by_others,
        shapes,
    )


def _with_known_shape(
    teacher: keras.Model, train: Any, settings: SearchSettings
) -> keras.Model:
    """The teacher without its softmax; with the user's students it may be any model."""
    if settings.build_student is not None:
        check_pairs(train)
        spec = getattr(train, "element_spec", None)
        shape = np.shape(train[0]) if spec is None else spec[0].shape
        teacher = as_functional(teacher, shape[1:])
    check_model(teacher, "the teacher")
    return as_logits(teacher)


def _earlier_costs(settings: SearchSettings) -> dict[str, dict[Candidate, float]]:
    """The costs that an interrupted search in the same folder measured."""
    if settings.directory is None:
        return {}
    is_own = settings.build_student is not None
    return kept_costs(pathlib.Path(settings.directory), is_own)


def _fitting_chains(
    found: list[list[Candidate]], budgets: Budgets, cost: CostOf
) -> list[list[Candidate]]:
    """The candidates of each family that fit the budgets.

    Raises:
        InputError: If none of any family fits; it names the smallest of all.
    """
    fitting: list[list[Candidate]] = []
    refusals: list[tuple[float, InputError]] = []
    for chain in found:
        try:
            fitting.append(fitting_candidates(chain, budgets, cost))
        except InputError as error:
            refusals.append((cost("max_macs", chain[0]), error))
    if not fitting:
        raise min(refusals, key=lambda refusal: refusal[0])[1]
    return fitting


def _own_shapes(
    built: BuiltOnce, candidates: list[Candidate], costs: StudentCosts
) -> dict[Candidate, tuple[list[int], int]]:
    """Widths and multiply-adds of the user's students; their models are freed."""
    shapes = {
        candidate: (
            layer_widths(built(candidate.rate)),
            int(costs.cost("max_macs", candidate)),
        )
        for candidate in candidates
    }
    built.forget()
    return shapes


def is_by_others(
    directory: str | None,
    teacher: keras.Model,
    build_student: StudentBuilder | None,
    num_workers: int,
) -> bool:
    """Whether workers train the trials; includes the checks that workers need.

    Raises:
        InputError: If this process is a worker, if a chief has no directory or no free
            address, or if workers cannot import the user's code.
    """
    role = chief.role()
    if role == "worker":
        raise InputError(
            "Expected a search in a chief, or without KERASTUNER_TUNER_ID. Received: "
            f"{os.environ['KERASTUNER_TUNER_ID']}, a worker; start workers by python "
            "-m tskd_tf.worker DIRECTORY"
        )
    if role == "chief" and directory is None:
        raise InputError(
            "Expected a directory that the chief shares with its workers. Received: "
            "none"
        )
    by_others = role == "chief" or num_workers > 1
    if by_others:
        check_importable(teacher, build_student)
    if role == "chief":
        try:
            chief.check_address()
        except chief.AddressError as error:
            raise address_refused(error) from None
    return by_others
