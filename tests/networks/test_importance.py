"""Which channels matter: against NumPy, at the edges, and as a property."""

import keras
import numpy as np
import pytest
from conftest import make_data
from example_networks import random_network, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.channels import Channels
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.importance import channel_importance, magnitude
from tskd_tf.networks.width import scale_width

EVERYTHING = Task(range(3), 3)


def dense_network(seed=0):
    """4 pixels → 5 hidden units → 3 logits."""
    stack = [keras.Input((2, 2, 1)), layers.Flatten()]
    stack += [layers.Dense(5, activation="relu"), layers.Dense(3)]
    return randomize(keras.Sequential(stack), seed)


def taylor_in_numpy(model, images, labels, outputs):
    """Squared first-order change of the mean cross-entropy, by hand."""
    first, first_bias, second, second_bias = model.get_weights()
    inputs = images.reshape(len(images), -1).astype(np.float64)
    hidden = np.maximum(inputs @ first + first_bias, 0)
    logits = (hidden @ second + second_bias)[:, outputs]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = powers / powers.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    # Σ w·∂L/∂w of a unit is Σ h·∂L/∂h where the unit is not cut off
    of_hidden = (hidden * (error @ second[:, outputs].T)).sum(axis=0)
    of_output = np.zeros(3)
    of_output[outputs] = (logits * error).sum(axis=0)
    return np.concatenate([of_hidden, of_output]) ** 2


@pytest.mark.parametrize("outputs", [[0, 1, 2], [2, 0]])
def test_taylor_importance_against_numpy(outputs):
    model = dense_network()
    generator = np.random.default_rng(1)
    images = generator.uniform(0, 1, (48, 2, 2, 1)).astype("float32")
    labels = generator.integers(0, len(outputs), 48)
    task = Task(outputs, 3, head="task")
    got = channel_importance(model, task, images, labels)
    # Two batches: of 32 and of 16
    expected = sum(
        taylor_in_numpy(model, images[part], labels[part], outputs)
        for part in (slice(32), slice(32, None))
    )
    np.testing.assert_allclose(got[1:], expected, rtol=1e-4, atol=1e-9)


def test_magnitude_against_numpy():
    model = dense_network()
    first, _, second, _ = map(np.abs, model.get_weights())
    got = magnitude(Channels(model))
    sizes = [kernel.mean(axis=0) / kernel.mean() for kernel in (first, second)]
    np.testing.assert_allclose(got[1:], np.concatenate(sizes), rtol=1e-6)
    by_name = channel_importance(model, EVERYTHING, None, None, "magnitude")
    np.testing.assert_array_equal(by_name, got)


def test_a_layer_of_zeros_has_no_magnitude():
    model = dense_network()
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    np.testing.assert_array_equal(magnitude(Channels(model)), 0)


def test_what_only_other_classes_need_does_not_matter_to_a_task():
    model = dense_network()
    first, first_bias, second, second_bias = model.get_weights()
    second[:3, 0] = second[:3, 1] = 0.0
    model.set_weights([first, np.abs(first_bias), second, second_bias])
    images = np.random.default_rng(1).uniform(0, 1, (32, 2, 2, 1)).astype("float32")
    labels = np.arange(32) % 2
    got = channel_importance(model, Task([0, 1], 3, head="task"), images, labels)
    np.testing.assert_array_equal(got[1:4], 0)
    assert (got[4:6] > 0).any()


@given(st.integers(0, 5))
@settings(max_examples=4, deadline=None)
def test_a_frozen_teacher_in_other_precision_has_the_same_importance(seed):
    choose = np.random.default_rng(seed).choice
    model = randomize(random_network(lambda some: some[choose(len(some))], 3))
    images = np.random.default_rng(1).uniform(0, 1, (40, 12, 12, 3)).astype("float32")
    labels = np.arange(40) % 3
    expected = channel_importance(model, EVERYTHING, images, labels)
    assert (expected >= 0).all() and expected[0] == 0
    model.trainable = False
    got = channel_importance(model, EVERYTHING, images, labels)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-12)


def test_a_measure_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="magnitude, taylor.*'best'"):
        channel_importance(dense_network(), EVERYTHING, None, None, "best")


def test_a_start_from_the_teacher_is_better_than_chance(trained_teacher):
    """At half the width, before any training, on images that nobody saw."""
    images, class_ids = make_data(256, 1)
    task = Task(range(4), 4)
    unseen, labels = make_data(128, 7)
    for measure in ("magnitude", "taylor"):
        importance = channel_importance(
            trained_teacher, task, images, class_ids, measure
        )
        student = scale_width(
            trained_teacher, 0.5, task, initialize="teacher", importance=importance
        )
        assert accuracy(predict_logits(student, unseen), labels) > 0.4


def test_what_does_not_fit_is_refused():
    model, images, labels = dense_network(), np.zeros((4, 2, 2, 1)), np.arange(4) % 3
    head = layers.Softmax()(model.outputs[0])
    for arguments, message in (
        ((keras.Model(model.inputs, head), EVERYTHING, images, labels), "as_logits"),
        ((model, Task(range(4), 4), images, labels), "each of the 4 classes"),
        ((model, EVERYTHING, images[:0], labels[:0]), "images to look at"),
        ((model, EVERYTHING, images[:, :1], labels), r"shape \(n, 2, 2, 1\)"),
        ((model, EVERYTHING, images, labels + 5), "class ids from 0 to 2"),
        ((model, EVERYTHING, images, labels[:2]), r"labels of shape \(4,\)"),
        (("lenet", EVERYTHING, images, labels), "Keras model"),
    ):
        with pytest.raises(InputError, match=message):
            channel_importance(*arguments)
