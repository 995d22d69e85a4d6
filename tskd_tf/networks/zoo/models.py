"""Teachers by name: those of Shi et al. 2017 (section 4), and wide residual networks.

The paper gives the widths (20-50-500-10 and 32-32-64-10). Layers, initialisers and
preprocessing are those of BVLC/caffe's `lenet`, `cifar10_full` and `cifar10_quick`,
commit 9b891540. Only Keras's own layers are used, so that a saved model loads without
this package. Caffe's solvers are not reproduced here.

All teachers take raw images, 0 to 255, and give logits.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from tskd_tf.data.images import Images, mean_of_images
from tskd_tf.errors import InputError
from tskd_tf.networks.zoo.wide_resnet import IMAGE_SHAPE, depth_and_width, wide_resnet

# Images of the paper's data sets: (height, width, channels)
IMAGE_SHAPES = {
    "lenet": (28, 28, 1),
    "cifar10_full": (32, 32, 3),
    "cifar10_quick": (32, 32, 3),
}


def lenet(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """LeNet 20-50-500-10: two 5x5 convolutions and two dense layers.

    Its only non-linearities are the max pooling and the ReLU after the first dense
    layer. Weights start from U(−√(3/fan_in), √(3/fan_in)).

    Args:
        image_shape: `(height, width, channels)`; MNIST's is `(28, 28, 1)`. At least
            16 pixels a side.
        num_classes: Number of outputs.
    """
    return keras.Sequential(
        [
            keras.Input(image_shape, name="image"),
            layers.Rescaling(1 / 256, name="scale"),
            layers.Conv2D(20, 5, kernel_initializer="lecun_uniform", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(50, 5, kernel_initializer="lecun_uniform", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(
                500,
                activation="relu",
                kernel_initializer="lecun_uniform",
                name="ip1",
            ),
            layers.Dense(num_classes, kernel_initializer="lecun_uniform", name="ip2"),
        ],
        name="lenet",
    )


def cifar10_full(
    image_shape: tuple[int, int, int],
    num_classes: int,
    mean_image: np.ndarray,
    use_lrn: bool = True,
) -> keras.Model:
    """Caffe's CIFAR-10 network 32-32-64-10: three convolutions and one dense layer.

    Args:
        image_shape: `(height, width, channels)`; CIFAR-10's is `(32, 32, 3)`.
        num_classes: Number of outputs.
        mean_image: Mean of the training images, 0 to 255, shape `image_shape`; it is
            subtracted from every image.
        use_lrn: Whether to use the two within-channel normalisations (LRN). Their alpha
            of 5e-5 makes them close to the identity. Default: True.
    """
    image = keras.Input(image_shape, name="image")
    x = _cifar10_convolutions(image, mean_image, use_lrn)
    x = layers.Flatten(name="flatten")(x)
    logits = layers.Dense(num_classes, kernel_initializer=_normal(0.01), name="ip1")(x)
    return keras.Model(image, logits, name="cifar10_full")


def cifar10_quick(
    image_shape: tuple[int, int, int], num_classes: int, mean_image: np.ndarray
) -> keras.Model:
    """Caffe's quick CIFAR-10 network 32-32-64-64-10: no LRN, two dense layers.

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of outputs.
        mean_image: Mean of the training images, 0 to 255, shape `image_shape`; it is
            subtracted from every image.
    """
    image = keras.Input(image_shape, name="image")
    x = _cifar10_convolutions(image, mean_image, use_lrn=False)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, kernel_initializer=_normal(0.1), name="ip1")(x)
    logits = layers.Dense(num_classes, kernel_initializer=_normal(0.1), name="ip2")(x)
    return keras.Model(image, logits, name="cifar10_quick")


def _cifar10_convolutions(
    image: keras.KerasTensor, mean_image: np.ndarray, use_lrn: bool
) -> keras.KerasTensor:
    centre = layers.Normalization(
        axis=(1, 2, 3),
        mean=mean_image.astype("float32"),
        variance=np.ones_like(mean_image, "float32"),
        name="subtract_mean",
    )
    # Caffe rounds pooled sizes up and averages over the clipped window, as "same" does
    x = _conv("conv1", 32, 1e-4)(centre(image))
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = _within_channel_lrn(x, "norm1") if use_lrn else x
    x = layers.ReLU(name="relu2")(_conv("conv2", 32, 0.01)(x))
    x = layers.AveragePooling2D(3, 2, padding="same", name="pool2")(x)
    x = _within_channel_lrn(x, "norm2") if use_lrn else x
    x = layers.ReLU(name="relu3")(_conv("conv3", 64, 0.01)(x))
    return layers.AveragePooling2D(3, 2, padding="same", name="pool3")(x)


def _conv(name: str, filters: int, stddev: float) -> layers.Layer:
    return layers.Conv2D(
        filters, 5, padding="same", kernel_initializer=_normal(stddev), name=name
    )


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


def _within_channel_lrn(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """y = x · (1 + 5e-5 · mean₃ₓ₃(x²))^(−0.75), zero-padded, the mean always over 9."""
    squares = layers.ZeroPadding2D(1, name=f"{name}_pad")(keras.ops.square(x))
    mean = layers.AveragePooling2D(3, 1, name=f"{name}_mean")(squares)
    return x * keras.ops.power(1.0 + 5e-5 * mean, -0.75)


def build_teacher(
    name: str, images: Images, num_classes: int, use_lrn: bool = True
) -> keras.Model:
    """A teacher for a data set.

    Args:
        name: `lenet`, `cifar10_full` or `cifar10_quick`, which are the paper's; or
            `wrn_DEPTH_WIDTH`, e.g. `wrn_16_4` for depth 16 and width 4.
        images: Training images, shape `(n, height, width, channels)`, 0 to 255.
        num_classes: Number of outputs.
        use_lrn: Whether `cifar10_full` uses LRN. Default: True.

    Raises:
        InputError: If the name is unknown or the images are too small for it.
    """
    height, width, channels = images.shape[1:]
    shape = (height, width, channels)
    check_name(name)
    smallest = 16 if name == "lenet" else 8
    if min(shape[:2]) < smallest:
        raise InputError(
            f"Expected images of at least {smallest}x{smallest} pixels for {name}. "
            f"Received: {shape[0]}x{shape[1]}"
        )
    if numbers := depth_and_width(name):
        return wide_resnet(*numbers, shape, num_classes)
    builders: dict[str, Callable[[], keras.Model]] = {
        "lenet": lambda: lenet(shape, num_classes),
        "cifar10_full": lambda: cifar10_full(
            shape, num_classes, mean_of_images(images), use_lrn
        ),
        "cifar10_quick": lambda: cifar10_quick(
            shape, num_classes, mean_of_images(images)
        ),
    }
    return builders[name]()


def image_shape_of(name: str) -> tuple[int, int, int]:
    """`(height, width, channels)` of the images that a teacher was published with.

    Raises:
        InputError: If there is no teacher of that name.
    """
    check_name(name)
    return IMAGE_SHAPES.get(name, IMAGE_SHAPE)


def check_name(name: str) -> None:
    """Checks the name of a teacher.

    Raises:
        InputError: If there is no teacher of that name.
    """
    if name not in IMAGE_SHAPES and depth_and_width(name) is None:
        raise InputError(
            f"Expected a teacher out of {', '.join(IMAGE_SHAPES)} and wrn_DEPTH_WIDTH "
            f"such as wrn_16_4, or the path of a .keras file. Received: {name!r}"
        )
