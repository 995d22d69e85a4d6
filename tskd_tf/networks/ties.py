"""Tied channels, which are kept or removed together.

A union-find structure: one channel of each set of tied channels is its root.
"""

import numpy as np


class Ties:
    """Channel numbers, and sets of tied channels.

    Number 0 exists from the start and stands for all channels that cannot be removed.
    """

    def __init__(self) -> None:
        self._parents = [0]

    def add(self, count: int) -> np.ndarray:
        """Adds untied channels; returns their numbers, shape `(count,)`."""
        start = len(self._parents)
        self._parents += range(start, start + count)
        return np.arange(start, start + count)

    def tie(self, value: np.ndarray, other: np.ndarray) -> None:
        """Ties each channel to the channel at the same position.

        Args:
            value: Channel numbers, any shape.
            other: Channel numbers, of a shape that broadcasts with `value`.
        """
        pairs = np.broadcast_arrays(value, other)
        for one, two in zip(*(channels.ravel().tolist() for channels in pairs)):
            self._parents[self._root(one)] = self._root(two)

    def merge(self, values: list[np.ndarray]) -> np.ndarray:
        """Ties the channels of tensors that are combined channel by channel.

        Args:
            values: Arrays of channel numbers, of shapes that broadcast.

        Returns:
            The first array, broadcast to the common shape.
        """
        for value in values[1:]:
            self.tie(values[0], value)
        return np.broadcast_arrays(*values)[0]

    def tie_groups(self, inputs: np.ndarray, made: np.ndarray, groups: int) -> None:
        """Ties channels so that all groups keep equal sizes.

        Either whole groups are removed, or equally many channels of each group. The
        method takes the one with the finer choice of widths.

        Args:
            inputs: Numbers of the input channels; `groups` divides their count.
            made: Numbers of the output channels; `groups` divides their count.
            groups: Number of groups, ≥ 1.
        """
        inputs, made = inputs.reshape(groups, -1), made.reshape(groups, -1)
        if groups >= inputs.shape[1] and not self.is_fixed(inputs):
            for group in range(groups):
                self.tie(np.append(inputs[group], made[group]), inputs[group, :1])
        else:
            self.tie(inputs, inputs[:1])
            self.tie(made, made[:1])

    def is_fixed(self, value: np.ndarray) -> bool:
        """Whether all these channels are tied to number 0."""
        return all(self._root(channel) == self._root(0) for channel in np.unique(value))

    def roots(self) -> np.ndarray:
        """The root of each channel, shape `(num_channels,)`."""
        return np.array([self._root(channel) for channel in range(len(self._parents))])

    def _root(self, channel: int) -> int:
        parents = self._parents
        while parents[channel] != channel:
            parents[channel] = parents[parents[channel]]
            channel = parents[channel]
        return channel
