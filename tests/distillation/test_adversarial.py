"""The adversarial step: who is moved by what, and its ways of running."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import IMAGE_SHAPE, make_network
from keras import layers
from test_discriminator import log_softmax, reference_discriminator

from tskd_tf.data.task import Task
from tskd_tf.distillation.batch import Batch
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.adversarial import AdversarialDistiller, l1_loss
from tskd_tf.distillation.soft_targets import transfer_set
from tskd_tf.errors import InputError
from tskd_tf.networks.width import scale_width


def sgd(learning_rate=0.05):
    return keras.optimizers.SGD(learning_rate)


def adam():
    return keras.optimizers.Adam(0.01)


def network_with_state(seed=1, dropout=0.3):
    """With all that training mode changes: statistics, and random masks."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(12),
            layers.BatchNormalization(momentum=0.5),
            layers.ReLU(),
            layers.Dropout(dropout),
            layers.Dense(4),
        ]
    )


def make_distiller(student, *optimizers, dropout=0.0, seed=2, **settings):
    keras.utils.set_random_seed(seed)
    distiller = AdversarialDistiller(student, discriminator_dropout=dropout)
    distiller.compile(*(optimizers or (sgd(), sgd())), **settings)
    return distiller


@pytest.fixture
def inputs(arrays, teacher):
    """Images with their teacher's logits, and labels."""
    images, labels = arrays
    return {"images": images, "teacher_logits": 3 * teacher(images).numpy()}, labels


def values(variables):
    return [np.array(variable) for variable in variables]


def are_equal(first, second):
    return [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]


def assert_close(first, second, atol=1e-6):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def cross_entropy(logits, labels):
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def test_l1_is_the_sum_over_the_outputs(inputs):
    generator = np.random.default_rng(0)
    teacher, student = generator.normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_allclose(
        l1_loss(teacher, student), np.abs(teacher - student).sum(-1), rtol=1e-5
    )
    assert l1_loss(tf.cast(teacher, "float16"), student).dtype == tf.float32


@pytest.mark.parametrize("is_saturating", [True, False])
def test_one_step_is_the_papers(inputs, is_saturating):
    """First the discriminator, then the student against the new one."""
    both, labels = inputs
    student = make_network()
    distiller = make_distiller(
        student,
        hard_loss_weight=0.5,
        l1_loss_weight=0.25,
        adversarial_loss_weight=2.0,
        is_saturating=is_saturating,
    )
    before = student(both["images"]).numpy()
    logits = np.concatenate([both["teacher_logits"], before])
    discriminator = distiller.discriminator
    outputs = reference_discriminator(discriminator, logits, 3)
    num_teacher = len(labels)
    authenticity = np.repeat([0, 1], num_teacher)
    classes = np.concatenate([labels, labels])
    of_both = cross_entropy(outputs[:, 4:], authenticity)
    of_both += cross_entropy(outputs[:, :4], classes)

    logs = distiller.train_on_batch(both, labels, return_dict=True)

    # A mean over the images, of which each is judged twice
    expected = of_both.sum() / 2 / num_teacher
    assert logs["discriminator_loss"] == pytest.approx(expected, rel=1e-4)
    outputs = reference_discriminator(discriminator, logits, 3)[num_teacher:]
    fake, real = (
        cross_entropy(outputs[:, 4:], np.full(num_teacher, which)) for which in (1, 0)
    )
    deceit = (-fake if is_saturating else real) + cross_entropy(outputs[:, :4], labels)
    hard, deceit = cross_entropy(before, labels).mean(), deceit.mean() / 2
    distance = np.abs(before - both["teacher_logits"]).sum(-1).mean()
    assert logs["adversarial_loss"] == pytest.approx(deceit, rel=1e-4)
    assert logs["hard_loss"] == pytest.approx(hard, rel=1e-4)
    assert logs["l1_loss"] == pytest.approx(distance, rel=1e-4)
    loss = 0.5 * hard + 0.25 * distance + 2 * deceit
    assert logs["loss"] == pytest.approx(loss, rel=1e-4)


def test_each_step_moves_its_own_network_once(inputs):
    student = network_with_state()
    distiller = make_distiller(student, sgd(0.0), sgd(), dropout=0.3)
    discriminator = distiller.discriminator
    normalization = student.layers[3]
    normalized = keras.Model(student.inputs[0], normalization.input)(
        inputs[0]["images"]
    )
    weights, judges = values(student.trainable_variables), values(
        discriminator.trainable_variables
    )
    distiller.train_on_batch(*inputs)
    assert all(are_equal(weights, values(student.trainable_variables)))
    assert not any(are_equal(judges, values(discriminator.trainable_variables)))
    # From 0, momentum 0.5, by the pass of one step and not by that of each
    expected = normalized.numpy().mean(0) / 2
    np.testing.assert_allclose(normalization.moving_mean, expected, atol=1e-5)

    distiller = make_distiller(student, sgd(), sgd(0.0), dropout=0.3)
    weights, judges = values(student.trainable_variables), values(
        distiller.discriminator.trainable_variables
    )
    distiller.train_on_batch(*inputs)
    assert not any(are_equal(weights, values(student.trainable_variables)))
    assert all(are_equal(judges, values(distiller.discriminator.trainable_variables)))


def test_the_logits_judged_are_those_of_the_students_step(inputs):
    """With the same masks of dropout; and no random state is used up for it."""
    distiller = make_distiller(network_with_state())
    images, labels = inputs[0]["images"], inputs[1]
    batch = Batch(images, labels, None, inputs[0]["teacher_logits"])
    before = values(distiller.student.variables)
    _, judged = distiller.compute_discriminator_losses(batch)
    assert all(are_equal(before, values(distiller.student.variables)))
    judges = values(distiller.discriminator.variables)
    _, corrected = distiller.compute_losses(batch)
    np.testing.assert_array_equal(judged, corrected)
    assert all(are_equal(judges, values(distiller.discriminator.variables)))
    _, next_one = distiller.compute_losses(batch)
    assert np.abs(next_one - corrected).max() > 1e-3


def test_no_gradient_reaches_the_teacher_nor_the_student_that_is_judged(inputs):
    distiller = make_distiller(make_network())
    teacher_logits = tf.constant(inputs[0]["teacher_logits"])
    batch = Batch(inputs[0]["images"], inputs[1], None, teacher_logits)
    student = distiller.student.trainable_variables
    for compute, others in (
        (distiller.compute_discriminator_losses, [teacher_logits, *student]),
        (distiller.compute_losses, [teacher_logits]),
    ):
        with tf.GradientTape() as tape:
            tape.watch(teacher_logits)
            losses, _ = compute(batch)
            objective = tf.add_n([tf.reduce_sum(loss) for loss in losses.values()])
        sources = [getattr(other, "value", other) for other in others]
        assert tape.gradient(objective, sources) == [None] * len(others)


def test_the_deceit_alone_teaches_the_student(inputs):
    """The gradient goes through the discriminator, which is a constant there."""
    distiller = make_distiller(make_network(), hard_loss_weight=0.0, l1_loss_weight=0.0)
    before = values(distiller.student.trainable_variables)
    distiller.train_on_batch(*inputs)
    assert not any(are_equal(before, values(distiller.student.trainable_variables)))


def test_the_labels_alone_are_the_hard_label_control(inputs):
    student = make_network()
    twin = keras.models.clone_model(student)
    twin.set_weights(student.get_weights())
    weights = {"l1_loss_weight": 0.0, "adversarial_loss_weight": 0.0}
    distiller = make_distiller(student, **weights)
    plain = Distiller(twin)
    plain.compile(sgd(), soft_loss_weight=0.0)
    for each in (distiller, plain):
        each.fit(*inputs, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_close(student.get_weights(), twin.get_weights())


@pytest.mark.parametrize(
    ("settings", "dropout"),
    # XLA draws other masks
    [
        ({"run_eagerly": True}, 0.3),
        ({"steps_per_execution": 3}, 0.3),
        ({"jit_compile": True}, 0.0),
    ],
    ids=["eager", "several steps a call", "XLA"],
)
def test_every_way_of_running_is_the_same(inputs, settings, dropout):
    results = []
    for changes in ({}, settings):
        student = network_with_state(dropout=dropout)
        distiller = make_distiller(student, dropout=dropout, **changes)
        history = distiller.fit(
            *inputs, batch_size=16, epochs=2, shuffle=False, verbose=0
        ).history
        results.append((history, distiller.get_weights()))
    (expected, weights), (got, same) = results
    assert_close(weights, same, atol=1e-4)
    for name in expected:
        assert got[name] == pytest.approx(expected[name], rel=1e-3), name


def test_saved_in_mid_training_it_goes_on_undisturbed(inputs, tmp_path):
    """Both optimisers and networks; of dropout Keras keeps no random state."""

    def train(distiller, epochs):
        history = distiller.fit(
            *inputs, batch_size=16, epochs=epochs, shuffle=False, verbose=0
        )
        return history.history

    settings = {"l1_loss_weight": 0.5, "is_saturating": False, "metrics": ["accuracy"]}
    undisturbed, distiller = (
        make_distiller(network_with_state(dropout=0.0), adam(), adam(), **settings)
        for _ in range(2)
    )
    train(distiller, 2)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(loaded, AdversarialDistiller)
    assert loaded.get_compile_config() == distiller.get_compile_config()
    assert int(loaded.discriminator_optimizer.iterations) == 8
    got = train(loaded, 2)
    expected = {name: part[2:] for name, part in train(undisturbed, 4).items()}
    for name, part in expected.items():
        assert got[name] == pytest.approx(part, rel=1e-4), name
    assert_close(loaded.get_weights(), undisturbed.get_weights())


def test_how_the_discriminator_is_built_is_saved_too(tmp_path, small_task, teacher):
    student = scale_width(teacher, 0.5, small_task)
    distiller = AdversarialDistiller(
        student, task=small_task, discriminator_depth=2, discriminator_dropout=0.1
    )
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert not loaded.compiled
    assert loaded.task.get_config() == small_task.get_config()
    assert loaded.discriminator.count_params() == distiller.discriminator.count_params()
    assert loaded.discriminator.get_layer("drop_1").rate == 0.1
    assert_close(loaded.get_weights(), distiller.get_weights(), atol=0.0)


def test_a_live_teacher_and_stored_logits_of_a_task_are_alike(arrays, teacher):
    task = Task([2, 0], 4, head="task")
    results = []
    for given in (None, teacher):
        # Before the data, whose order hangs on it, too
        keras.utils.set_random_seed(2)
        data = transfer_set(arrays, teacher, task, 16, seed=3)
        if given is not None:
            data = data.map(lambda inputs, labels: (inputs["images"], labels))
        student = scale_width(teacher, 0.5, task)
        distiller = AdversarialDistiller(student, given, task)
        distiller.compile(sgd(), sgd())
        distiller.fit(data, verbose=0, shuffle=False)
        results.append(distiller.get_weights())
    assert_close(*results, atol=1e-5)


def test_sample_weights_weigh_both_steps(inputs):
    """Labels of images that weigh nothing do not matter."""
    both, labels = inputs
    weights = np.where(labels < 2, 2.0, 0.0)
    results = []
    for wrong in (labels, np.where(labels < 2, labels, 5 - labels), 3 - labels):
        distiller = make_distiller(network_with_state())
        distiller.train_on_batch(both, wrong, sample_weight=weights)
        results.append(distiller.get_weights())
    assert_close(*results[:2])
    assert not all(are_equal(results[0], results[2]))


def test_mixed_float16_scales_the_students_loss_only(arrays, trained_teacher):
    student = scale_width(trained_teacher, 0.5, dtype_policy="mixed_float16")
    distiller = make_distiller(student, adam(), adam(), metrics=["accuracy"])
    scaled = keras.optimizers.LossScaleOptimizer
    assert isinstance(distiller.optimizer, scaled)
    assert not isinstance(distiller.discriminator_optimizer, scaled)
    data = transfer_set(arrays, trained_teacher, batch_size=16)
    history = distiller.fit(data, epochs=20, verbose=0, shuffle=False).history
    assert history["accuracy"][-1] > 0.8


def test_the_discriminator_is_float32_whatever_the_policy(inputs):
    logits = inputs[0]["teacher_logits"] + 1000
    expected = make_distiller(make_network()).discriminator(logits, training=True)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        discriminator = make_distiller(make_network()).discriminator
        np.testing.assert_array_equal(discriminator(logits, training=True), expected)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 4.0}, "no temperature.*Received: temperature"),
        ({"soft_loss_weight": 0.5}, "Received: soft_loss_weight"),
        ({"l1_loss_weight": -1.0}, "l1_loss_weight from 0 on"),
        ({"hard_loss_weight": float("nan")}, "hard_loss_weight from 0 on"),
        ({"loss": "mse"}, "no loss"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        AdversarialDistiller(make_network()).compile(**settings)


def test_two_networks_need_two_optimizers():
    one = sgd()
    with pytest.raises(InputError, match="the same SGD for both"):
        AdversarialDistiller(make_network()).compile(one, one)
    AdversarialDistiller(make_network()).compile("sgd", "sgd")


# Replicas must be set up before TensorFlow starts, hence another process
TWO_REPLICAS = """
import contextlib
import json

import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
configuration = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [configuration, configuration])

import keras
import numpy as np
from conftest import make_data, make_network
from tskd_tf.distillation.methods.adversarial import AdversarialDistiller

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
images, labels = make_data(15)
logits = np.random.default_rng(0).normal(size=(15, 4)).astype(np.float32) * 3
results = []
for scope in (contextlib.nullcontext(), strategy.scope()):
    with scope:
        keras.utils.set_random_seed(1)
        distiller = AdversarialDistiller(make_network(), discriminator_dropout=0.0)
        distiller.compile(keras.optimizers.SGD(0.05), keras.optimizers.SGD(0.05))
    before = distiller.get_weights()
    # The last batch is of seven, four on one replica and three on the other
    history = distiller.fit(
        {"images": images, "teacher_logits": logits}, labels,
        batch_size=8, shuffle=False, verbose=0,
    )
    moved = [a - b for a, b in zip(distiller.get_weights(), before)]
    moved = np.concatenate([part.ravel() for part in moved]).tolist()
    results.append({"moved": moved, "logs": history.history})
print(json.dumps(results))
"""


@pytest.mark.long
def test_two_replicas_are_one():
    completed = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    one, two = json.loads(completed.stdout.splitlines()[-1])
    np.testing.assert_allclose(two["moved"], one["moved"], atol=1e-5)
    assert np.abs(one["moved"]).max() > 1e-2
    for name, expected in one["logs"].items():
        assert two["logs"][name] == pytest.approx(expected, rel=1e-4), name
