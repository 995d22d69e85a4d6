"""Which channels a step of pruning removes: the least important per cost saved."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from tskd_tf.networks.channels import Block, Channels, Kept
from tskd_tf.networks.kept_costs import macs_of_kept, params_of_kept
from tskd_tf.networks.removal import all_kept, kept_without

# Maps the roots of removed sets to the remaining share of the cost
ShareOf = Callable[[Collection[int]], float]


def remaining_share(channels: Channels) -> ShareOf:
    """A function that maps removed sets to the remaining share of the network's cost.

    The cost is the mean of two shares: of the multiply-adds and of the parameters. A
    convolution has most of the former, a dense layer most of the latter.

    Args:
        channels: The channels of the present network.
    """
    kept = all_kept(channels)
    counts = macs_of_kept(channels), params_of_kept(channels)

    def costs(some: Kept) -> np.ndarray:
        return np.array([count(some) for count in counts], float)

    present = costs(kept)

    def share(removed: Collection[int]) -> float:
        return float((costs(kept_without(kept, removed)) / present).mean())

    return share


def choose_sets(
    blocks: Sequence[Block],
    importance: np.ndarray,
    share_of: ShareOf,
    saved_share: float,
    most: int | None = None,
) -> list[int]:
    """The sets for the next step, the least important per cost saved first.

    Args:
        blocks: The blocks to choose from; each keeps at least one set.
        importance: The importance of each set, ≥ 0, at its root.
        share_of: Maps removed sets to the remaining share of the cost.
        saved_share: Share of the cost to save, in (0, 1). Sets are removed until it is
            saved, or none is left.
        most: Largest number of sets, ≥ 1. Default: any.

    Returns:
        The roots of the sets, at least one; empty if no block has two sets.
    """
    ranked: list[tuple[float, int]] = []
    for block in blocks:
        roots = sorted(block.roots.tolist(), key=lambda root: importance[root])[:-1]
        if roots:
            # All sets of a block cost the same, except for layers that use some of them
            saved = max(1.0 - share_of(roots[:1]), np.finfo(float).tiny)
            ranked += [(importance[root] / saved, root) for root in roots]
    order = [root for _, root in sorted(ranked)][:most]
    # The remaining share falls with every set
    low, high = 1, len(order)
    while low < high:
        middle = (low + high) // 2
        if share_of(order[:middle]) <= 1.0 - saved_share:
            high = middle
        else:
            low = middle + 1
    return order[:low]
