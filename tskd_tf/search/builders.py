"""Builds the students of each family of a search."""

import dataclasses
from collections.abc import Sequence

import keras

from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe, student_builder
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.search.candidate import OWN, Candidate


def student_builders(
    teacher: keras.Model,
    transfer: TransferSet,
    task: Task,
    recipe: Recipe,
    candidates: Sequence[Candidate],
    build_student: StudentBuilder | None = None,
) -> dict[str, StudentBuilder]:
    """Functions that map a rate to its student, by family.

    Args:
        teacher: The teacher, whose network students are made from.
        transfer: D(θ), from which the importance of the teacher's channels follows.
        task: θ.
        recipe: How students are trained.
        candidates: The candidates of the search.
        build_student: The user's function of the rate. Default: None.
    """
    if build_student is not None:
        return {OWN: build_student}
    return {
        family: student_builder(
            teacher, transfer, task, dataclasses.replace(recipe, family=family)
        )
        for family in dict.fromkeys(candidate.family for candidate in candidates)
    }
