"""The record of a family of students."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from tskd_tf.choices import FAMILIES, check_choice
from tskd_tf.data.task import Task


class Family(NamedTuple):
    """How one family makes a teacher's students, and which there are.

    Attributes:
        build: Function of teacher, rate and task; gives the student, uncompiled.
        rates: Function of teacher and task; gives the rates of students that differ,
            from the cheapest on. Both raise `InputError` with the reason if the
            family has no students of the teacher.
    """

    build: Callable[..., keras.Model]
    rates: Callable[[keras.Model, Task], list[float]]


def family_named(name: str) -> Family:
    """The record of a family.

    Args:
        name: One of `choices.FAMILIES`.

    Raises:
        InputError: If there is no such name.
    """
    check_choice("family", name, FAMILIES)
    family: Family = FAMILIES[name].load()
    return family
