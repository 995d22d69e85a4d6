"""Which channels are tied, so that they stay or go together.

Union-find: each set of tied channels has one of them as its root.
"""

import numpy as np


class Ties:
    """Channels by number, and which of them are tied together.

    Number 0 is there from the start and stands for all that cannot go.
    """

    def __init__(self) -> None:
        self._parents = [0]

    def add(self, count: int) -> np.ndarray:
        """Numbers of new channels, tied to none, shape `(count,)`."""
        start = len(self._parents)
        self._parents += range(start, start + count)
        return np.arange(start, start + count)

    def tie(self, value: np.ndarray, other: np.ndarray) -> None:
        """Ties each channel to the one at its place.

        Args:
            value: Numbers, any shape.
            other: Numbers, of a shape that broadcasts with it.
        """
        pairs = np.broadcast_arrays(value, other)
        for one, two in zip(*(channels.ravel().tolist() for channels in pairs)):
            self._parents[self._root(one)] = self._root(two)

    def merge(self, values: list[np.ndarray]) -> np.ndarray:
        """Ties values that are added, multiplied or met channel by channel.

        Args:
            values: Numbers, of shapes that broadcast.

        Returns:
            The first, of the shape of them all.
        """
        for value in values[1:]:
            self.tie(values[0], value)
        return np.broadcast_arrays(*values)[0]

    def tie_groups(self, inputs: np.ndarray, made: np.ndarray, groups: int) -> None:
        """Ties channels so that groups stay equal: whole groups go, or as many of each.

        Whichever leaves the finer choice.

        Args:
            inputs: Numbers, as many as `groups` divides.
            made: Numbers of what is made of them, as many as `groups` divides.
            groups: ≥ 1.
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
