"""Time per image of several files, measured in one run so that they are comparable."""

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
    """Times functions of one image, after a warm-up.

    The functions alternate, so that other load on the machine affects all equally.

    Args:
        runs: Functions of one image of shape `(1, height, width, channels)`.
        images: Shape `(n, height, width, channels)`, n ≥ 1.

    Returns:
        One record per function: the median (`p50`) and the 90th percentile (`p90`) of
        500 runs, in microseconds per image.
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
