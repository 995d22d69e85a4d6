"""Removes channels of a trained network; what remains keeps its weights.

Channels are removed in tied sets, see `channels`. Every block of sets keeps at least
one, and the outputs of the network stay.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.networks.channels import Block, Channels, Kept, Use, last_axis
from tskd_tf.networks.weight_axes import axes_of_weights
from tskd_tf.networks.width import take_weights, with_widths


def all_kept(channels: Channels) -> Kept:
    """The choice of channels that removes none."""
    num_outputs = len(channels.made[id(channels.head)])
    return channels.keep(lambda num_sets, _: num_sets, range(num_outputs))


def kept_without(kept: Kept, removed: Collection[int]) -> Kept:
    """A choice of channels without some tied sets.

    Args:
        kept: The choice of channels so far, each once.
        removed: The roots of the sets.
    """
    stays = kept.stays & ~np.isin(kept.roots, list(removed))
    return kept._replace(stays=stays, times=stays.astype(int))


def removable_blocks(channels: Channels) -> list[Block]:
    """The blocks with at least two sets that can be removed, without the other sets.

    Sets that are tied to the outputs or to the channels of the images stay.
    """
    kept = all_kept(channels)
    fixed = {int(kept.roots[0]), *kept.roots[kept.head].tolist()}
    free = [
        block._replace(roots=np.array([r for r in block.roots if r not in fixed], int))
        for block in channels.blocks
    ]
    return [block for block in free if len(block.roots) > 1]


def without_channels(model: keras.Model, removed: Collection[int]) -> keras.Model:
    """The model without some channels; all other weights are copied.

    Args:
        model: A built Functional or Sequential classifier of images that gives logits.
        removed: Roots of tied sets of `Channels(model)`, from `removable_blocks`; not
            all of a block.

    Returns:
        A new, uncompiled model of the same graph.

    Raises:
        InputError: If the channels cannot be followed, or a layer cannot be rebuilt.
    """
    channels = Channels(model)
    kept = kept_without(all_kept(channels), removed)
    thinner = with_widths(model, channels, kept, rate=1.0)
    take_weights(channels, thinner, kept)
    return thinner


def loss_changes(
    model: keras.Model,
    channels: Channels,
    examples: Iterable[tuple[Any, ...]],
    loss: Callable[..., tf.Tensor],
) -> np.ndarray:
    """By how much the loss of a batch would change without each tied set.

    This is the first-order change if all weights that a set feeds were zero: the sum
    of weight times gradient over them. Without these weights, the set can be removed.
    Source: Molchanov et al. 2017, "Pruning convolutional neural networks for resource
    efficient inference", section 2.2, where it is activation times gradient.

    Args:
        model: A model of float32 with all layers trainable.
        channels: Its channels.
        examples: Batches of equal structure: images, and arguments of `loss`.
        loss: Maps the logits, shape `(batch, num_outputs)`, and the other parts of a
            batch to a scalar.

    Returns:
        The root of the mean square over the batches, in the unit of the loss; float64
        of shape `(num_channels,)`, at the root of each set. Other entries are 0.
    """
    mixing = [use for use in channels.weighted() if id(use.call.layer) in channels.made]
    feeds = [feed for use in mixing for feed in _feeds(use)]
    weights = [feed.weight for feed in feeds]
    roots = all_kept(channels).roots

    @tf.function(reduce_retracing=True)
    def products(images: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            value = loss(model(images, training=False), *others)
        gradients = tape.gradient(
            value, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return [weight * gradient for weight, gradient in zip(weights, gradients)]

    squares, num_batches = np.zeros(channels.num_channels), 0
    for batch in examples:
        change = np.zeros_like(squares)
        for feed, product in zip(feeds, products(*batch)):
            np.add.at(change, roots[feed.inputs], feed.sums(product.numpy()))
        squares += change**2
        num_batches += 1
    return np.sqrt(squares / max(1, num_batches))


class _Feed(NamedTuple):
    """A kernel, and the channels that feed it.

    Attributes:
        weight: The kernel.
        axis: Its axis of input channels.
        inputs: The channels along this axis, shape `(groups, size)`.
    """

    weight: Any
    axis: int
    inputs: np.ndarray

    def sums(self, product: np.ndarray) -> np.ndarray:
        """Sums of an array like the kernel, by input; shape `(groups, size)`."""
        num_groups, size = self.inputs.shape
        product = np.moveaxis(product.astype(np.float64), self.axis, 0)
        # The last axis has the outputs, group by group
        by_group = product.reshape(
            size, -1, num_groups, product.shape[-1] // num_groups
        )
        sums: np.ndarray = by_group.sum(axis=(1, 3)).T
        return sums


def _feeds(use: Use) -> list[_Feed]:
    """The kernels of a layer that mix its input channels, or its inner ones."""
    feeds = []
    output = last_axis(use.output)
    for weight, axes in zip(use.call.layer.weights, axes_of_weights(use)):
        known = [(i, axis) for i, axis in enumerate(axes) if axis is not None]
        if len(known) > 1:
            axis, inputs = next(
                (i, axis) for i, axis in known if not np.array_equal(axis, output)
            )
            feeds.append(_Feed(weight, axis, inputs))
    return feeds
