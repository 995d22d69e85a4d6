"""A teacher's students: its network thinner and, if wanted, of cheap convolutions."""

import keras
import numpy as np

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.cheap_convolutions import KINDS, replace_convolutions
from tskd_tf.networks.width import scale_width

PLAIN = "plain"
CONVOLUTIONS = (PLAIN, *KINDS)


def check_convolutions(convolutions: str, groups: int | None) -> None:
    """Checks the two settings that say what students look around by.

    Raises:
        InputError: If there is no such kind, or groups do not belong to it.
    """
    if convolutions not in CONVOLUTIONS:
        raise InputError(
            f"Expected convolutions out of {', '.join(CONVOLUTIONS)}. Received: "
            f"{convolutions!r}"
        )
    if groups is not None and (convolutions != "grouped" or groups < 1):
        raise InputError(
            "Expected groups of at least 1, with grouped convolutions only. Received: "
            f"groups={groups} with {convolutions!r}"
        )


def thin_student(
    teacher: keras.Model,
    rate: float,
    task: Task,
    convolutions: str = PLAIN,
    groups: int | None = None,
    initialize: str = "random",
    importance: np.ndarray | None = None,
) -> keras.Model:
    """The teacher's network by `scale_width`, its convolutions then replaced.

    Args:
        teacher: As in `scale_width`, like the next two.
        rate: "
        task: "
        convolutions: One of `CONVOLUTIONS`; plain ones stay as they are.
        groups: As in `replace_convolutions`.
        initialize: As in `scale_width`. From the teacher, dominant convolutions start
            from its kernels; other new layers start at random in any case.
        importance: As in `scale_width`.

    Raises:
        InputError: As those do.
    """
    student = scale_width(
        teacher, rate, task, initialize=initialize, importance=importance
    )
    if convolutions == PLAIN:
        return student
    return replace_convolutions(
        student,
        convolutions,
        groups=groups,
        from_kernels=initialize == "teacher",
    )
