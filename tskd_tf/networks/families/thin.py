"""The family of thin students: the teacher's network with fewer channels."""

import keras

from tskd_tf.data.task import Task
from tskd_tf.networks.channels import Channels
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.family import Family
from tskd_tf.networks.families.spacing import spaced_by_cost
from tskd_tf.networks.kept_costs import macs_of_kept
from tskd_tf.networks.rebuild import with_image_shape
from tskd_tf.networks.students import thin_student
from tskd_tf.networks.width import output_ids, scale_sets


def thin_rates(teacher: keras.Model, task: Task | None = None) -> dict[float, int]:
    """Rates of distinct thin students up to 1, and their multiply-adds.

    They start at one channel per layer. The multiply-adds of neighbours differ by about
    a tenth.

    Args:
        teacher: A built Functional or Sequential classifier with a known image size.
        task: Its head sets the number of outputs. Default: all outputs of the teacher.

    Returns:
        Multiply-adds by rate, both ascending.

    Raises:
        InputError: If the channels cannot be followed through a layer, or if
            multiply-adds cannot be counted.
    """
    outputs = output_ids(teacher, task)
    channels = Channels(with_image_shape(teacher, teacher.inputs[0].shape[1:]))
    macs_of = macs_of_kept(channels)

    def count(rate: float) -> int:
        return macs_of(channels.keep(scale_sets(rate), outputs))

    return spaced_by_cost(count, channels, 1.0, complexity(teacher).num_macs)


FAMILY = Family(thin_student, thin_rates)
