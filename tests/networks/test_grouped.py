"""Grouped convolutions against Keras's own, which XLA computes."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tskd_tf.networks.layers.grouped import GroupedConv2D


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strides": 2, "padding": "same"},
        {"dilation_rate": 2},
        {"filters": 24, "groups": 12},
    ],
)
def test_values_and_gradients_are_those_of_keras(settings):
    settings = {"filters": 8, "groups": 4, "use_bias": False, **settings}
    images = np.random.default_rng(0).normal(size=(2, 9, 8, 12)).astype("float32")
    ours, theirs = (
        kind(kernel_size=3, **settings) for kind in (GroupedConv2D, layers.Conv2D)
    )
    inputs = tf.constant(images)
    theirs(inputs), ours(inputs)
    ours.set_weights(theirs.get_weights())
    found = []
    for layer in (ours, theirs):

        @tf.function
        def run(inputs, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs)
                total = tf.reduce_sum(outputs**2)
            return outputs, *tape.gradient(total, [inputs, layer.kernel])

        found.append(run(inputs))
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_it_is_near(policy):
    images = tf.random.normal((2, 8, 8, 12))
    half = GroupedConv2D(8, 3, groups=4, use_bias=False, dtype=policy)
    whole = GroupedConv2D(8, 3, groups=4, use_bias=False)
    half(images), whole(images)
    half.set_weights(whole.get_weights())

    @tf.function
    def run(layer):
        with tf.GradientTape() as tape:
            outputs = layer(images)
            total = tf.reduce_sum(outputs)
        return outputs, tape.gradient(total, layer.kernel)

    for got, expected in zip(run(half), run(whole), strict=True):
        error = np.abs(tf.cast(got, "float32") - expected).max()
        assert error < 0.05 * np.abs(expected).max()
