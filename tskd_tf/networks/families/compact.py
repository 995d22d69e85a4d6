"""The family of compact students: a strided stem, separable convolutions, and width.

The teacher's network changes by three rules, see `structure`. The multiply-adds that
this saves are spent on width.

Test accuracy in percent on MNIST, LeNet (99.23) as teacher, 5 epochs at learning rate
0.006; n is the number of seeds, whose means spread by 0.1:

| students | multiply-adds | parameters | n | test |
|---|---|---|---|---|
| thin 2-5-50 | 49,300 | 4,867 | 2 | 98.00 |
| compact 4-11-110 | 44,076 | 21,214 | 2 | 98.77 |
| thin 1-4-35 | 23,390 | 2,765 | 2 | 96.94 |
| compact 3-7-68 | 25,240 | 8,789 | 4 | 98.42 |

`python benchmarks/families.py` compares the two families so. The rules were chosen
among these, networks 6-12-60 of 47,928 multiply-adds if nothing else is said, n = 2:

- Nothing between a depthwise convolution and its 1x1: 98.94 and, with other initial
  weights, 98.88. Normalisation and ReLU there: 98.82.
- With these, no normalisation behind the dense layer: 98.66 instead of 98.82.
- With these, padding "same" instead of the teacher's "valid": 98.47, 3-8-32 at 46,968.
- All pooling folded into strides: 98.77, 5-13-125 at 48,290; 98.57 (n = 4), 3-9-85 at
  25,522. On CIFAR-10 (16,000 images, 6 epochs on labels) it loses: 54.09 at 406,980,
  where a strided stem only has 57.27 at 429,572. So the stem only.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.channels import Channels, Kept
from tskd_tf.networks.costs import complexity, cost_of_call
from tskd_tf.networks.families.family import Family
from tskd_tf.networks.families.structure import (
    stems,
    with_normalization,
    with_separable_convolutions,
    with_strided_stem,
)
from tskd_tf.networks.graph import check_logits, check_model
from tskd_tf.networks.rebuild import with_image_shape
from tskd_tf.networks.width import narrowed, output_ids, with_widths

_NUM_RATES = 25
# Students below this share of the teacher's multiply-adds are of single channels
_SMALLEST_SHARE = 1e-3
# Wider students are not looked at, where layers cannot become wider and cost more
_LARGEST_RATE = 16.0
# Neighbours among the rates that are counted differ by this factor
_RATE_RATIO = 1.04


def compact_student(
    teacher: keras.Model, rate: float, task: Task | None = None
) -> keras.Model:
    """A student of the teacher's compact network, every layer but the head at one rate.

    Args:
        teacher: A built Functional or Sequential classifier that gives logits.
        rate: Width scale above 0. Above 1, layers are wider than the teacher's.
        task: Its head decides the number of outputs; by default the teacher's.

    Returns:
        A new, uncompiled model of random weights, which takes the same images.

    Raises:
        InputError: If the rate is not above 0, the model does not fit the task, has
            no convolution of its images, or its channels cannot be followed.

    Example:

    >>> student = compact_student(teacher, rate=0.25, task=task)
    """
    _check_rate(rate)
    outputs = output_ids(teacher, task)
    network = compact_network(teacher)
    channels = Channels(network)
    return with_widths(network, channels, _kept(channels, rate, outputs), rate)


def compact_network(teacher: keras.Model) -> keras.Model:
    """The teacher's network made compact at its own widths: the student of rate 1.

    The stem is strided; batch normalisation and ReLU stand behind each convolution and
    hidden dense layer, unless the teacher normalises; convolutions behind the stem are
    depthwise and 1x1.

    Args:
        teacher: A built Functional or Sequential classifier that gives logits.

    Returns:
        A model with new weights; the teacher itself where no rule applies.

    Raises:
        InputError: If the teacher is of another kind, has no convolution of its
            images, or one with another stride down than across.
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


def compact_rates(
    teacher: keras.Model, task: Task | None = None, num_rates: int = _NUM_RATES
) -> list[float]:
    """Rates of compact students that differ, from the cheapest on.

    Multiply-adds rise by a like factor from each to the next, from a thousandth of
    the teacher's, or from the student of one channel a layer, up to the teacher's.

    Args:
        teacher: As in `compact_student`, of a known image size.
        task: Its head decides the number of outputs; by default the teacher's.
        num_rates: At most so many, at least 2.

    Returns:
        Rates, ascending; multiply-adds rise strictly.

    Raises:
        InputError: As `compact_student`; also if no compact student is cheaper than
            the teacher, or multiply-adds cannot be counted.
    """
    if num_rates < 2:
        raise InputError(f"Expected num_rates of at least 2. Received: {num_rates}")
    outputs = output_ids(teacher, task)
    most = complexity(teacher).num_macs
    network = compact_network(teacher)
    network = with_image_shape(network, teacher.inputs[0].shape[1:])
    channels = Channels(network)
    least = _SMALLEST_SHARE * most
    counted: dict[int, float] = {}
    count = macs_by_rate(channels, outputs)
    rate = 1 / max(map(len, channels.made.values()))
    while rate < 1 and count(2 * rate) < least:
        rate *= 2
    while rate <= _LARGEST_RATE and (num_macs := count(rate)) <= most:
        # Of rates that give the same student the last stands for them
        counted[num_macs] = rate
        rate = float(f"{rate * _RATE_RATIO:.4g}")
    if not counted:
        raise InputError(
            "Expected a teacher dearer than its smallest compact student. Received: "
            f"{teacher.name!r} with {most:,} multiply-adds, where that student has "
            f"{num_macs:,}"
        )
    macs = np.array(list(counted))
    targets = np.geomspace(max(macs[0], least), macs[-1], num_rates)
    chosen = np.searchsorted(macs, targets * (1 + 1e-9), side="right") - 1
    rates = list(counted.values())
    return [rates[i] for i in sorted(set(chosen.tolist()) - {-1})]


def _check_rate(rate: Any) -> None:
    is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not is_number or not 0 < rate < math.inf:
        raise InputError(f"Expected a rate above 0. Received: {rate!r}")


def _kept(channels: Channels, rate: float, outputs: Sequence[int]) -> Kept:
    """The channels of a student: rates are rounded half up, to at least 1."""
    return channels.keep(
        lambda width, _: max(1, math.floor(rate * width + 0.5 + 1e-9)), outputs
    )


def macs_by_rate(channels: Channels, outputs: Sequence[int]) -> Callable[[float], int]:
    """A function of the rate: the multiply-adds of its student, which is not built.

    Args:
        channels: Of a compact network.
        outputs: Of its outputs, those that students have.

    Raises:
        InputError: If they cannot be counted.
    """
    multiplying = [
        (use, use.call.layer.get_config())
        for use in channels.uses
        if cost_of_call(use.call.layer, use.call.input_shapes[0])[1]
    ]
    # Layers that differ in their names only cost the same, and making one takes long
    known: dict[str, int] = {}

    def count(rate: float) -> int:
        kept = _kept(channels, rate, outputs)
        num_macs = 0
        for use, config in multiplying:
            kind = type(use.call.layer)
            config = {**config, **narrowed(config, use, kept), "name": "counted"}
            shape = list(use.call.input_shapes[0])
            for axis, size in kept.sizes(use.inputs[0]).items():
                shape[axis] = size
            key = f"{kind} {config} {shape}"
            if key not in known:
                known[key] = cost_of_call(kind.from_config(config), tuple(shape))[1]
            num_macs += known[key]
        return num_macs

    return count


FAMILY = Family(compact_student, compact_rates)
