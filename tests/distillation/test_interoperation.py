"""Our loss in `keras.distillation.Distiller`, Keras's losses in ours: same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_network
from keras import distillation
from test_distiller import assert_same_weights, copy_of, reference_loss

import tskd_tf
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.soft_targets import transfer_set
from tskd_tf.errors import InputError


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def soft_reference(name, teacher_logits, student_logits, temperature):
    """What a soft loss gives for a batch, in float64."""
    t, s = (np.asarray(z, np.float64) for z in (teacher_logits, student_logits))
    log_p, log_q = log_softmax(t / temperature), log_softmax(s / temperature)
    p = np.exp(log_p)
    return {
        "ours": -(p * log_q).sum(axis=-1).mean(),
        "kl": temperature**2 * (p * (log_p - log_q)).sum(axis=-1).mean(),
        "mse": (((t - s) / temperature) ** 2).mean(),
        "features": ((t - s) ** 2).mean(),
    }[name]


def make_loss(name, temperature):
    return {
        "ours": lambda: tskd_tf.SoftLoss(temperature),
        "kl": lambda: distillation.LogitsDistillation(
            temperature, loss=keras.losses.KLDivergence()
        ),
        "mse": lambda: distillation.LogitsDistillation(temperature, loss="mse"),
        "features": distillation.FeatureDistillation,
    }[name]()


@pytest.mark.parametrize("scale_soft_loss", [False, True])
def test_keras_distiller_with_our_loss_is_equation_8(arrays, teacher, scale_soft_loss):
    images, labels = arrays
    student = make_network()
    twin = copy_of(student)
    logits = student(images).numpy()
    loss = tskd_tf.SoftLoss(4.0, scale_soft_loss)
    theirs = distillation.Distiller(teacher, student, loss, student_loss_weight=0.3)
    theirs.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    arguments = {"batch_size": 64, "shuffle": False, "verbose": 0}
    logs = theirs.fit(images, labels, **arguments).history
    _, hard, soft = reference_loss(teacher(images), logits, labels, 4.0, 0.7)
    soft *= 16 if scale_soft_loss else 1
    assert logs["distillation_loss"][0] == pytest.approx(soft, rel=1e-5)
    expected = 0.3 * hard + 0.7 * soft
    assert logs["total_loss"][0] == pytest.approx(expected, rel=1e-5)
    # The same step as ours
    ours = Distiller(twin, teacher)
    ours.compile(keras.optimizers.SGD(0.1), 4.0, 0.7, scale_soft_loss)
    ours.fit(images, labels, **arguments)
    assert_same_weights(student.get_weights(), twin.get_weights(), atol=1e-6)


def test_keras_distiller_with_our_loss_is_saved_and_reloaded(arrays, teacher, tmp_path):
    loss = tskd_tf.SoftLoss(4.0, scale_soft_loss=True)
    theirs = distillation.Distiller(teacher, make_network(), loss)
    expected = theirs(arrays[0])
    theirs.save(tmp_path / "theirs.keras")
    loaded = keras.saving.load_model(tmp_path / "theirs.keras")
    np.testing.assert_array_equal(loaded(arrays[0]), expected)
    (reloaded,) = loaded.distillation_losses
    assert isinstance(reloaded, tskd_tf.SoftLoss)
    assert reloaded.get_config() == {"temperature": 4.0, "scale_soft_loss": True}
    with pytest.raises(InputError, match="temperature above 0"):
        tskd_tf.SoftLoss(0.0)


@pytest.mark.parametrize("name", ["ours", "kl", "mse", "features"])
@pytest.mark.parametrize("is_stored", [False, True], ids=["live", "stored"])
def test_their_losses_in_our_distiller(arrays, teacher, small_task, name, is_stored):
    student = tskd_tf.scale_width(teacher, 0.5, small_task)
    images, labels = small_task.filter(arrays)
    teacher_logits = small_task.select_logits(teacher(images).numpy())
    logits = student(images).numpy()
    distiller = Distiller(student, teacher, task=small_task)
    distiller.compile(
        keras.optimizers.SGD(0.1),
        soft_loss_weight=0.7,
        soft_loss=make_loss(name, 4.0),
    )
    data = (
        transfer_set(arrays, teacher, small_task)
        if is_stored
        else tf.data.Dataset.from_tensors((images, labels))
    )
    logs = distiller.fit(data, verbose=0, shuffle=False).history
    _, hard, _ = reference_loss(teacher_logits, logits, labels, 4.0, 0.7)
    soft = soft_reference(name, teacher_logits, logits, 4.0)
    assert logs["soft_loss"][0] == pytest.approx(soft, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-4)


@pytest.mark.parametrize("name", ["ours", "kl"])
def test_a_distiller_with_such_a_loss_goes_on_after_reloading(
    arrays, teacher, small_task, tmp_path, name
):
    student = tskd_tf.scale_width(teacher, 0.5, small_task)
    distiller = Distiller(student, task=small_task)
    distiller.compile(keras.optimizers.SGD(0.1), soft_loss=make_loss(name, 4.0))
    distiller.save(tmp_path / "distiller.keras")
    reloaded = keras.saving.load_model(tmp_path / "distiller.keras")
    histories = [
        model.fit(
            transfer_set(arrays, teacher, small_task, 8),
            epochs=2,
            verbose=0,
            shuffle=False,
        ).history
        for model in (distiller, reloaded)
    ]
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-5), key


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: distillation.LogitsDistillation(), "for probabilities.*KLDivergence"),
        (
            lambda: distillation.LogitsDistillation(
                loss=keras.losses.CategoricalCrossentropy(from_logits=True)
            ),
            "for probabilities",
        ),
        (
            lambda: distillation.FeatureDistillation("mse", "conv2d", "conv2d"),
            "inner layers, whose values are not stored",
        ),
        (lambda: "kl_divergence", "DistillationLoss. Received: str"),
        (keras.losses.KLDivergence, "DistillationLoss. Received: KLDivergence"),
    ],
)
def test_losses_that_do_not_fit_are_refused(teacher, make, message):
    with pytest.raises(InputError, match=message):
        Distiller(make_network(), teacher).compile(soft_loss=make())


def test_what_does_not_go_with_such_a_loss_is_refused(arrays, teacher):
    distiller = Distiller(make_network(), teacher)
    for settings in ({"temperature": 4.0}, {"scale_soft_loss": True}):
        with pytest.raises(InputError, match="which has its own"):
            distiller.compile(soft_loss=tskd_tf.SoftLoss(), **settings)
    distiller.compile(soft_loss=tskd_tf.SoftLoss())
    with pytest.raises(InputError, match="no sample or class weights with SoftLoss"):
        distiller.fit(*arrays, class_weight={0: 2.0}, verbose=0)
    with pytest.raises(InputError, match="no sample or class weights"):
        distiller.fit(*arrays, sample_weight=np.ones(64), verbose=0)
