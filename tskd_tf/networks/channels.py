"""Which channels of a network can only be kept or removed together.

Every channel that a layer makes has a number. The graph is followed with an array of
channel numbers for each tensor. The array has the tensor's rank without the batch, and
size 1 along axes that do not change the channel: `(1, 1, 64)` for a feature map,
`(3136,)` after its `Flatten`. Channels that are added, multiplied or grouped are tied.
Tied channels are kept or removed together, so that any choice fits the whole graph.
Number 0 stands for all channels that cannot be removed, such as those of the images.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tskd_tf.errors import InputError
from tskd_tf.networks.graph import (
    WAY_OUT,
    LayerCall,
    Shape,
    follow,
    head_layer,
    is_per_channel,
    layer_width,
)
from tskd_tf.networks.ties import Ties

# Layers without weights that mix channels; their shapes may not show it
_MIXING = {
    "AdditiveAttention",
    "Attention",
    "Dot",
    "Einsum",
    "GetItem",
    "Matmul",
    "Tensordot",
}
# Operations that mix entries along their axis only
_MIXING_ALONG_AXIS = {"Cumprod", "Cumsum", "Flip", "Roll", "Sort", "Take"}


class Use(NamedTuple):
    """One use of a layer.

    Attributes:
        call: Layer and shapes.
        inputs: The channel numbers of each input.
        output: The channel numbers of the first output.
        inner: The channels between the kernels of a layer with an `inner_setting`, such
            as a `DominantConv2D` of reading A; shape `(rank,)`. Empty in other layers.
    """

    call: LayerCall
    inputs: list[np.ndarray]
    output: np.ndarray
    inner: np.ndarray


class Kept(NamedTuple):
    """The channels that stay.

    Attributes:
        stays: Whether each channel is kept, bool of shape `(num_channels,)`.
        roots: The channel that represents each tied set, shape `(num_channels,)`.
        head: Channels of the head, shape `(num_classes,)`.
        outputs: Positions in `head` that are kept, in their new order.
        times: Copies of each channel in the new network, shape `(num_channels,)`: 0
            or 1 in a thinner network, more in a wider one.
    """

    stays: np.ndarray
    roots: np.ndarray
    head: np.ndarray
    outputs: Sequence[int]
    times: np.ndarray

    def count(self, value: np.ndarray) -> int:
        """Number of entries of a channel array in the new network."""
        return int(self.times[value].sum())

    def sizes(self, value: np.ndarray) -> dict[int, int]:
        """The new size of each axis with channels, by axis; the last axis is −1."""
        times, sizes = self.times[value], {}
        for axis in range(-times.ndim, 0):
            if times.shape[axis] > 1 or axis == -1:
                others = tuple(i for i in range(-times.ndim, 0) if i != axis)
                most = times.max(axis=others)
                # The number of rows stays, however wide each row becomes
                sizes[axis] = int(most.sum() if axis == -1 else (most > 0).sum())
        return sizes

    def num_groups(self, inputs: np.ndarray, groups: int) -> int:
        """Number of input groups of a layer in the new network."""
        inputs = inputs.reshape(groups, -1)
        times = self.times[inputs].max(axis=1)
        # Tied groups are kept or removed whole; otherwise each group changes its width
        are_whole = (self.roots[inputs] == self.roots[inputs[:, :1]]).all()
        return int(times.sum() if are_whole else (times > 0).sum())

    def positions(self, axis: np.ndarray) -> np.ndarray:
        """The kept positions along an axis, in their new order.

        Args:
            axis: Channels along the axis, shape `(m, size)`. A position is kept if any
                of its `m` channels is. Channels tied to the head follow `outputs`.
        """
        order = np.arange(axis.shape[1])
        roots, head = self.roots[axis[0]], self.roots[self.head]
        for start in range(len(roots) - len(head) + 1):
            if np.array_equal(roots[start : start + len(head)], head):
                others = np.setdiff1d(np.arange(len(head)), self.outputs)
                order[start : start + len(head)] = start + np.append(
                    np.array(self.outputs, int), others
                )
        return order[self.stays[axis].any(axis=0)[order]]


class Block(NamedTuple):
    """Tied sets that the same layers made and tied in the same way.

    Attributes:
        roots: The channel that represents each set, shape `(num_sets,)`.
        makers: Positions of the layers with a channel in each set, among all layers
            that make channels; once for each channel. No two blocks have the same.
    """

    roots: np.ndarray
    makers: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of channels that a layer has in each set."""
        return self.makers.count(self.makers[0])


class Channels:
    """The channels of a model, and which of them are tied.

    Args:
        model: A Functional or Sequential classifier with one input.

    Attributes:
        uses: Every `Use` of every layer, in the order of `layer_calls`.
        made: The channels that each layer makes, shape `(width,)`, by the layer's `id`.
        inner: The inner channels of a layer, shape `(rank,)`, by its `id`; see `Use`.
        head: The classifier head.
        blocks: All channels by `Block`.

    Raises:
        InputError: If a layer mixes channels in an unknown way.
    """

    def __init__(self, model: keras.Model) -> None:
        self.uses: list[Use] = []
        self.made: dict[int, np.ndarray] = {}
        self.inner: dict[int, np.ndarray] = {}
        self._ties = Ties()
        follow(model, [_fixed(model.inputs[0].shape)], self._step)
        self.head = head_layer(model)
        self._roots = self._ties.roots()
        self.blocks = self._find_blocks()

    def keep(
        self,
        scale: Callable[[int, int], int],
        outputs: Sequence[int],
        scores: np.ndarray | None = None,
    ) -> Kept:
        """Chooses the channels of a new network; tied channels get the same choice.

        A block holds the channels that the same layers made and tied in the same way.
        `scale` gives the number of tied sets to keep of each block. If it is larger
        than the block, the new network repeats the sets.

        Args:
            scale: Maps the number of tied sets in a block, and the number of a layer's
                channels in each set, to the number of sets in the new network.
            outputs: Channels of the head to keep.
            scores: Importance of each channel, shape `(num_channels,)`. The sets with
                the largest sums are kept. Default: the first sets are kept.

        Raises:
            InputError: If the head cannot be reduced to these outputs.
        """
        times = np.zeros(len(self._roots), int)
        head = self.made[id(self.head)]
        for block in self.blocks:
            roots, size = block.roots, block.size
            order = np.arange(len(roots))
            if scores is not None:
                sums = np.bincount(self._roots, scores, len(self._roots))
                order = np.argsort(-sums[roots], kind="stable")
            each, more = divmod(scale(len(roots), size), len(roots))
            times[roots] = each
            times[roots[order[:more]]] += 1
        times[self._roots[head]] = 0
        times[self._roots[head[list(outputs)]]] = 1
        times[self._roots[0]] = 1
        times = times[self._roots]
        kept = Kept(times > 0, self._roots, head, outputs, times)
        if kept.count(head) != len(outputs):
            raise InputError(
                "Expected a head with outputs that can be kept one by one. Received: "
                f"{self.head.name!r}, whose outputs are tied to each other or to the "
                f"channels of the images; use a full head, or {WAY_OUT}"
            )
        return kept

    @property
    def num_channels(self) -> int:
        """Number of channels, number 0 included."""
        return len(self._roots)

    def tied_to_the_images(self) -> list[str]:
        """Names of the layers whose width cannot change because of the images.

        Their channels are added to, multiplied by or grouped with those of the images.
        """
        layers = {id(use.call.layer): use.call.layer for use in self.uses}
        return [
            layers[maker].name
            for maker, channels in self.made.items()
            if self._ties.is_fixed(channels)
        ]

    def weighted(self) -> list[Use]:
        """The first use of each layer with weights, except adapted preprocessing."""
        first = {id(use.call.layer): use for use in reversed(self.uses)}
        return [
            use
            for use in self.uses
            if use is first[id(use.call.layer)]
            and bool(getattr(use.call.layer, "weights", ()))
            and _kind(use.call.layer) != "Normalization"
        ]

    def _find_blocks(self) -> list[Block]:
        makers: dict[int, list[int]] = {}
        all_made = [*self.made.values(), *self.inner.values()]
        for maker, channels in enumerate(all_made):
            for root in self._roots[channels].tolist():
                makers.setdefault(root, []).append(maker)
        blocks: dict[tuple[int, ...], list[int]] = {}
        for root, its_makers in makers.items():
            blocks.setdefault(tuple(sorted(its_makers)), []).append(root)
        return [Block(np.array(roots), key) for key, roots in blocks.items()]

    def _step(self, call: LayerCall, values: list[np.ndarray]) -> list[np.ndarray]:
        layer = call.layer
        if getattr(layer, "data_format", None) == "channels_first":
            raise InputError(
                f"Expected layers with their channels last. Received: {layer.name!r} "
                "with data_format='channels_first'"
            )
        if getattr(layer, "weights", ()) or _kind(layer) == "Reshape":
            # A shared layer has the same width in all its uses
            for use in self.uses:
                if use.call.layer is layer:
                    for value, first in zip(values, use.inputs):
                        self._ties.tie(value, first)
        outputs = self._outputs(call, values)
        inner = self.inner.get(id(layer), np.zeros(0, int))
        self.uses.append(Use(call, values, outputs[0], inner))
        return outputs

    def _outputs(self, call: LayerCall, values: list[np.ndarray]) -> list[np.ndarray]:
        layer, kind, shape = call.layer, _kind(call.layer), call.output_shape
        if isinstance(layer, keras.Layer) and layer_width(layer.get_config()):
            return [self._make(call, values[0])]
        if kind == "DepthwiseConv2D":
            return [np.repeat(values[0], layer.depth_multiplier, axis=-1)]
        if hasattr(layer, "weight_channels"):
            return [values[0]]
        if kind == "GroupNormalization":
            self._ties.tie_groups(values[0], values[0], layer.groups)
        if kind == "Normalization" or _is_rescaling_by_channel(layer):
            # Its constants are not weights that could be removed
            self._ties.tie(values[0], np.zeros(1, int))
        weightless = kind == "Normalization" or not getattr(layer, "weights", ())
        if weightless and all(self._ties.is_fixed(value) for value in values):
            return [_fixed(shape)] * call.num_outputs
        if kind == "Concatenate":
            axis = layer.axis % len(shape)
            if axis == len(shape) - 1:
                return [_concatenate(values)]
            return [self._ties.merge(values)]
        if kind in ("Flatten", "Reshape"):
            return [self._reshape(values[0], call)]
        if kind == "Permute":
            return [values[0].transpose([axis - 1 for axis in layer.dims])]
        if kind == "Transpose" and layer.axes and layer.axes[0] in (0, -len(shape)):
            axes = [axis % len(shape) - 1 for axis in layer.axes[1:]]
            return [values[0].transpose(axes)]
        if is_per_channel(layer) and not _is_of_last_axis(layer, len(shape)):
            raise _unknown(call)
        if is_per_channel(layer) or (weightless and not _is_mixing(layer, len(shape))):
            widths = [input_shape[-1] for input_shape in call.input_shapes]
            pairs = zip(values, widths)
            wide = [value for value, width in pairs if width == shape[-1]]
            is_spread = all(width in (1, shape[-1]) for width in widths)
            if wide and is_spread and call.num_outputs == 1:
                return [_with_rank(self._ties.merge(wide), call)]
            if shape[-1] == 1 and len(values) == 1:
                return [_fixed(shape)]
        raise _unknown(call)

    def _make(self, call: LayerCall, value: np.ndarray) -> np.ndarray:
        """The channels of a convolution or dense layer; its first use adds them."""
        layer = call.layer
        if value.size > value.shape[-1]:
            raise InputError(
                f"Expected the same channels at each place before {layer.name!r} of "
                f"type {_kind(layer)} with input {call.input_shapes[0]}. Received: "
                "channels that differ by place, as after a Reshape or Permute; "
                f"{WAY_OUT}"
            )
        if id(layer) not in self.made:
            self.made[id(layer)] = self._ties.add(layer_width(layer.get_config()) or 0)
            num_inner = getattr(layer, getattr(layer, "inner_setting", ""), None)
            if num_inner is not None:
                self.inner[id(layer)] = self._ties.add(num_inner)
        made = self.made[id(layer)]
        if getattr(layer, "groups", 1) > 1:
            self._ties.tie_groups(value, made, layer.groups)
        return made.reshape((1,) * (len(call.output_shape) - 2) + (-1,))

    def _reshape(self, value: np.ndarray, call: LayerCall) -> np.ndarray:
        shape = call.input_shapes[0][1:]
        sizes = [size or 1 for size in shape]
        target = [-1 if size is None else size for size in call.output_shape[1:]]
        value = np.broadcast_to(value, sizes).reshape(target)
        for axis in range(value.ndim - 1):
            first = value.take([0], axis)
            if (value == first).all():
                value = first
        # A row of channels became several rows; each must keep equally many
        self._ties.tie(value, value.reshape(-1, value.shape[-1])[0])
        return value


def last_axis(value: np.ndarray) -> np.ndarray:
    """Channels along the last axis of a channel array, as `Kept.positions` takes it."""
    return value.reshape(-1, value.shape[-1])


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _is_of_last_axis(layer: keras.Layer, rank: int) -> bool:
    axes = np.atleast_1d(getattr(layer, "axis", -1))
    return rank - 1 in axes % rank


def _is_mixing(layer: Any, rank: int) -> bool:
    if _kind(layer) in _MIXING_ALONG_AXIS:
        axis = getattr(layer, "axis", None)
        return axis is None or _is_of_last_axis(layer, rank)
    return _kind(layer) in _MIXING


def _is_rescaling_by_channel(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Rescaling):
        return False
    return bool(np.size(layer.scale) > 1 or np.size(layer.offset) > 1)


def _fixed(shape: Shape) -> np.ndarray:
    return np.zeros((1,) * (len(shape) - 2) + (shape[-1] or 1,), int)


def _concatenate(values: list[np.ndarray]) -> np.ndarray:
    rows = np.broadcast_shapes(*(value.shape[:-1] for value in values))
    wide = [np.broadcast_to(value, (*rows, value.shape[-1])) for value in values]
    return np.concatenate(wide, axis=-1)


def _with_rank(value: np.ndarray, call: LayerCall) -> np.ndarray:
    """The channel array after a layer that treats channels separately, e.g. pooling."""
    if value.size > value.shape[-1]:
        if call.output_shape not in call.input_shapes:
            raise _unknown(call)
        return value
    return value.reshape((1,) * (len(call.output_shape) - 2) + (-1,))


def _unknown(call: LayerCall) -> InputError:
    layer = call.layer
    return InputError(
        "Expected layers whose channels can be followed: convolutions, Dense, "
        "normalisation, activations, pooling, Add, Multiply, Concatenate, Flatten, "
        f"Reshape and the like. Received: {layer.name!r} of type {_kind(layer)} with "
        f"input {', '.join(map(str, call.input_shapes))}; {WAY_OUT}"
    )
