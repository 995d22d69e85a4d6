"""Rates of a family's students at evenly spaced costs, counted without building."""

import math
from collections.abc import Callable

from tskd_tf.networks.channels import Channels

# Neighbouring candidates differ by about a tenth in multiply-adds, which are about
# quadratic in the rate
_COST_RATIO = 1.1
_RATE_RATIO = math.sqrt(_COST_RATIO)


def spaced_by_cost(
    count: Callable[[float], int], channels: Channels, largest_rate: float, most: int
) -> dict[float, int]:
    """Rates from one channel a layer on; costs differ by about a tenth.

    Few channels make larger steps, because widths are whole numbers.

    Args:
        count: Maps a rate to the multiply-adds of its student.
        channels: The channels of the network at rate 1.
        largest_rate: Largest rate, above 0. It is a candidate itself if it is 1.
        most: Largest number of multiply-adds.

    Returns:
        Multiply-adds by rate. Both rise strictly. Of rates that cost the same, the
        largest is kept. Empty if every student costs more than `most`.
    """
    rates = []
    rate = 1 / max(map(len, channels.made.values()))
    while rate < largest_rate:
        rates.append(rate)
        rate = float(f"{rate * _RATE_RATIO:.4g}")
    rates.append(largest_rate)
    rising: dict[float, int] = {}
    least = math.inf
    for rate in reversed(rates):
        num_macs = count(rate)
        if num_macs <= most and num_macs < least:
            rising[rate] = least = num_macs
    return _thinned_out(dict(reversed(rising.items())))


def _thinned_out(rising: dict[float, int]) -> dict[float, int]:
    """Leaves out costs closer than a tenth to both neighbours; the ends stay."""
    kept: dict[float, int] = {}
    items = list(rising.items())
    for place, (rate, num_macs) in enumerate(items):
        is_end = place in (0, len(items) - 1)
        if is_end or items[place + 1][1] > _COST_RATIO * max(kept.values()):
            kept[rate] = num_macs
    return kept
