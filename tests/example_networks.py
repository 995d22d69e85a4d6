"""Networks for the tests: random weights, random graphs."""

import keras
import numpy as np
from keras import layers


def randomize(model, seed=0):
    """Gives every weight another value, biases and moving statistics included."""
    generator = np.random.default_rng(seed)
    weights = []
    for weight in model.weights:
        value = generator.normal(0, 1 / np.sqrt(max(1, np.prod(weight.shape[:-1]))))
        value = value + generator.normal(0, 0.3, weight.shape) / np.sqrt(
            np.prod(weight.shape[:-1]) or 1
        )
        is_positive = weight.name in ("gamma", "moving_variance", "scale")
        weights.append(np.abs(value) + 0.5 if is_positive else value)
    model.set_weights(weights)
    return model


def random_network(choose, num_classes=4, has_layer_norm=True):
    """A classifier of branches drawn at random, for 12x12 images of three channels.

    Args:
        choose: Given a list, picks an entry: a hypothesis draw, or `random.choice`.
        num_classes: Outputs.
        has_layer_norm: Whether layers may normalise over channels.
    """
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(choose([4, 6, 8, 12]), 3, padding="same")(image)
    for _ in range(choose([1, 2, 3, 4])):
        x = choose(_BLOCKS if has_layer_norm else _BLOCKS[:-1])(x, choose)
        x = layers.Activation(choose(["relu", "swish"]))(x)
    if choose([True, False]):
        x = layers.Flatten()(layers.MaxPooling2D(4)(x))
        x = layers.Dense(choose([5, 9]), activation="relu")(x)
    else:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(num_classes)(x))


def _convolution(x, choose):
    groups = choose([1, 2, x.shape[-1]])
    x = layers.Conv2D(choose([1, 2]) * x.shape[-1], 3, groups=groups, padding="same")(x)
    return layers.BatchNormalization()(x)


def _separable(x, choose):
    depth = choose([1, 2])
    x = layers.DepthwiseConv2D(3, depth_multiplier=depth, padding="same")(x)
    return layers.SeparableConv2D(choose([6, 8]), 3, depth_multiplier=depth)(x)


def _residual(x, choose):
    branch = layers.Conv2D(choose([4, 10]), 1, activation="relu")(x)
    branch = layers.Conv2D(x.shape[-1], 3, padding="same")(branch)
    return choose([layers.Add(), layers.Average(), layers.Maximum()])([x, branch])


def _concatenated(x, choose):
    width = choose([3, 5])
    branches = [layers.Conv2D(width, size, padding="same")(x) for size in (1, 3)]
    whole = layers.Concatenate()(choose([branches, [x, *branches], [x, x]]))
    if choose([True, False]):
        whole = layers.Add()([whole, layers.Conv2D(whole.shape[-1], 1)(x)])
    return whole


def _squeeze_and_excitation(x, choose):
    gate = layers.GlobalAveragePooling2D(keepdims=choose([True, False]))(x)
    gate = layers.Reshape((1, 1, x.shape[-1]))(gate)
    gate = layers.Conv2D(choose([2, 3]), 1, activation="relu")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def _transposed(x, choose):
    x = layers.Conv2DTranspose(choose([4, 7]), 2, strides=2)(x)
    return layers.PReLU(shared_axes=[1, 2])(layers.AveragePooling2D(2)(x))


def _shared(x, choose):
    shared = layers.Conv2D(x.shape[-1], 3, padding="same")
    return layers.Add()([shared(layers.ReLU()(shared(x))), x])


def _nested(x, choose):
    inner = keras.Input(x.shape[1:])
    width = choose([6, 8])
    model = keras.Model(inner, layers.Conv2D(width, 3, padding="same")(inner))
    return model(x)


def _normalized(x, choose):
    x = layers.Conv2D(8, 1)(x)
    return choose(
        [
            layers.LayerNormalization(),
            layers.LayerNormalization(axis=[1, 2, 3]),
            layers.GroupNormalization(2),
            layers.UnitNormalization(),
        ]
    )(x)


_BLOCKS = [
    _convolution,
    _separable,
    _residual,
    _concatenated,
    _squeeze_and_excitation,
    _transposed,
    _shared,
    _nested,
    _normalized,
]
