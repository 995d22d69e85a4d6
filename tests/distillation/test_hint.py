"""Hints: the loss against NumPy, what it moves, and when it ends."""

import keras
import numpy as np
import pytest
from test_distiller import reference_loss

from tskd_tf.distillation.methods.hint import HintDistiller, hint_loss
from tskd_tf.errors import InputError
from tskd_tf.networks.width import scale_width

RATE = 0.1


def network(width, padding="valid"):
    """Two stages for 8x8 images; without padding its maps are smaller."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(width, 3, padding=padding, activation="relu", name="guided"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )


def map_of(model, images):
    layer = model.get_layer("guided")
    return np.asarray(keras.Model(model.inputs[0], layer.output)(images), np.float64)


def compiled(student, teacher, hint_steps, **settings):
    distiller = HintDistiller(student, teacher)
    distiller.compile(
        keras.optimizers.SGD(RATE),
        hint_steps=hint_steps,
        run_eagerly=True,
        **settings,
    )
    return distiller


def test_a_hint_is_half_of_the_mean_squared_distance():
    generator = np.random.default_rng(0)
    hint, guided = generator.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    expected = 0.5 * np.square(hint.astype(float) - guided).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(hint_loss(hint, guided), expected, rtol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_step_on_hints(arrays, padding):
    """The kernel of the regressor makes as many places of the student's map."""
    images, labels = arrays
    teacher, student = network(6), network(3, padding)
    distiller = compiled(student, teacher, hint_steps=1)
    regressor = distiller.regressor
    size = 1 if padding == "valid" else 3
    assert regressor.kernel.shape == (size, size, 3, 6)
    kernel = regressor.kernel.numpy()
    hint, guided = map_of(teacher, images), map_of(student, images)
    windows = np.lib.stride_tricks.sliding_window_view(guided, (size, size), (1, 2))
    distance = np.einsum("nijcab,abcd->nijd", windows, kernel) - hint
    gradient = np.einsum("nijd,nijcab->abcd", distance, windows) / distance.size
    before, taught = student.get_weights(), teacher.get_weights()

    logs = distiller.train_on_batch(images, labels, return_dict=True)

    assert logs["hint_loss"] == pytest.approx(
        0.5 * np.square(distance).mean(), rel=1e-4
    )
    assert logs["loss"] == pytest.approx(logs["hint_loss"])
    np.testing.assert_allclose(regressor.kernel, kernel - RATE * gradient, atol=1e-6)
    moved = [np.abs(a - b).max() for a, b in zip(student.get_weights(), before)]
    assert all(change > 0 for change in moved[:4])
    # The layers behind the stage
    assert moved[4:] == [0, 0]
    for a, b in zip(teacher.get_weights(), taught, strict=True):
        np.testing.assert_array_equal(a, b)


def test_after_the_hints_it_is_equation_8(arrays, monkeypatch):
    images, labels = arrays
    teacher, student = network(6), network(3)
    twin = keras.models.clone_model(student)
    distiller = compiled(student, teacher, hint_steps=2)
    for _ in range(2):
        distiller.train_on_batch(images, labels)
    twin.set_weights(student.get_weights())
    regressor = distiller.regressor.get_weights()
    # The teacher's maps are not asked for any more
    monkeypatch.setattr(distiller, "maps_of_teacher", None)
    logs = distiller.train_on_batch(images, labels, return_dict=True)
    plain = compiled(twin, teacher, hint_steps=0)
    expected = plain.train_on_batch(images, labels, return_dict=True)
    assert logs == pytest.approx(expected, rel=1e-5)
    assert logs["hint_loss"] == 0
    for a, b in zip(student.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(distiller.regressor.get_weights(), regressor, strict=True):
        np.testing.assert_array_equal(a, b)


def test_stored_logits_are_used(arrays):
    """Eq. 8 is of the stored ones, not of what the live teacher gives."""
    inputs, labels = with_logits(arrays)
    student = network(3)
    distiller = compiled(student, network(6), hint_steps=0, soft_loss_weight=0.7)
    expected, *_ = reference_loss(
        inputs["teacher_logits"], student(inputs["images"]), labels, 3.0, 0.7
    )
    logs = distiller.train_on_batch(inputs, labels, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def with_logits(arrays):
    images, labels = arrays
    logits = np.random.default_rng(0).normal(0, 5, (len(images), 4))
    return {"images": images, "teacher_logits": logits.astype(np.float32)}, labels


def test_what_gives_no_hints_is_refused(arrays, teacher):
    student = scale_width(teacher, 0.5)
    with pytest.raises(InputError, match="live teacher, as HintDistiller.*none"):
        HintDistiller(student)
    with pytest.raises(InputError, match="equally many stages.*2 and 1"):
        HintDistiller(student, network(4))
    with pytest.raises(InputError, match="stages from 0 to 0.*stages=.1."):
        HintDistiller(student, teacher, stages=[1])
    with pytest.raises(InputError, match="one stage for hints"):
        HintDistiller(network(3), network(4), stages=[0, 1])
    with pytest.raises(InputError, match="at least as large.*choose another stage"):
        HintDistiller(network(3), network(4, "same"))
    with pytest.raises(InputError, match="hint_steps from 0"):
        compiled(student, teacher, hint_steps=-1)
    distiller = compiled(network(3), network(4), hint_steps=1)
    with pytest.raises(InputError, match="maps of shapes.*2, 2, 4"):
        distiller.set_teacher(network(5))
    distiller.set_teacher(None)
    with pytest.raises(InputError, match="live teacher.*set_teacher"):
        distiller.train_on_batch(*with_logits(arrays))
