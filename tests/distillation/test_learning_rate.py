"""The automatic learning rate: its rule, its warm-up, and that trainings follow it."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from conftest import make_data, make_network
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.data.splits import Split
from tskd_tf.distillation.learning_rate import (
    automatic_learning_rate,
    has_batch_normalization,
    warm_cosine,
)
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.distillation.solvers import CAFFE_SOLVERS, default_learning_rate
from tskd_tf.distillation.training import train_student, train_teacher
from tskd_tf.errors import InputError


@pytest.mark.parametrize(
    ("rate", "has_normalization", "expected"),
    [
        (1.0, False, 0.002),
        (0.25, False, 0.004),
        (0.04, False, 0.01),
        (0.01, False, 0.01),
        (1.0, True, 0.01),
        (0.25, True, 0.02),
        (0.05, True, 0.03),
        (4.0, True, 0.005),
    ],
)
def test_the_rule(rate, has_normalization, expected):
    assert math.isclose(automatic_learning_rate(rate, has_normalization), expected)


@given(st.floats(1e-4, 16), st.floats(1e-4, 16), st.booleans())
def test_thinner_never_means_a_smaller_rate(rate, other, has_normalization):
    thin, wide = sorted((rate, other))
    of_thin = automatic_learning_rate(thin, has_normalization)
    assert of_thin >= automatic_learning_rate(wide, has_normalization) > 0


@pytest.mark.parametrize("num_steps", [1, 9, 10, 57, 1000])
def test_the_rate_rises_for_a_tenth_and_falls_to_0(num_steps):
    schedule = warm_cosine(0.5, num_steps)
    num_warm = num_steps // 10
    for step in range(num_steps + 1):
        if step < num_warm:
            first = 0.5 / num_warm
            expected = first + (0.5 - first) * step / num_warm
        else:
            done = (step - num_warm) / (num_steps - num_warm)
            expected = 0.25 * (1 + math.cos(math.pi * done))
        np.testing.assert_allclose(float(schedule(step)), expected, atol=1e-6)
        assert float(schedule(step)) > 0 or step == num_steps


def test_normalization_is_found_in_nested_models():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    image = keras.Input((4,))
    assert has_batch_normalization(keras.Model(image, inner(image)))
    assert not has_batch_normalization(make_network())


def test_caffes_solvers_have_a_rate_of_their_own():
    for solver, found in CAFFE_SOLVERS.items():
        got = default_learning_rate(solver, make_network(), 0.1)
        assert got == found.learning_rate
    assert default_learning_rate("adam", make_network(), 0.25) == 0.004


class _Rates(keras.callbacks.Callback):
    """The optimiser's learning rate before each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize("rate", [0.25, None], ids=["student", "teacher"])
def test_trainings_follow_it(trained_teacher, small_task, rate):
    recipe = Recipe(learning_rate="auto", epochs=2, batch_size=4, steps_per_execution=1)
    train, validation = (Split(*make_data(n, n)) for n in (80, 16))
    rates = _Rates()
    if rate is None:
        teacher = make_network()
        train_teacher(teacher, train, validation, recipe, verbose=0, callbacks=[rates])
    else:
        transfer = capture(trained_teacher, *train, small_task)
        chosen = Split(*small_task.filter(tuple(validation)))
        train_student(
            trained_teacher, rate, transfer, chosen, small_task, recipe,
            verbose=0, callbacks=[rates],
        )  # fmt: skip
    largest = automatic_learning_rate(rate or 1.0, False)
    expected = [
        float(warm_cosine(largest, len(rates.seen))(i)) for i in range(len(rates.seen))
    ]
    np.testing.assert_allclose(rates.seen, expected, rtol=1e-5)


def test_other_names_are_refused():
    with pytest.raises(InputError, match="learning_rate above 0, or auto.*fast"):
        dataclasses.replace(Recipe(), learning_rate="fast").check()
