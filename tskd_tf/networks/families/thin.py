"""The family of thin students: the teacher's network with fewer channels."""

import keras

from tskd_tf.data.task import Task
from tskd_tf.networks.families.family import Family
from tskd_tf.networks.students import thin_student
from tskd_tf.networks.width import distinct_rates, spaced_rates

_RATE_STEP = 0.05


def thin_rates(teacher: keras.Model, task: Task) -> list[float]:
    """Rates of distinct thin students, in steps of 0.05 up to 1.

    Args:
        teacher: A built Functional or Sequential classifier that gives logits.
        task: Not used: all tasks have the same rates.

    Raises:
        InputError: If the channels cannot be followed through a layer.
    """
    return distinct_rates(teacher, spaced_rates(_RATE_STEP))


FAMILY = Family(thin_student, thin_rates)
