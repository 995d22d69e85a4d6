"""Convolutions by few dominant kernels: their size, their start, their width."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from example_networks import randomize
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.export.fake_quantization import (
    quantization_aware,
    without_fake_quantization,
)
from tskd_tf.networks.channels import Channels
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.importance import magnitude
from tskd_tf.networks.layers.dominant import DominantConv2D
from tskd_tf.networks.layers.low_rank import depthwise_factors, low_rank_factors
from tskd_tf.networks.rebuild import load_kept_model, with_policy
from tskd_tf.networks.width import distinct_rates, scale_width

# size, channels, filters, plain, reading, rank or multiplier, weights: from the
# table of the design document
TABLE = [
    (3, 64, 64, 36_864, "A", 8, 5_120),
    (3, 64, 64, 36_864, "A", 16, 10_240),
    (3, 64, 64, 36_864, "B", 1, 4_672),
    (3, 64, 64, 36_864, "B", 2, 9_344),
    (5, 32, 32, 25_600, "A", 8, 6_656),
    (5, 32, 32, 25_600, "B", 1, 1_824),
    (5, 32, 32, 25_600, "B", 2, 3_648),
    (5, 32, 64, 51_200, "A", 16, 13_824),
    (5, 32, 64, 51_200, "B", 1, 2_848),
    (5, 32, 64, 51_200, "B", 2, 5_696),
    (5, 20, 50, 25_000, "A", 12, 6_600),
    (5, 20, 50, 25_000, "B", 1, 1_500),
    (5, 20, 50, 25_000, "B", 2, 3_000),
]


def of_reading(reading, size):
    return {"reading": reading, "rank" if reading == "A" else "multiplier": size}


@pytest.mark.parametrize("k, channels, filters, plain, reading, size, weights", TABLE)
def test_sizes_are_those_of_the_table(
    k, channels, filters, plain, reading, size, weights
):
    image = keras.Input((8, 8, channels))
    settings = {"strides": 2, "padding": "same", "use_bias": False}
    dominant = DominantConv2D(filters, k, **settings, **of_reading(reading, size))
    for layer, expected in (
        (layers.Conv2D(filters, k, **settings), plain),
        (dominant, weights),
    ):
        (row,) = complexity(keras.Model(image, layer(image))).layers
        assert (row.num_params, row.paper_cost) == (expected, expected)
        # Both kernels at each of the 4x4 places of the output
        assert row.num_macs == 16 * expected


def random_kernel(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_the_error_of_a_rank_is_what_its_singular_values_leave(rank):
    kernel = random_kernel(3, 2, 4, 12)
    first, second = low_rank_factors(kernel, rank)
    product = first.reshape(-1, rank) @ second[0, 0]
    values = np.linalg.svd(kernel.reshape(-1, 12), compute_uv=False)
    error = np.sum((product - kernel.reshape(-1, 12)) ** 2)
    np.testing.assert_allclose(error, np.sum(values[rank:] ** 2), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(first), np.linalg.norm(second))


@pytest.mark.parametrize("multiplier", [1, 2, 6])
def test_the_error_by_channel_is_what_its_singular_values_leave(multiplier):
    kernel = random_kernel(3, 2, 4, 12)
    first, second = depthwise_factors(kernel, multiplier)
    assert first.shape == (3, 2, 4, multiplier)
    second = second.reshape(4, multiplier, 12)
    for channel in range(4):
        plain = kernel[:, :, channel].reshape(6, 12)
        product = first[:, :, channel].reshape(6, multiplier) @ second[channel]
        values = np.linalg.svd(plain, compute_uv=False)
        np.testing.assert_allclose(
            np.sum((product - plain) ** 2), np.sum(values[multiplier:] ** 2), atol=1e-5
        )


@pytest.mark.parametrize("settings", [{}, {"strides": 2}, {"dilation_rate": 2}])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("reading, size", [("A", 10), ("B", 9)])
def test_of_full_rank_it_is_the_plain_convolution(reading, size, padding, settings):
    settings = {**settings, "padding": padding, "activation": "tanh"}
    images = random_kernel(2, 9, 8, 4)
    plain = layers.Conv2D(10, 3, **settings, bias_initializer="uniform")
    expected = plain(images)
    dominant = DominantConv2D(10, 3, **settings, **of_reading(reading, size))
    assert dominant.compute_output_shape(images.shape) == expected.shape
    dominant(images)
    dominant.start_from(*plain.get_weights())
    np.testing.assert_allclose(dominant(images), expected, atol=1e-5)
    np.testing.assert_allclose(tf.function(dominant)(images), expected, atol=1e-5)


def dominant_network(reading, size):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, activation="relu")(image)
    x = DominantConv2D(16, 3, activation="relu", **of_reading(reading, size))(x)
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    return randomize(model)


@pytest.mark.parametrize("reading, size", [("A", 8), ("B", 2)])
def test_students_are_thinner_inside_too(reading, size):
    model, images = dominant_network(reading, size), random_kernel(2, 8, 8, 3)
    same = scale_width(model, 1.0, initialize="teacher")
    np.testing.assert_allclose(same(images), model(images), atol=1e-5)
    thin = scale_width(model, 0.5, initialize="teacher").layers[2]
    assert thin.filters == 8
    assert (thin.rank, thin.multiplier) == ((4, 1) if reading == "A" else (None, 2))
    channels = Channels(model)
    assert np.isfinite(magnitude(channels)).all()
    assert distinct_rates(model, [0.5, 1.0]) == [0.5, 1.0]


def test_of_kernels_between_the_first_stay():
    """They are in the order of their singular values."""
    model = dominant_network("A", 8)
    kernel = model.layers[2].kernel.numpy()
    channels = Channels(model)
    importance = np.zeros(channels.num_channels)
    for made in channels.made.values():
        importance[made] = -np.arange(len(made))
    student = scale_width(model, 0.5, initialize="teacher", importance=importance)
    np.testing.assert_array_equal(student.layers[2].kernel, kernel[:, :, :6, :4])


@pytest.mark.parametrize("reading, size", [("A", 8), ("B", 2)])
def test_saved_equals_reloaded_in_any_precision(reading, size, tmp_path):
    model, images = dominant_network(reading, size), random_kernel(2, 8, 8, 3)
    model.save(tmp_path / "model.keras")
    reloaded = load_kept_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(images), model(images))
    half = with_policy(model, "mixed_bfloat16")
    np.testing.assert_allclose(half(images), model(images), rtol=0.1, atol=0.1)
    rounded = quantization_aware(model)
    assert np.abs(rounded(images) - model(images)).max() > 0
    plain = without_fake_quantization(rounded)
    np.testing.assert_array_equal(plain(images), model(images))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"reading": "C"}, "reading out of A, B. Received: 'C'"),
        ({"reading": "A"}, "rank of at least 1 with reading A.*rank=None"),
        ({"reading": "A", "rank": 0}, "rank=0"),
        ({"rank": 3}, "none with B. Received: rank=3"),
        ({"multiplier": 0}, "multiplier=0"),
        ({"padding": "causal"}, "valid or same. Received: 'causal'"),
        ({"strides": (1, 2)}, "same stride in both directions"),
        ({"kernel_size": (1, 2, 3)}, "kernel_size of one or two numbers"),
    ],
)
def test_arguments_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DominantConv2D(**{"filters": 4, "kernel_size": 3, **settings})


@pytest.mark.parametrize(
    "factors, largest", [(low_rank_factors, 12), (depthwise_factors, 6)]
)
@pytest.mark.parametrize("excess", [0, 1])
def test_more_kernels_than_there_are_is_refused(factors, largest, excess):
    size = largest + 1 if excess else 0
    with pytest.raises(InputError, match=f"from 1 to {largest}.*Received: {size}"):
        factors(random_kernel(3, 2, 4, 12), size)
