"""Shifts against their rule, written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.layers.shift import ShiftConv2D, shift_offsets
from tskd_tf.networks.rebuild import load_kept_model, with_policy
from tskd_tf.networks.width import scale_width


def maps(num_channels, height=5, width=6):
    shape = (2, height, width, num_channels)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def reference(images):
    """Pixel by pixel, as the authors' kernel does it."""
    _, height, width, num_channels = images.shape
    moved = np.zeros_like(images)
    for c in range(num_channels):
        dx, dy = c % 3 - 1, c // 3 % 3 - 1
        if c >= 9 * (num_channels // 9):
            dx = dy = 0
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    moved[:, y, x, c] = images[:, y + dy, x + dx, c]
    return moved


@pytest.mark.parametrize("num_channels", [1, 8, 9, 10, 16, 64])
def test_it_moves_what_the_rule_moves(num_channels):
    images = maps(num_channels)
    layer = ShiftConv2D()
    expected = reference(images)
    np.testing.assert_array_equal(layer(images), expected)
    np.testing.assert_array_equal(tf.function(layer)(images), expected)
    assert layer.weights == [] and layer.count_params() == 0
    num_moved = shift_offsets(num_channels).any(axis=1).sum()
    # one direction in nine is none
    assert num_moved == 8 * (num_channels // 9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_values_stay_what_they_are(dtype):
    images = tf.cast(maps(18), dtype)
    moved = ShiftConv2D(dtype=dtype)(images)
    assert moved.dtype == dtype
    np.testing.assert_array_equal(
        tf.cast(moved, "float32"), reference(tf.cast(images, "float32").numpy())
    )


def test_gradients_go_back_to_where_the_values_came_from():
    images = tf.constant(maps(9))
    weights = maps(9)[::-1]
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(ShiftConv2D()(images) * weights)
    # A shift is linear: its gradient adds up to what it adds up to
    product = tf.reduce_sum(tape.gradient(total, images) * images)
    np.testing.assert_allclose(product, total, rtol=1e-5)


def shifted_network(num_channels=18, shape=(8, 8, 3)):
    image = keras.Input(shape)
    x = layers.Conv2D(num_channels, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(12, 1, activation="relu")(ShiftConv2D(name="shift")(x))
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def test_saved_equals_reloaded(tmp_path):
    model, images = shifted_network(), maps(3, 8, 8)
    model.save(tmp_path / "model.keras")
    reloaded = load_kept_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(images), model(images))
    half = with_policy(model, "mixed_bfloat16")
    assert half(images).shape == (2, 4)
    policy = keras.DTypePolicy("mixed_bfloat16")
    copy = ShiftConv2D.from_config(ShiftConv2D(dtype=policy).get_config())
    assert copy.dtype_policy == policy


def test_it_costs_nothing():
    (row,) = [
        row for row in complexity(shifted_network()).layers if row.name == "shift"
    ]
    assert (row.num_params, row.num_macs, row.paper_cost, row.size_bytes) == (0,) * 4


def test_it_is_as_wide_as_what_comes_in():
    student = scale_width(shifted_network(), 0.5)
    assert student.get_layer("shift").output.shape[-1] == 9
    same = scale_width(shifted_network(), 1.0, initialize="teacher")
    assert same.output_shape == (None, 4)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 4, None)])
def test_what_is_no_feature_map_is_refused(shape):
    with pytest.raises(InputError, match="feature maps.*at 'shift'"):
        ShiftConv2D(name="shift")(keras.Input(shape))
