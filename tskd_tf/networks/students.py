"""Students of a teacher: thinner networks, on request with cheap convolutions."""

import keras
import numpy as np

from tskd_tf.choices import PLAIN
from tskd_tf.data.task import Task
from tskd_tf.networks.cheap_convolutions import replace_convolutions
from tskd_tf.networks.layers.convolution import check_groups, convolution_named
from tskd_tf.networks.width import scale_width


def check_convolutions(convolutions: str, groups: int | None) -> None:
    """Checks the kind of convolution of the students, and its groups.

    Raises:
        InputError: If the kind is unknown, or has no groups.
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
        rate: Width scale in (0, 1].
        task: The classes of the student, and its head.
        convolutions: One of `choices.CONVOLUTIONS`. Default: plain, none is replaced.
        groups: Number of groups of `"grouped"` convolutions, ≥ 1. Default: 4.
        initialize: `"random"`, or `"teacher"` to start from the teacher's weights.
            Replaced convolutions do so where their kind can (`Convolution.start_from`).
        importance: Importance of the teacher's channels, shape `(num_channels,)`.
            Default: the magnitude of their weights.

    Raises:
        InputError: If `scale_width` or `replace_convolutions` refuses an argument.
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
