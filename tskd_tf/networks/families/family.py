"""The record of a family of students."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from tskd_tf.choices import FAMILIES, check_choice
from tskd_tf.data.task import Task


class Family(NamedTuple):
    """How one family makes a teacher's students, and at which rates.

    Both functions raise `InputError` if the family has no students of the teacher.

    Attributes:
        build: Maps teacher, rate and task to the student, uncompiled.
        rates: Maps teacher and task to the rates of distinct students and their
            multiply-adds, both ascending.
    """

    build: Callable[..., keras.Model]
    rates: Callable[[keras.Model, Task], dict[float, int]]


def family_named(name: str) -> Family:
    """The record of a family.

    Args:
        name: One of `choices.FAMILIES`.

    Raises:
        InputError: If there is no such family.
    """
    check_choice("family", name, FAMILIES)
    family: Family = FAMILIES[name].load()
    return family
