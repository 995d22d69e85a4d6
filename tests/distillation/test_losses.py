"""Eq. 5 to 8 against NumPy in float64, edge cases and properties."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tskd_tf.distillation.losses import (
    distillation_loss,
    divergence,
    hard_loss,
    soft_loss,
    softened_log_probabilities,
)

LOGITS = arrays(np.float32, (3, 5), elements=st.floats(-30, 30, width=32))
TEMPERATURES = st.floats(0.5, 20)


def reference_probabilities(logits, temperature):
    scaled = np.asarray(logits, np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def reference_cross_entropy(p, q):
    return -(p * np.log(q)).sum(axis=-1)


@settings(deadline=None)
@given(LOGITS, TEMPERATURES)
def test_softened_probabilities_are_equation_5(logits, temperature):
    got = np.exp(softened_log_probabilities(logits, temperature))
    expected = reference_probabilities(logits, temperature)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@settings(deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_soft_loss_is_equation_6(teacher, student, temperature):
    expected = reference_cross_entropy(
        reference_probabilities(teacher, temperature),
        reference_probabilities(student, temperature),
    )
    got = soft_loss(teacher, student, temperature)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_divergence_is_cross_entropy_less_entropy(target, logits, temperature):
    p, q = (reference_probabilities(z, temperature) for z in (target, logits))
    # Where p is 0 in float64, too, its logarithm is not asked for
    entropy = reference_cross_entropy(p, np.maximum(p, 1e-300))
    got = divergence(target, logits, temperature)
    expected = reference_cross_entropy(p, np.maximum(q, 1e-300)) - entropy
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(LOGITS)
def test_hard_loss_is_equation_6_with_one_hot_labels(student):
    labels = np.array([0, 4, 2])
    expected = reference_cross_entropy(
        np.eye(5)[labels], reference_probabilities(student, 1.0)
    )
    got = hard_loss(labels, student)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("soft_loss_weight", [0.0, 0.25, 0.9, 1.0])
def test_the_mixture_is_equation_7(soft_loss_weight):
    hard, soft = np.array([1.0, 2.0], "f"), np.array([5.0, 7.0], "f")
    got = distillation_loss(hard, soft, soft_loss_weight)
    expected = (1 - soft_loss_weight) * hard + soft_loss_weight * soft
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@settings(deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES, st.floats(-50, 50))
def test_soft_loss_does_not_change_with_a_shift_of_either_row(
    teacher, student, temperature, shift
):
    expected = soft_loss(teacher, student, temperature)
    got = soft_loss(
        teacher + np.float32(shift), student - np.float32(shift), temperature
    )
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@settings(deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_soft_loss_is_smallest_at_the_teacher(teacher, student, temperature):
    at_teacher = soft_loss(teacher, teacher, temperature).numpy()
    elsewhere = soft_loss(teacher, student, temperature).numpy()
    assert (at_teacher <= elsewhere + 1e-4).all()


def test_gradient_is_the_difference_of_probabilities_over_the_temperature():
    generator = np.random.default_rng(0)
    teacher, student = generator.normal(size=(2, 4, 5)).astype("float32")
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = tf.reduce_sum(soft_loss(teacher, student, 3.0))
    expected = (
        reference_probabilities(student, 3.0) - reference_probabilities(teacher, 3.0)
    ) / 3.0
    np.testing.assert_allclose(tape.gradient(loss, student), expected, atol=1e-6)


def test_no_gradient_reaches_the_teacher():
    teacher = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = soft_loss(teacher, tf.constant([[0.5, 0.1]]), 3.0)
    assert tape.gradient(loss, teacher) is None


def test_great_logits_stay_finite():
    teacher = np.array([[1e4, -1e4, 0.0]], "f")
    assert np.isfinite(soft_loss(teacher, -teacher, 1.0)).all()
    assert np.isfinite(hard_loss(np.array([1]), teacher)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_logits_are_softmaxed_in_float32(dtype):
    generator = np.random.default_rng(0)
    logits = tf.cast(generator.normal(size=(2, 64, 100)) * 4, dtype)
    got = soft_loss(logits[0], logits[1], 3.0)
    assert got.dtype == tf.float32
    in_float64 = np.asarray(tf.cast(logits, tf.float64))
    expected = reference_cross_entropy(
        reference_probabilities(in_float64[0], 3.0),
        reference_probabilities(in_float64[1], 3.0),
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_eager_equals_graph():
    generator = np.random.default_rng(0)
    teacher, student = generator.normal(size=(2, 4, 5)).astype("float32")
    np.testing.assert_allclose(
        tf.function(soft_loss)(teacher, student, 3.0),
        soft_loss(teacher, student, 3.0),
        rtol=1e-6,
    )
