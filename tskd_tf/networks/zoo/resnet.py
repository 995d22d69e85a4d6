"""Residual networks with cheap blocks for small images.

Blocks and structure are those of Xie et al. 2019 (arXiv 1909.13063). They follow
ResNet-56 for CIFAR-10 in the authors' code (`OD-cheap-convolution`, `shiftresnet.py`).
The plain network of He et al. 2016, section 4.2, is available for comparison.
"""

import keras
import numpy as np
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.layers.grouped import GroupedConv2D
from tskd_tf.networks.layers.shift import ShiftConv2D

KINDS = ("plain", "shift", "depthwise", "grouped")
_STAGE_WIDTHS = (16, 32, 64)
# Mean and standard deviation of CIFAR-10's colour channels, for pixels from 0 to 1
_MEAN = (0.4914, 0.4822, 0.4465)
_DEVIATION = (0.2023, 0.1994, 0.2010)


def cheap_resnet(
    kind: str,
    groups: int | None = None,
    depth: int = 56,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
) -> keras.Model:
    """A residual network whose 3x3 convolutions, except the first, are cheap ones.

    The branch of a block applies these layers twice: a spatial operation, a 1x1
    convolution, batch normalisation, ReLU. The block adds its input, or a 1x1
    convolution of it if shapes differ. No ReLU follows the sum. Spatial operations have
    stride 1; the second 1x1 convolution takes a stride.

    The `"plain"` network is that of He et al., with ReLU after the sum and shortcuts
    without weights. Unlike the others, it cannot be thinned by `scale_width`.

    Args:
        kind: The spatial operation: `"shift"`, `"depthwise"` or `"grouped"`; or
            `"plain"` for blocks of two 3x3 convolutions.
        groups: Number of groups of `"grouped"`, a divisor of 16 (the width of the first
            stage). None for other kinds.
        depth: Number of layers, 6n + 2 for n ≥ 1 blocks in each of three stages.
            Default: 56.
        image_shape: `(height, width, 3)` in pixels; each side a multiple of 4. Default:
            `(32, 32, 3)`.
        num_classes: Number of outputs. Default: 10.

    Returns:
        A model that takes raw images, 0 to 255, and gives logits. Kernels start from
        N(0, 2/fan_in).

    Raises:
        InputError: If an argument is out of range, or the kind has no groups.
    """
    _check_arguments(kind, groups, depth, image_shape)
    image = keras.Input(image_shape, name="image")
    x = layers.Normalization(
        mean=255 * np.array(_MEAN), variance=(255 * np.array(_DEVIATION)) ** 2
    )(image)
    x = _normalized(_convolution(16, 3, name="stem")(x), "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, width in enumerate(_STAGE_WIDTHS, 1):
        for number in range(1, (depth - 2) // 6 + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            name = f"stage{stage}_block{number}"
            if kind == "plain":
                x = _plain_block(x, width, strides, name)
            else:
                x = _cheap_block(x, kind, groups or 1, width, strides, name)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(num_classes, name="head")(x)
    return keras.Model(image, logits, name=f"resnet{depth}_{kind}")


def _check_arguments(
    kind: str, groups: int | None, depth: int, image_shape: tuple[int, int, int]
) -> None:
    if kind not in KINDS:
        raise InputError(
            f"Expected a kind out of {', '.join(KINDS)}. Received: {kind!r}"
        )
    fits = groups is not None and groups >= 1 and _STAGE_WIDTHS[0] % groups == 0
    if fits != (kind == "grouped") or (groups is not None and not fits):
        raise InputError(
            "Expected groups that divide 16 with grouped, and none with other kinds. "
            f"Received: groups={groups} with {kind!r}"
        )
    if depth < 8 or depth % 6 != 2:
        raise InputError(f"Expected a depth of 8, 14, 20, … Received: {depth}")
    height, width, channels = image_shape
    if height % 4 or width % 4 or min(height, width) < 4 or channels != 3:
        raise InputError(
            "Expected images of three channels and sides that are multiples of 4. "
            f"Received: {tuple(image_shape)}"
        )


def _cheap_block(
    x: keras.KerasTensor, kind: str, groups: int, width: int, strides: int, name: str
) -> keras.KerasTensor:
    branch, shortcut = x, x
    for number, step in enumerate((1, strides), 1):
        part = f"{name}_{number}"
        branch = _spatial(branch, kind, groups, part)
        branch = _convolution(width, 1, step, name=f"{part}_pointwise")(branch)
        branch = layers.ReLU(name=f"{part}_relu")(_normalized(branch, part))
    if x.shape != branch.shape:
        part = f"{name}_shortcut"
        shortcut = _normalized(_convolution(width, 1, strides, name=part)(x), part)
    return layers.Add(name=f"{name}_add")([branch, shortcut])


def _spatial(
    x: keras.KerasTensor, kind: str, groups: int, name: str
) -> keras.KerasTensor:
    if kind == "shift":
        return ShiftConv2D(name=f"{name}_shift")(x)
    if kind == "grouped":
        name = f"{name}_grouped"
        return _convolution(x.shape[-1], 3, groups=groups, name=name)(x)
    return layers.DepthwiseConv2D(
        3,
        padding="same",
        use_bias=False,
        # Keras's default computes the fan over all channels, so kernels start too small
        depthwise_initializer=keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5),
        name=f"{name}_depthwise",
    )(x)


def _plain_block(
    x: keras.KerasTensor, width: int, strides: int, name: str
) -> keras.KerasTensor:
    branch = _convolution(width, 3, strides, name=f"{name}_1")(x)
    branch = layers.ReLU(name=f"{name}_1_relu")(_normalized(branch, f"{name}_1"))
    branch = _convolution(width, 3, name=f"{name}_2")(branch)
    branch = _normalized(branch, f"{name}_2")
    if strides > 1:
        # Option A of He et al.: every second pixel, and additional channels of zeros
        x = layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)
        missing = width - x.shape[-1]
        borders = [(0, 0)] * 3 + [(missing // 2, missing - missing // 2)]
        x = keras.ops.pad(x, borders)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([branch, x]))


def _convolution(
    filters: int, size: int, strides: int = 1, groups: int = 1, name: str = ""
) -> layers.Layer:
    kind = layers.Conv2D if groups == 1 else GroupedConv2D
    return kind(
        filters,
        size,
        strides,
        padding="same",
        groups=groups,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )


def _normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(name=f"{name}_norm")(x)
