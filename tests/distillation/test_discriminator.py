"""The discriminator and its losses against NumPy in float64."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tskd_tf.distillation.methods.discriminator import (
    adversarial_loss,
    authenticity_loss,
    build_discriminator,
    class_loss,
    discriminator_loss,
)
from tskd_tf.errors import InputError


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.fixture
def outputs():
    """For the logits of a teacher and of a student, five classes; and labels."""
    generator = np.random.default_rng(0)
    of_teacher, of_student = generator.normal(0, 3, (2, 6, 7)).astype("float32")
    return of_teacher, of_student, np.array([0, 4, 2, 2, 1, 3])


def reference_terms(of_teacher, of_student, labels):
    """L_A and L_DS an example, as printed."""
    rows = np.arange(len(labels))
    real, fake = log_softmax(of_teacher[:, 5:])[:, 0], log_softmax(of_student[:, 5:])
    classes = [
        log_softmax(part[:, :5])[rows, labels] for part in (of_teacher, of_student)
    ]
    return real + fake[:, 1], classes[0] + classes[1]


def test_losses_are_those_of_the_paper(outputs):
    of_teacher, of_student, labels = outputs
    l_a, l_ds = reference_terms(*outputs)
    close = {"rtol": 1e-5, "atol": 1e-5}
    got = authenticity_loss(of_teacher, True) + authenticity_loss(of_student, False)
    np.testing.assert_allclose(got, -l_a, **close)
    got = class_loss(of_teacher, labels) + class_loss(of_student, labels)
    np.testing.assert_allclose(got, -l_ds, **close)
    np.testing.assert_allclose(discriminator_loss(*outputs), -(l_a + l_ds) / 2, **close)


@pytest.mark.parametrize("is_saturating", [True, False])
def test_the_students_part_has_the_gradient_of_the_whole(outputs, is_saturating):
    """L_GAN but for what does not hang on the student; by finite differences."""
    of_teacher, of_student, labels = outputs

    def whole(of_student):
        l_a, l_ds = reference_terms(of_teacher, of_student, labels)
        if not is_saturating:
            l_a = -log_softmax(of_student[:, 5:])[:, 0]
        return (l_a - l_ds).sum() / 2

    variable = tf.constant(of_student)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        loss = adversarial_loss(variable, labels, is_saturating)
    assert loss.shape == (6,) and loss.dtype == tf.float32
    expected = np.zeros(of_student.shape)
    for index in np.ndindex(*of_student.shape):
        step = np.zeros(of_student.shape)
        step[index] = 1e-5
        exact = of_student.astype(np.float64)
        expected[index] = (whole(exact + step) - whole(exact - step)) / 2e-5
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, atol=1e-5)


def test_only_the_papers_form_is_unbounded():
    """The discriminator is more and more deceived."""
    outputs = np.zeros((3, 6), "float32")
    outputs[:, -2] = [0, 10, 1000]
    labels = np.zeros(3, int)
    saturating = adversarial_loss(outputs, labels).numpy()
    other = adversarial_loss(outputs, labels, is_saturating=False).numpy()
    assert saturating[2] < saturating[1] - 400 and np.isfinite(saturating).all()
    assert (other >= 0).all() and other[2] <= other[1] < other[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_is_softmaxed_in_float32(outputs, dtype):
    of_teacher, of_student = (tf.cast(part, dtype) for part in outputs[:2])
    got = discriminator_loss(of_teacher, of_student, outputs[2])
    rounded = [tf.cast(part, tf.float64).numpy() for part in (of_teacher, of_student)]
    l_a, l_ds = reference_terms(*rounded, outputs[2])
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, -(l_a + l_ds) / 2, rtol=1e-5)


# 31 thousand for 100 classes, as from the paper with the last layer counted
@pytest.mark.parametrize(
    ("num_outputs", "depth", "num_params"),
    [(100, 3, 31_102), (10, 3, 412), (10, 4, 542), (10, 1, 152)],
)
def test_parameters(num_outputs, depth, num_params):
    model = build_discriminator(num_outputs, depth)
    assert model.output_shape == (None, num_outputs + 2)
    sizes = (math.prod(weight.shape) for weight in model.trainable_variables)
    assert sum(sizes) == num_params


def reference_discriminator(model, logits, depth):
    """In training without dropout, in float64."""

    def normalize(x, name):
        layer = model.get_layer(name)
        scaled = (x - x.mean(0)) / np.sqrt(x.var(0) + layer.epsilon)
        return scaled * layer.gamma.numpy() + layer.beta.numpy()

    def linear(x, name):
        kernel, bias = model.get_layer(name).get_weights()
        return x @ kernel.astype(np.float64) + bias

    x = normalize(np.asarray(logits, np.float64), "normalize")
    for i in range(1, depth):
        branch = normalize(linear(x, f"linear_{i}"), f"normalize_{i}")
        x = np.maximum(x + branch, 0)
    return linear(x, "verdict")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_blocks_are_residual(depth):
    generator = np.random.default_rng(1)
    model = build_discriminator(4, depth, dropout=0.0)
    for weight in model.trainable_variables:
        weight.assign(generator.normal(1, 0.3, weight.shape))
    logits = generator.normal(3, 5, (8, 4)).astype("float32")
    expected = reference_discriminator(model, logits, depth)
    got = model(logits, training=True)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_dropout_is_in_training_only():
    model = build_discriminator(4, dropout=0.5)
    logits = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    first, second = (model(logits, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(model(logits), model(logits))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth at least 1.*depth=0"),
        ({"dropout": 1.0}, "below 1.*dropout=1.0"),
        ({"dropout": -0.1}, "from 0 to"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build_discriminator(10, **settings)
