"""How long an image takes, of several files in one run, so that they compare."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tskd_tf.data.images import Images
from tskd_tf.export.record import Latency

_WARM_UP_RUNS = 50
_TIMED_RUNS = 500


def latencies_us(
    runs: Sequence[Callable[[np.ndarray], Any]], images: Images
) -> list[Latency]:
    """Times functions of one image in turn, image by image, after a warm-up.

    They alternate, so that whatever else the machine does meets all of them alike.

    Args:
        runs: Each takes an image of shape `(1, height, width, channels)`.
        images: Shape `(n, height, width, channels)`, n ≥ 1.

    Returns:
        A record a function: microseconds an image, the median (`p50`) and the 90th
        percentile (`p90`) of 500 runs.
    """
    images = np.asarray(images[:_TIMED_RUNS])
    microseconds = np.empty((_WARM_UP_RUNS + _TIMED_RUNS, len(runs)))
    for i, row in enumerate(microseconds):
        image = images[i % len(images)][None]
        for k, run in enumerate(runs):
            start = time.perf_counter_ns()
            run(image)
            row[k] = (time.perf_counter_ns() - start) / 1000
    medians, ninetieths = np.percentile(microseconds[_WARM_UP_RUNS:], (50, 90), axis=0)
    return [
        Latency(p50=float(p50), p90=float(p90))
        for p50, p90 in zip(medians, ninetieths, strict=True)
    ]
