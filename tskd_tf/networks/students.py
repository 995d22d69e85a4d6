"""A teacher's students: its network thinner and, if wanted, of cheap convolutions."""

import keras
import numpy as np

from tskd_tf.choices import PLAIN
from tskd_tf.data.task import Task
from tskd_tf.networks.cheap_convolutions import replace_convolutions
from tskd_tf.networks.layers.convolution import check_groups, convolution_named
from tskd_tf.networks.width import scale_width


def check_convolutions(convolutions: str, groups: int | None) -> None:
    """Checks the two settings that say what students look around by.

    Raises:
        InputError: If there is no such kind, or groups do not belong to it.
    """
    convolution_named(convolutions)
    check_groups(convolutions, groups)


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
        teacher: A built Functional or Sequential classifier that gives logits.
        rate: Width rate of the student, in (0, 1].
        task: θ and the head, which decides the number of outputs.
        convolutions: One of `choices.CONVOLUTIONS`; plain ones stay as they are.
        groups: As in `replace_convolutions`.
        initialize: As in `scale_width`. New layers start from its kernels
            where their kind can (`Convolution.start_from`), else at random.
        importance: As in `scale_width`.

    Raises:
        InputError: As those do.
    """
    student = scale_width(
        teacher, rate, task, initialize=initialize, importance=importance
    )
    if convolution_named(convolutions).replace is None:
        return student
    return replace_convolutions(
        student,
        convolutions,
        groups=groups,
        from_kernels=initialize == "teacher",
    )
