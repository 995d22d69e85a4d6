"""Costs counted by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity


def cost_of(*stack, shape=(8, 8, 6)):
    """Cost of the first layer of a stack, flattened into a head of three."""
    head = [layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input(shape), *stack, *head])
    return complexity(model).layers[0]


@pytest.mark.parametrize(
    ("layer", "num_params", "num_macs", "paper_cost"),
    [
        # 3x3 kernels, 6 to 10 channels, 6x6 positions
        (layers.Conv2D(10, 3), 3 * 3 * 6 * 10 + 10, 36 * 540, 540),
        # 4x4 positions by stride, no bias
        (
            layers.Conv2D(10, 3, 2, "same", use_bias=False),
            540,
            16 * 540,
            540,
        ),
        # each of 2 groups sees 3 channels
        (layers.Conv2D(10, 3, groups=2), 3 * 3 * 3 * 10 + 10, 36 * 270, 270),
        # one kernel a channel, and with a multiplier two
        (layers.DepthwiseConv2D(3), 3 * 3 * 6 + 6, 36 * 54, 54),
        (
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            3 * 3 * 12 + 12,
            36 * 108,
            108,
        ),
        # depthwise, then 1x1
        (layers.SeparableConv2D(10, 3), 54 + 60 + 10, 36 * (54 + 60), 54 + 60),
        # every input position spreads over the kernel
        (layers.Conv2DTranspose(10, 3), 540 + 10, 64 * 540, 540),
        (layers.Dense(10), 6 * 10 + 10, 64 * 60, 60),
        (layers.BatchNormalization(), 4 * 6, 0, 0),
        (layers.MaxPooling2D(2), 0, 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_one_layer(layer, num_params, num_macs, paper_cost):
    got = cost_of(layer)
    assert (got.num_params, got.num_macs, got.paper_cost) == (
        num_params,
        num_macs,
        paper_cost,
    )
    assert got.size_bytes == 4 * num_params
    assert got.kind == type(layer).__name__


def test_totals_are_sums_and_match_keras():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    got = complexity(model)
    assert got.num_params == model.count_params() == 40 + 16 + 435
    assert got.num_macs == 36 * 36 + 144 * 3
    assert got.paper_cost == 36 + 432
    assert got.size_bytes == sum(weight.numpy().nbytes for weight in model.weights)
    assert got.num_macs == sum(layer.num_macs for layer in got.layers)


def test_a_shared_layer_multiplies_at_each_use_but_is_stored_once():
    image = keras.Input((8, 8, 2))
    shared = layers.Conv2D(2, 3, padding="same")
    x = shared(layers.MaxPooling2D(2)(shared(image)))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    got = complexity(model)
    kernel = 3 * 3 * 2 * 2
    assert got.num_macs == kernel * (64 + 16) + 32 * 3
    assert got.num_params == model.count_params()


def test_nested_models_count_as_their_layers():
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3)])
    image = keras.Input((8, 8, 1))
    nested = keras.Model(image, layers.Dense(3)(layers.Flatten()(inner(image))))
    flat = keras.Sequential([*inner.layers, layers.Flatten(), layers.Dense(3)])
    flat.build((None, 8, 8, 1))
    assert complexity(nested)[:4] == complexity(flat)[:4]


def test_unknown_multiplications_are_refused_by_name():
    attention = layers.MultiHeadAttention(1, 4, name="mixer")
    image = keras.Input((4, 4, 2))
    x = layers.Reshape((16, 2))(image)
    x = layers.Flatten()(attention(x, x))
    with pytest.raises(InputError, match="mixer.*MultiHeadAttention"):
        complexity(keras.Model(image, layers.Dense(3)(x)))
    y = layers.Flatten()(image)
    product = keras.ops.matmul(y[:, None, :], y[:, :, None])
    with pytest.raises(InputError, match="matmul"):
        complexity(keras.Model(image, layers.Flatten()(product)))


def test_a_free_image_size_is_refused():
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(4, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )
    with pytest.raises(InputError, match="fixed image size"):
        complexity(model)


def test_channels_first_is_refused_rather_than_miscounted():
    layer = layers.Conv2D(4, 3, data_format="channels_first")
    image = keras.Input((3, 8, 8))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(layer(image))))
    with pytest.raises(InputError, match="channels last"):
        complexity(model)


def test_bytes_follow_the_stored_type():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, dtype="float16")]
    )
    assert complexity(model).size_bytes == 2 * (16 * 3 + 3)
    np.testing.assert_equal(model.weights[0].numpy().itemsize, 2)


def test_operations_that_convolve_are_refused_by_name():
    image = keras.Input((4, 4, 2))
    x = keras.ops.conv(image, np.ones((3, 3, 2, 5), "float32"))
    with pytest.raises(InputError, match="'conv' of type Conv"):
        complexity(keras.Model(image, layers.Dense(3)(layers.Flatten()(x))))


def test_a_nested_model_may_be_of_any_size():
    stack = [layers.Conv2D(4, 3, name="inner"), layers.GlobalMaxPooling2D()]
    costs = [
        complexity(
            keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    keras.Sequential([keras.Input((*sides, 1)), *stack]),
                    layers.Dense(3),
                ]
            )
        )
        for sides in ((8, 8), (None, None))
    ]
    assert [cost.num_macs for cost in costs] == [36 * 9 * 4 + 12] * 2


def test_what_has_no_graph_is_refused():
    with pytest.raises(InputError, match="Keras model. Received: str"):
        complexity("lenet")
    with pytest.raises(InputError, match="give it an Input"):
        complexity(keras.Sequential([layers.Dense(3)]))

    class Subclassed(keras.Model):
        def call(self, images):
            return images

    model = Subclassed()
    model(np.zeros((1, 4)))
    with pytest.raises(InputError, match="Subclassed, a subclassed model"):
        complexity(model)


def test_a_nested_model_of_several_sizes_is_refused():
    inner = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(4, 3)])
    image = keras.Input((8, 8, 1))
    halves = [inner(image), inner(layers.AveragePooling2D(2)(image))]
    pooled = [layers.GlobalMaxPooling2D()(half) for half in halves]
    model = keras.Model(image, layers.Dense(3)(layers.Add()(pooled)))
    with pytest.raises(InputError, match="used at one size each"):
        complexity(model)
