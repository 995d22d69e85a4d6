"""The rounding of int8, in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import make_data, make_network

from tskd_tf.export.deployment import Deployment
from tskd_tf.export.fake_quantization import (
    FakeQuantized,
    quantization_aware,
    round_activations,
    round_kernel,
    without_fake_quantization,
)
from tskd_tf.export.litert import write_litert_int8


def numpy_round_kernel(kernel, axes):
    """Number by number, by the quantisation specification of LiteRT."""
    rounded = np.zeros_like(kernel)
    others = [axis for axis in range(kernel.ndim) if axis not in axes]
    for channel in np.ndindex(*(kernel.shape[axis] for axis in others)):
        at = [slice(None)] * kernel.ndim
        for axis, position in zip(others, channel):
            at[axis] = position
        values = kernel[tuple(at)]
        scale = np.abs(values).max() / np.float32(127)
        if scale > 0:
            steps = np.clip(np.round(values / scale), -127, 127)
            rounded[tuple(at)] = scale * steps
    return rounded


def numpy_round_activations(values):
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    if low == high:
        return values
    scale = np.float32((high - low) / 255)
    zero_point = np.round(-128 - low / scale)
    steps = np.clip(np.round(values / scale) + zero_point, -128, 127)
    return scale * (steps - zero_point)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 4), (0,)), ((3, 3, 2, 6), (0, 1, 2)), ((3, 3, 4, 2), (0, 1))],
    ids=["dense", "convolution", "depthwise"],
)
def test_kernels_against_numpy(shape, axes):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    kernel[..., 0] *= 1e-3
    kernel[..., -1] = 0
    got = round_kernel(tf.constant(kernel), axes).numpy()
    np.testing.assert_allclose(got, numpy_round_kernel(kernel, axes), rtol=1e-5)
    assert (got != kernel).any()


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (0, 5), (2, 9), (-7, -3), (0, 0)])
def test_activations_against_numpy(low, high):
    values = np.random.default_rng(0).uniform(low, high, (16, 9)).astype(np.float32)
    got = round_activations(tf.constant(values)).numpy()
    np.testing.assert_allclose(got, numpy_round_activations(values), atol=1e-5)
    assert len(np.unique(got)) <= 256
    # 0, with which LiteRT pads, is a step
    with_zero = np.append(values.ravel(), np.float32(0))
    assert round_activations(tf.constant(with_zero)).numpy()[-1] == 0


def test_gradients_pass_as_if_nothing_were_rounded():
    values = tf.constant([[0.1, -2.0], [3.0, 0.7]])
    weights = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    for function in (round_activations, lambda kernel: round_kernel(kernel, (0,))):
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(weights * function(values))
        np.testing.assert_array_equal(tape.gradient(total, values), weights)


def test_kernels_are_those_of_the_file(trained_teacher, arrays, tmp_path):
    path = str(tmp_path / "student.tflite")
    write_litert_int8(trained_teacher, path, Deployment("logits", [], arrays[0]))
    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    stored = [
        interpreter.get_tensor(tensor["index"])
        * tensor["quantization_parameters"]["scales"][:, None]
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8
        and len(tensor["quantization_parameters"]["scales"]) == 16
    ]
    kernel = trained_teacher.layers[-2].kernel.value
    (found,) = stored
    expected = round_kernel(tf.convert_to_tensor(kernel), (0,)).numpy().T
    step = np.abs(expected).max(axis=1, keepdims=True) / 127
    # But for numbers halfway between two steps
    assert (np.abs(found - expected) < 0.1 * step).mean() > 0.99
    assert (np.abs(found - expected) < 1.1 * step).all()


def test_a_copy_computes_nearly_alike_and_back_again_the_same(trained_teacher):
    images, _ = make_data(64)
    copy = quantization_aware(trained_teacher)
    expected = trained_teacher(images).numpy()
    error = np.abs(copy(images).numpy() - expected).max()
    assert 0 < error < 0.05 * np.abs(expected).max()
    plain = without_fake_quantization(copy)
    assert [type(layer) for layer in plain.layers] == [
        type(layer) for layer in trained_teacher.layers
    ]
    np.testing.assert_array_equal(plain(images).numpy(), expected)


def test_rounded_is_what_the_file_keeps():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name="fused")(image)
    x = keras.layers.BatchNormalization(name="fused_too")(x)
    x = keras.layers.ReLU(name="kept")(x)
    y = keras.layers.Conv2D(4, 1, name="before_a_sum")(x)
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.DepthwiseConv2D(3, name="before_a_pooling")(x)
    x = keras.layers.SeparableConv2D(4, 3, name="separable")(x)
    x = keras.layers.GlobalAveragePooling2D(name="untouched")(x)
    student = keras.Model(image, keras.layers.Dense(3, name="head")(x))
    copy = quantization_aware(student)
    wrapped = [layer for layer in copy.layers if isinstance(layer, FakeQuantized)]
    assert {layer.name: layer.rounds_outputs for layer in wrapped} == {
        "fused": False,
        "fused_too": False,
        "kept": True,
        "before_a_sum": True,
        "sum": True,
        "before_a_pooling": True,
        "separable": True,
        "head": True,
    }
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1))
    expected = student(images).numpy()
    plain = without_fake_quantization(copy)
    np.testing.assert_array_equal(plain(images).numpy(), expected)


def test_training_moves_the_weights_and_a_file_keeps_them(tmp_path):
    copy = quantization_aware(make_network())
    before = copy.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    copy.compile("sgd", loss)
    copy.train_on_batch(*make_data(32))
    assert all((a != b).any() for a, b in zip(before, copy.get_weights()))
    copy.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")
    images, _ = make_data(8)
    np.testing.assert_array_equal(loaded(images).numpy(), copy(images).numpy())
