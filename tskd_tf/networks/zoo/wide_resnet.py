"""Wide residual networks, teachers and students of Xu, Hsu and Huang (1709.00513).

Source: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016. WRN-d-m has d
layers and m times the width. Only Keras's own layers are used, so that a saved model
loads without this package. The networks take raw images, 0 to 255, and give logits.
"""

import re

import keras
from keras import layers

from tskd_tf.errors import InputError

IMAGE_SHAPE = (32, 32, 3)
_STEM_WIDTH = 16
_NUM_GROUPS = 3
# PyTorch's defaults, as in the paper. They also suit short trainings, because moving
# statistics adapt within few steps
_MOMENTUM, _EPSILON = 0.9, 1e-5


def wide_resnet(
    depth: int,
    width: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float = 0.3,
) -> keras.Model:
    """WRN-depth-width: a convolution, three groups of residual blocks, a dense layer.

    The branch of a block is BN, ReLU, 3x3 convolution, BN, ReLU, dropout, 3x3
    convolution. The block adds its input or, if shapes differ, a 1x1 convolution of
    BN and ReLU of the input. The groups have 16·width, 32·width and 64·width channels.
    The second and third group begin with a stride of 2. Weights start from He's normal
    distribution.

    Args:
        depth: Number of layers, 6n + 4 with n ≥ 1 blocks per group.
        width: Factor of the number of channels, ≥ 1.
        image_shape: `(height, width, channels)`; CIFAR's is `(32, 32, 3)`.
        num_classes: Number of outputs.
        dropout: Dropout rate in [0, 1). Default: 0.3, as in the paper.

    Raises:
        InputError: If depth, width or dropout is out of range.

    Example:

    >>> wide_resnet(16, 4, (32, 32, 3), 10).count_params()
    2752506
    """
    if depth < 10 or (depth - 4) % 6:
        raise InputError(
            "Expected a depth of 6n + 4 from 10 on: 10, 16, 22, … Received: "
            f"depth={depth}"
        )
    if width < 1:
        raise InputError(f"Expected a width of at least 1. Received: width={width}")
    if not 0.0 <= dropout < 1.0:
        raise InputError(
            f"Expected dropout from 0 to below 1. Received: dropout={dropout}"
        )
    image = keras.Input(image_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    x = _convolution(_STEM_WIDTH, 3, 1, "stem")(x)
    for group in range(_NUM_GROUPS):
        filters = _STEM_WIDTH * width * 2**group
        for block in range((depth - 4) // 6):
            stride = 2 if group > 0 and block == 0 else 1
            x = _block(
                x, filters, stride, dropout, f"group{group + 1}_block{block + 1}"
            )
    x = layers.GlobalAveragePooling2D(name="pool")(_activated(x, "last"))
    logits = layers.Dense(num_classes, kernel_initializer="he_normal", name="head")(x)
    return keras.Model(image, logits, name=f"wrn_{depth}_{width}")


def _block(
    x: keras.KerasTensor, filters: int, stride: int, dropout: float, name: str
) -> keras.KerasTensor:
    activated = _activated(x, f"{name}_1")
    branch = _convolution(filters, 3, stride, f"{name}_conv1")(activated)
    branch = _activated(branch, f"{name}_2")
    branch = layers.Dropout(dropout, name=f"{name}_drop")(branch)
    branch = _convolution(filters, 3, 1, f"{name}_conv2")(branch)
    if stride > 1 or x.shape[-1] != filters:
        x = _convolution(filters, 1, stride, f"{name}_shortcut")(activated)
    return layers.Add(name=f"{name}_add")([x, branch])


def _activated(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    normalization = layers.BatchNormalization(
        momentum=_MOMENTUM, epsilon=_EPSILON, name=f"{name}_norm"
    )
    return layers.ReLU(name=f"{name}_relu")(normalization(x))


def _convolution(filters: int, size: int, stride: int, name: str) -> layers.Layer:
    return layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )


def depth_and_width(name: str) -> tuple[int, int] | None:
    """`"wrn_16_4"` → `(16, 4)`; None for other names."""
    numbers = re.fullmatch(r"wrn_([0-9]{1,3})_([0-9]{1,3})", name)
    return (int(numbers[1]), int(numbers[2])) if numbers else None
