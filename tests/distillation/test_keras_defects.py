"""Twenty defects of `keras.distillation.Distiller` (Keras 3.15.1) that ours has not.

One test, or a small group, a defect. Each shows both sides wherever Keras has the
feature at all: what ours does, against NumPy, and what Keras does instead.
"""

import json
import os
import subprocess
import sys
import types
import zipfile

import h5py
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras import distillation

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller, Update
from tskd_tf.distillation.losses import distillation_loss, hard_loss, soft_loss
from tskd_tf.distillation.soft_targets import transfer_set
from tskd_tf.errors import InputError

NUM_EXAMPLES = 12
NUM_CLASSES = 5
LEARNING_RATE = 0.1
# Keras clips what it takes for probabilities at this value
EPSILON = 1e-7


@keras.saving.register_keras_serializable("test_keras_defects")
class CallCounter(keras.layers.Layer):
    """The identity; counts how often it runs, not how often it is traced."""

    def build(self, input_shape):
        self.count = self.add_weight(
            name="count", shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, inputs):
        self.count.assign_add(1)
        return inputs


def network(
    width=4,
    num_outputs=NUM_CLASSES,
    seed=1,
    activation=None,
    regularizer=None,
    batch_norm=False,
    counted=False,
    name=None,
):
    layers = keras.layers
    inputs = tensors = keras.Input((8, 8, 1))
    if counted:
        tensors = CallCounter(name="counter")(tensors)
    convolution = layers.Conv2D(
        width, 3, kernel_regularizer=regularizer, name="convolution"
    )
    tensors = convolution(tensors)
    if batch_norm:
        tensors = layers.BatchNormalization(name="normalization")(tensors)
    tensors = layers.ReLU(name="features")(tensors)
    tensors = layers.GlobalAveragePooling2D()(tensors)
    head = layers.Dense(num_outputs, activation=activation, name="head")
    model = keras.Model(inputs, head(tensors), name=name)
    # Far from uniform outputs, of both signs, so that wrong formulas show
    generator = np.random.default_rng(seed)
    convolution.set_weights(
        [generator.normal(size=weight.shape) * 0.3 for weight in convolution.weights]
    )
    head.set_weights([generator.normal(size=weight.shape) for weight in head.weights])
    return model


def make_images(num_examples=NUM_EXAMPLES):
    generator = np.random.default_rng(0)
    return generator.normal(size=(num_examples, 8, 8, 1)).astype(np.float32)


def make_labels(num_examples=NUM_EXAMPLES):
    return np.arange(num_examples) % NUM_CLASSES


def sgd(learning_rate=LEARNING_RATE):
    return keras.optimizers.SGD(learning_rate)


def ours(student, teacher=None, task=None, **settings):
    distiller = Distiller(student, teacher, task=task)
    distiller.compile(**{"optimizer": sgd(), "jit_compile": False, **settings})
    return distiller


def theirs(student, teacher, losses=None, loss=None, optimizer=None, **settings):
    """Keras' distiller in its working form: loss objects, not names."""
    if losses is None:
        losses = distillation.LogitsDistillation(loss=keras.losses.KLDivergence())
    distiller = distillation.Distiller(teacher, student, losses, **settings)
    distiller.compile(
        optimizer or sgd(),
        loss=loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return distiller


def fit(distiller, images, labels, **arguments):
    """One batch an epoch, in order; → the logs of each epoch."""
    defaults = {"batch_size": len(images), "shuffle": False, "verbose": 0}
    return distiller.fit(images, labels, **{**defaults, **arguments}).history


def fit_once(distiller, images, labels, **arguments):
    """One training step; its logs are of the weights before it."""
    logs = fit(distiller, images, labels, **arguments)
    return {name: values[0] for name, values in logs.items()}


def evaluate(distiller, images, labels):
    return distiller.evaluate(
        images, labels, batch_size=len(images), verbose=0, return_dict=True
    )


def outputs_of(model, images):
    return np.asarray(model(images, training=False), np.float64)


def log_softmax(logits, temperature=1.0):
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def softmax(logits, temperature=1.0):
    return np.exp(log_softmax(logits, temperature))


def hard_reference(labels, logits):
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def soft_reference(teacher_logits, student_logits, temperature):
    targets = softmax(teacher_logits, temperature)
    return -(targets * log_softmax(student_logits, temperature)).sum(axis=-1)


def loss_reference(labels, teacher_logits, logits, temperature=3.0, weight=0.9):
    hard = hard_reference(labels, logits)
    soft = soft_reference(teacher_logits, logits, temperature)
    return (1 - weight) * hard + weight * soft


def divergence_reference(p, q):
    p, q = np.clip(p, EPSILON, 1.0), np.clip(q, EPSILON, 1.0)
    return (p * np.log(p / q)).sum(axis=-1)


def clipped_cross_entropy_reference(labels, outputs):
    """What a cross entropy that expects probabilities makes of anything else."""
    return hard_reference(labels, np.log(np.clip(outputs, EPSILON, 1 - EPSILON)))


def convolution_reference(model, images):
    """What the convolution gives, shape `(batch, 6, 6, width)`."""
    kernel, bias = (
        np.asarray(weight, np.float64)
        for weight in model.get_layer("convolution").weights
    )
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (3, 3), (1, 2))
    return np.einsum("nijab,abk->nijk", windows, kernel[:, :, 0]) + bias


def assert_same_weights(first, second, **tolerance):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_allclose(one, other, **{"rtol": 0, **tolerance})


def assert_close(value, expected, rtol=1e-5):
    np.testing.assert_allclose(value, expected, rtol=rtol)


def test_01_soft_loss_is_computed_on_probabilities():
    """A loss named by a string is computed on clipped raw logits, without τ²."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    teacher_logits = outputs_of(teacher, images)
    logits = outputs_of(student, images)

    logs = fit_once(ours(student, teacher), images, labels)

    expected = soft_reference(teacher_logits, logits, 3.0).mean()
    assert_close(logs["soft_loss"], expected)

    wrong = theirs(network(), teacher, distillation.LogitsDistillation())
    value = evaluate(wrong, images, labels)["distillation_loss"]
    right = 9 * divergence_reference(softmax(teacher_logits, 3), softmax(logits, 3))
    assert_close(value, divergence_reference(teacher_logits / 3, logits / 3).mean())
    assert abs(value - right.mean()) > 0.5


def test_01_negative_logits_have_a_gradient():
    """Where the student's logits are negative the default soft loss has no gradient."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2)
    students = [network(), network()]
    for student in students:
        kernel, bias = student.get_layer("head").get_weights()
        student.get_layer("head").set_weights([0 * kernel, bias - 9])
    before = students[0].get_weights()
    gradient = softmax(before[-1], 3.0) - softmax(outputs_of(teacher, images), 3.0)

    fit(ours(students[0], teacher, soft_loss_weight=1.0), images, labels)

    moved = students[0].get_weights()[-1] - before[-1]
    np.testing.assert_allclose(
        moved, -LEARNING_RATE * gradient.mean(axis=0) / 3.0, atol=1e-6
    )

    default = distillation.LogitsDistillation()
    fit(theirs(students[1], teacher, default, student_loss_weight=0.0), images, labels)
    assert_same_weights(students[1].get_weights(), before)


def test_02_hard_loss_is_computed_on_logits():
    """The documented recipe's `sparse_categorical_crossentropy` takes probabilities."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    logits = outputs_of(student, images)
    expected = hard_reference(labels, logits).mean()
    name = "sparse_categorical_crossentropy"

    logs = fit_once(ours(student, teacher), images, labels)

    assert_close(logs["hard_loss"], expected)
    with pytest.raises(InputError, match="Expected no loss"):
        Distiller(student, teacher).compile(loss=name)

    wrong = theirs(network(), teacher, loss=name)
    value = evaluate(wrong, images, labels)["student_loss"]
    assert_close(value, clipped_cross_entropy_reference(labels, logits).mean(), 1e-3)
    assert abs(value - expected) > 0.5


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_03_probabilities_are_refused(activation):
    """Probabilities are accepted, and the soft loss soft-maxes them again."""
    squashed = network(activation=activation)

    with pytest.raises(InputError, match="Expected the student to give logits"):
        Distiller(squashed)
    with pytest.raises(InputError, match="Expected the teacher to give logits"):
        Distiller(network(), squashed)

    images, labels = make_images(), make_labels()
    teacher = network(seed=2, activation=activation)
    p, q = outputs_of(teacher, images), outputs_of(squashed, images)
    # A hard loss on logits would warn; one on probabilities lets the soft loss pass
    wrong = theirs(squashed, teacher, loss=keras.losses.SparseCategoricalCrossentropy())
    value = evaluate(wrong, images, labels)["distillation_loss"]
    doubled = 9 * divergence_reference(softmax(p, 3), softmax(q, 3))
    assert_close(value, doubled.mean(), 1e-4)


def test_04_student_may_have_the_outputs_of_a_task_only():
    """Teacher and student must have the same number of outputs."""
    task = Task([3, 1], NUM_CLASSES, head="task")
    teacher, student = network(seed=2), network(num_outputs=2)
    images, labels = task.filter((make_images(), make_labels()))
    expected = loss_reference(
        labels, outputs_of(teacher, images)[:, [3, 1]], outputs_of(student, images)
    )

    logs = fit_once(ours(student, teacher, task), images, labels)

    assert_close(logs["loss"], expected.mean())
    with pytest.raises(ValueError, match="output shapes are incompatible"):
        theirs(student, teacher)


def test_04_student_may_compute_in_another_precision():
    """Teacher and student must have outputs of the same type."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), mixed_network("mixed_float16", "mixed_float16")
    logits = outputs_of(student, images)
    expected = loss_reference(labels, outputs_of(teacher, images), logits).mean()

    logs = fit_once(ours(student, teacher), images, labels)

    assert student.outputs[0].dtype == "float16"
    assert_close(logs["loss"], expected, 1e-3)
    with pytest.raises(ValueError, match="output dtypes must match"):
        theirs(student, teacher)


@keras.saving.register_keras_serializable("test_keras_defects")
class FeatureDistiller(Distiller):
    """Adds the distance between projected student features and teacher features.

    One forward pass of the student gives its logits and its features.
    """

    def __init__(self, student, teacher, **kwargs):
        super().__init__(student, teacher, **kwargs)
        features = student.get_layer("features").output
        target = teacher.get_layer("features").output
        self.projector = keras.layers.Dense(target.shape[-1], use_bias=False)
        self.projector.build(features.shape)
        # Keras would track models in attributes, and count their layers twice
        self._views = types.SimpleNamespace(
            student=keras.Model(student.inputs, [student.outputs[0], features]),
            teacher=keras.Model(teacher.inputs, target),
        )

    def updates(self):
        variables = [
            *self.student.trainable_variables,
            *self.projector.trainable_variables,
        ]
        return [Update(self.optimizer, variables, self.compute_losses)]

    def compute_losses(self, batch):
        logits, features = self._views.student(batch.images, training=True)
        target = self._views.teacher(batch.images, training=False)
        distance = tf.square(self.projector(features) - tf.stop_gradient(target))
        hard = hard_loss(batch.labels, logits)
        soft = soft_loss(batch.teacher_logits, logits, self.temperature)
        loss = distillation_loss(hard, soft, self.soft_loss_weight)
        loss += tf.reduce_mean(distance, axis=[1, 2, 3])
        return {"loss": loss, "hard_loss": hard, "soft_loss": soft}, logits


def feature_distiller(student, teacher):
    distiller = FeatureDistiller(student, teacher)
    distiller.compile(sgd(), jit_compile=False)
    return distiller


def their_feature_distiller(student, teacher, loss="mse"):
    feature_loss = distillation.FeatureDistillation(
        loss, teacher_layer_name="features", student_layer_name="features"
    )
    return theirs(student, teacher, [feature_loss])


def test_05_features_of_different_widths_meet_in_a_projector():
    """Features must have the same shape; there is no projector between them."""
    images, labels = make_images(), make_labels()
    teacher, student = network(width=6, seed=2), network(width=3)
    distiller = feature_distiller(student, teacher)
    kernel = distiller.projector.kernel.numpy()
    before = student.get_weights()
    features = np.maximum(convolution_reference(student, images), 0)
    target = np.maximum(convolution_reference(teacher, images), 0)
    expected = loss_reference(
        labels, outputs_of(teacher, images), outputs_of(student, images)
    ) + np.square(features @ kernel - target).mean(axis=(1, 2, 3))
    residual = features @ kernel - target
    gradient = 2 * np.einsum("nijk,nijl->kl", features, residual) / residual.size

    logs = fit_once(distiller, images, labels)

    assert_close(logs["loss"], expected.mean())
    np.testing.assert_allclose(
        distiller.projector.kernel, kernel - LEARNING_RATE * gradient, atol=1e-6
    )
    assert all((a != b).any() for a, b in zip(student.get_weights(), before))

    wrong = their_feature_distiller(network(width=3), teacher, "cosine_similarity")
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        fit(wrong, images, labels)


def normalization_statistics(model):
    layer = model.get_layer("normalization")
    return np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)


def moved_statistics(model, images, times):
    """The moving mean and variance after `times` training passes over a batch."""
    activations = convolution_reference(model, images)
    kept = 0.99**times
    mean = (1 - kept) * activations.mean(axis=(0, 1, 2))
    return mean, kept + (1 - kept) * activations.var(axis=(0, 1, 2))


def test_06_a_feature_loss_runs_the_student_once_a_step():
    """A feature loss runs the student twice; its moving statistics move twice."""
    images, labels = make_images(), make_labels()
    teacher = network(width=4, seed=2, batch_norm=True)
    student = network(width=3, batch_norm=True, counted=True)
    expected = moved_statistics(student, images, times=1)

    fit(feature_distiller(student, teacher), images, labels)

    assert int(student.get_layer("counter").count) == 1
    assert_same_weights(normalization_statistics(student), expected, atol=1e-6)

    student = network(width=4, batch_norm=True, counted=True)
    once = moved_statistics(student, images, times=1)
    twice = moved_statistics(student, images, times=2)
    fit(their_feature_distiller(student, teacher), images, labels)
    assert int(student.get_layer("counter").count) == 2
    statistics = normalization_statistics(student)
    assert_same_weights(statistics, twice, atol=1e-6)
    assert np.abs(statistics[0] - once[0]).max() > 1e-3


def test_07_evaluation_leaves_the_student_as_it_is():
    """With a feature loss, `evaluate` moves the student's moving statistics."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2, batch_norm=True)
    for build in (feature_distiller, ours):
        student = network(batch_norm=True)
        before = student.get_weights()
        evaluate(build(student, teacher), images, labels)
        assert_same_weights(student.get_weights(), before)

    student = network(batch_norm=True)
    expected = moved_statistics(student, images, times=1)
    evaluate(their_feature_distiller(student, teacher), images, labels)
    assert_same_weights(normalization_statistics(student), expected, atol=1e-6)
    assert np.abs(expected[0]).max() > 1e-3


def teacher_calls(teacher, train):
    """How often `train()` runs the teacher."""
    before = int(teacher.get_layer("counter").count)
    train()
    return int(teacher.get_layer("counter").count) - before


def test_08_the_teacher_runs_no_more_than_it_must():
    """The teacher runs on each training and each validation batch, every epoch."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2, counted=True)
    training = {
        "epochs": 2,
        "validation_data": (images, labels),
        "validation_batch_size": 6,
    }
    stored = transfer_set((images, labels), teacher, batch_size=6)
    live = ours(network(), teacher)
    from_store = ours(network(), teacher)
    keras_own = theirs(network(), teacher)

    def fit_stored():
        from_store.fit(stored, shuffle=False, verbose=0, **training)

    def fit_live(distiller):
        fit(distiller, images, labels, batch_size=6, **training)

    assert teacher_calls(teacher, fit_stored) == 0
    assert teacher_calls(teacher, lambda: fit_live(live)) == 2 * 2
    assert teacher_calls(teacher, lambda: fit_live(keras_own)) == 2 * (2 + 2)


def test_09_sample_weights_weigh_the_loss():
    """`sample_weight` is ignored: all weights zero give the same loss."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    weights = np.random.default_rng(3).uniform(0, 2, NUM_EXAMPLES).astype(np.float32)
    losses = loss_reference(
        labels, outputs_of(teacher, images), outputs_of(student, images)
    )

    logs = fit_once(ours(student, teacher), images, labels, sample_weight=weights)

    assert_close(logs["loss"], (weights * losses).mean())

    student, zeros = network(), np.zeros(NUM_EXAMPLES, np.float32)
    before = student.get_weights()
    logs = fit_once(ours(student, teacher), images, labels, sample_weight=zeros)
    assert logs["loss"] == 0.0
    assert_same_weights(student.get_weights(), before)

    student = network()
    unweighted = evaluate(theirs(student, teacher), images, labels)["loss"]
    logs = fit_once(theirs(student, teacher), images, labels, sample_weight=zeros)
    assert_close(logs["loss"], unweighted)
    assert any((a != b).any() for a, b in zip(student.get_weights(), before))


def test_09_sample_weights_of_a_data_set_weigh_the_gradient():
    """`sample_weight` is ignored, also as the third part of a data set's batches."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2)
    weights = np.random.default_rng(3).uniform(0, 2, NUM_EXAMPLES).astype(np.float32)
    student = network()
    logits, teacher_logits = outputs_of(student, images), outputs_of(teacher, images)
    before = student.get_weights()[-1]
    hard = softmax(logits) - np.eye(NUM_CLASSES)[labels]
    soft = (softmax(logits, 3.0) - softmax(teacher_logits, 3.0)) / 3.0
    gradients = 0.1 * hard + 0.9 * soft
    stored = transfer_set((images, labels, weights), teacher)

    ours(student, teacher).fit(stored, shuffle=False, verbose=0)

    moved = student.get_weights()[-1] - before
    expected = -LEARNING_RATE * (weights[:, None] * gradients).mean(axis=0)
    np.testing.assert_allclose(moved, expected, atol=1e-6)

    batches = tf.data.Dataset.from_tensor_slices((images, labels, weights)).batch(12)
    plain = batches.map(lambda images, labels, weights: (images, labels))
    results = []
    for data in (batches, plain):
        student = network()
        theirs(student, teacher).fit(data, shuffle=False, verbose=0)
        results.append(student.get_weights())
    assert_same_weights(*results, atol=1e-7)


def test_09_class_weights_weigh_the_loss():
    """`class_weight` is ignored."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    class_weight = {0: 0.0, 1: 1.0, 2: 2.0, 3: 0.5, 4: 3.0}
    losses = loss_reference(
        labels, outputs_of(teacher, images), outputs_of(student, images)
    )
    weights = np.array([class_weight[label] for label in labels])

    logs = fit_once(ours(student, teacher), images, labels, class_weight=class_weight)

    assert_close(logs["loss"], (weights * losses).mean())

    unweighted = evaluate(theirs(network(), teacher), images, labels)["loss"]
    weighted = fit_once(
        theirs(network(), teacher), images, labels, class_weight=class_weight
    )
    assert_close(weighted["loss"], unweighted)


def test_10_regularization_losses_are_added():
    """The student's regularisation losses are dropped."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2)
    factor = 0.5
    student, plain = network(regularizer=keras.regularizers.L2(factor)), network()
    kernel = student.get_layer("convolution").kernel.numpy()
    losses = loss_reference(
        labels, outputs_of(teacher, images), outputs_of(student, images)
    )

    logs = fit_once(ours(student, teacher), images, labels)
    fit(ours(plain, teacher), images, labels)

    assert_close(logs["loss"], losses.mean() + factor * np.square(kernel).sum())
    pulled = student.get_layer("convolution").kernel - plain.layers[1].kernel
    expected = -LEARNING_RATE * 2 * factor * kernel
    np.testing.assert_allclose(pulled, expected, atol=1e-6)

    student, plain = network(regularizer=keras.regularizers.L2(factor)), network()
    logs = [
        fit_once(theirs(model, teacher), images, labels)["loss"]
        for model in (student, plain)
    ]
    assert_close(*logs)
    assert_same_weights(student.get_weights(), plain.get_weights(), atol=1e-7)


# Replicas must be set up before TensorFlow starts, hence another process
TWO_REPLICAS = """
import contextlib
import json
import sys

import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
configuration = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [configuration, configuration])

import keras
import numpy as np
from keras.distillation import Distiller as KerasDistiller, LogitsDistillation
from tskd_tf.distillation.distiller import Distiller

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
generator = np.random.default_rng(0)
images = generator.normal(size=(15, 8, 8, 1)).astype(np.float32)
labels = np.arange(15) % 4
teacher_logits = generator.normal(size=(15, 4)).astype(np.float32) * 3
weights = generator.uniform(0, 2, 15).astype(np.float32)


def scope(replicas):
    return strategy.scope() if replicas == 2 else contextlib.nullcontext()


def network(seed, regularizer=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(3, 3, kernel_regularizer=regularizer),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )


def update(student, before):
    moved = [a - b for a, b in zip(student.get_weights(), before)]
    return np.concatenate([part.ravel() for part in moved]).tolist()


def parts(count, weighted):
    inputs = {"images": images[:count], "teacher_logits": teacher_logits[:count]}
    return inputs, labels[:count], weights[:count] if weighted else None


def make_ours(replicas, regularized):
    regularizer = keras.regularizers.L2(0.1) if regularized else None
    with scope(replicas):
        student = network(1, regularizer)
        distiller = Distiller(student)
        distiller.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return distiller


def fit_ours(replicas, count, weighted, regularized):
    distiller = make_ours(replicas, regularized)
    before = distiller.student.get_weights()
    inputs, targets, weight = parts(count, weighted)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    history = distiller.fit(inputs, targets, sample_weight=weight, **arguments)
    moved = update(distiller.student, before)
    evaluation = distiller.evaluate(
        inputs, targets, sample_weight=weight, batch_size=8, verbose=0, return_dict=True
    )
    return {"update": moved, "logs": history.history, "evaluation": evaluation}


def step_ours(replicas, count, weighted, regularized):
    # fit of Keras itself cannot begin with a batch of unequal parts
    distiller = make_ours(replicas, regularized)
    before = distiller.student.get_weights()
    distiller.optimizer.build(distiller.student.trainable_variables)
    data = parts(count, weighted)
    data = tf.data.Dataset.from_tensor_slices(data if weighted else data[:2])
    chosen = strategy if replicas == 2 else tf.distribute.get_strategy()
    (batch,) = chosen.experimental_distribute_dataset(data.batch(count))
    tf.function(lambda: chosen.run(distiller.train_step, args=(batch,)))()
    sizes = [len(part) for part in chosen.experimental_local_results(batch[1])]
    return {"update": update(distiller.student, before), "sizes": sizes}


def fit_theirs(replicas, soft, hard):
    with scope(replicas):
        teacher, student = network(2), network(1)
        distiller = KerasDistiller(teacher, student, LogitsDistillation(loss=soft))
        distiller.compile(keras.optimizers.SGD(0.1), loss=hard, jit_compile=False)
    before = student.get_weights()
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    history = distiller.fit(images[:8], labels[:8], **arguments)
    return {"update": update(student, before), "logs": history.history}


objects = (
    keras.losses.KLDivergence(),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
strings = ("kl_divergence", "sparse_categorical_crossentropy")
runs = {
    "even": (fit_ours, 8, False, False),
    "even weighted regularized": (fit_ours, 8, True, True),
    "last batch odd": (fit_ours, 15, False, False),
    "last batch odd weighted regularized": (fit_ours, 15, True, True),
    "seven": (step_ours, 7, False, False),
    "seven weighted regularized": (step_ours, 7, True, True),
    "keras strings": (fit_theirs, *strings),
    "keras objects": (fit_theirs, *objects),
}
results = {
    name: [function(replicas, *arguments) for replicas in (1, 2)]
    for name, (function, *arguments) in runs.items()
}
with open(sys.argv[1], "w") as file:
    json.dump(results, file)
"""


@pytest.fixture(scope="module")
def replica_results(tmp_path_factory):
    """By run: what happened on one replica, and on two."""
    path = tmp_path_factory.mktemp("replicas") / "results.json"
    completed = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS, str(path)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("extras", ["", " weighted regularized"])
@pytest.mark.parametrize("batches", ["even", "last batch odd", "seven"])
def test_11_two_replicas_make_the_update_of_one(replica_results, batches, extras):
    """With two replicas and a loss named by a string the update is twice as large."""
    one, two = replica_results[batches + extras]

    assert np.abs(one["update"]).max() > 1e-3
    np.testing.assert_allclose(two["update"], one["update"], atol=1e-6)
    if batches == "seven":
        assert (one["sizes"], two["sizes"]) == ([7], [4, 3])
    else:
        assert two["logs"].keys() == one["logs"].keys()
        for name in one["logs"]:
            assert_close(two["logs"][name], one["logs"][name])
        assert two["evaluation"].keys() == one["evaluation"].keys()
        for name in one["evaluation"]:
            assert_close(two["evaluation"][name], one["evaluation"][name])


def test_11_keras_doubles_the_update_of_two_replicas(replica_results):
    """Strings give twice the update; loss objects log half the loss."""
    one, two = replica_results["keras strings"]
    # Two replicas add up in another order than one: 2.1e-6 of some 1e-2 was met
    close = {"rtol": 1e-3, "atol": 1e-6}
    np.testing.assert_allclose(two["update"], np.multiply(one["update"], 2), **close)
    assert np.abs(one["update"]).max() > 1e-3

    one, two = replica_results["keras objects"]
    np.testing.assert_allclose(two["update"], one["update"], **close)
    assert_close(two["logs"]["total_loss"], np.divide(one["logs"]["total_loss"], 2))


def mixed_network(dtype="mixed_float16", head_dtype="float32"):
    inputs = keras.Input((8, 8, 1))
    tensors = keras.layers.Flatten(dtype=dtype)(inputs)
    hidden = keras.layers.Dense(6, dtype=dtype, name="hidden")
    head = keras.layers.Dense(NUM_CLASSES, dtype=head_dtype, name="head")
    model = keras.Model(inputs, head(hidden(tensors)))
    generator = np.random.default_rng(1)
    model.set_weights(
        [generator.normal(size=weight.shape) * 0.2 for weight in model.weights]
    )
    return model


def hidden_update(distiller, **arguments):
    """What one training step adds to the kernel that computes in float16."""
    student = distiller.student
    before = student.get_layer("hidden").kernel.numpy()
    fit(distiller, make_images(), make_labels(), **arguments)
    return student.get_layer("hidden").kernel.numpy() - before


def test_12_the_loss_is_scaled_for_a_student_in_float16():
    """Layers in float16 under a float32 policy get no loss scaling: no gradient."""
    # A loss this small has gradients below the smallest number of float16
    size = 1e-7
    small = {"sample_weight": np.full(NUM_EXAMPLES, size, np.float32)}
    teacher = network(seed=2)
    settings = {"optimizer": sgd(0.1 / size)}
    expected = hidden_update(
        ours(mixed_network("float32"), teacher, **settings), **small
    )

    distiller = ours(mixed_network(), teacher, optimizer=sgd(0.1 / size))
    update = hidden_update(distiller, **small)

    assert keras.config.dtype_policy().name == "float32"
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(update, expected, atol=0.01 * scale)

    unscaled = ours(
        mixed_network(), teacher, optimizer=sgd(0.1 / size), auto_scale_loss=False
    )
    assert not hidden_update(unscaled, **small).any()

    def small_loss(labels, logits):
        return size * keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )

    updates = []
    for dtype in ("float32", "mixed_float16"):
        wrong = theirs(
            mixed_network(dtype),
            teacher,
            loss=small_loss,
            optimizer=sgd(0.1 / size),
            student_loss_weight=1.0,
        )
        updates.append(hidden_update(wrong))
        assert not isinstance(wrong.optimizer, keras.optimizers.LossScaleOptimizer)
    assert np.abs(updates[0]).max() > 1e-3
    assert not updates[1].any()


def test_12_the_logged_loss_is_not_scaled():
    """Loss scaling belongs to the gradient; Keras never scales for such a student."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), mixed_network()
    expected = loss_reference(
        labels, outputs_of(teacher, images), outputs_of(student, images)
    )

    logs = fit_once(ours(student, teacher), images, labels)

    assert_close(logs["loss"], expected.mean(), 1e-3)


@pytest.mark.parametrize("build", [network, mixed_network])
def test_13_a_loaded_distiller_trains_on(tmp_path, build):
    """After loading, `fit` fails, and the state of the optimiser is gone."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2)
    path = tmp_path / "distiller.keras"
    settings = {"temperature": 2.0, "soft_loss_weight": 0.6, "scale_soft_loss": True}
    distiller = ours(
        build(), teacher, optimizer="adam", metrics=["accuracy"], **settings
    )
    fit(distiller, images, labels, epochs=2)
    # The file holds what a callback set, not what compile was given
    distiller.temperature.assign(5.0)
    distiller.save(path)

    loaded = keras.models.load_model(path)

    assert int(loaded.optimizer.iterations) == 2
    assert (float(loaded.temperature), float(loaded.soft_loss_scale)) == (5.0, 1.0)
    assert len(loaded.optimizer.variables) == len(distiller.optimizer.variables)
    for variable, original in zip(
        loaded.optimizer.variables, distiller.optimizer.variables
    ):
        np.testing.assert_array_equal(variable, original)
    loaded.set_teacher(teacher)
    expected = fit(distiller, images, labels, epochs=2)
    logs = fit(loaded, images, labels, epochs=2)
    assert logs.keys() == expected.keys() >= {"loss", "accuracy"}
    for name, values in expected.items():
        assert_close(logs[name], values)
    assert_same_weights(
        loaded.student.get_weights(), distiller.student.get_weights(), atol=1e-6
    )


def test_13_keras_loads_a_distiller_that_cannot_train(tmp_path):
    """After loading, `fit` fails, and the state of the optimiser is gone."""
    images, labels = make_images(), make_labels()
    path = tmp_path / "distiller.keras"
    distiller = theirs(network(), network(seed=2), optimizer="adam")
    fit(distiller, images, labels)
    distiller.save(path)

    with pytest.warns(UserWarning, match=r"`compile\(\)` was not called"):
        loaded = keras.models.load_model(path)

    assert loaded.compiled
    assert not hasattr(loaded, "optimizer")
    with pytest.raises(AttributeError, match="no attribute '_student_loss'"):
        fit(loaded, images, labels)


def read_saved(path):
    """The sizes of the weights in a `.keras` file, largest first, and its config."""
    sizes = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            sizes.append(item.size)

    with zipfile.ZipFile(path) as archive:
        with archive.open("model.weights.h5") as file:
            with h5py.File(file, "r") as weights:
                weights.visititems(visit)
        config = archive.read("config.json").decode()
    return sorted(sizes, reverse=True), config


def test_14_the_teacher_is_not_saved(tmp_path):
    """The file and `count_params` contain the teacher."""
    images, labels = make_images(), make_labels()
    teacher, student = network(width=50, seed=2, name="the_teacher"), network()
    path, student_path = tmp_path / "distiller.keras", tmp_path / "student.keras"
    distiller = ours(student, teacher)
    fit(distiller, images, labels)
    distiller.save(path)
    student.save(student_path)

    sizes, config = read_saved(path)

    student_sizes, _ = read_saved(student_path)
    num_scalars = 3
    assert distiller.count_params() == student.count_params() + num_scalars
    assert [size for size in sizes if size > 1] == student_sizes
    assert "the_teacher" not in config

    wrong = theirs(network(), teacher)
    fit(wrong, images, labels)
    wrong.save(path)
    sizes, config = read_saved(path)
    assert wrong.count_params() >= student.count_params() + teacher.count_params()
    assert sum(sizes) >= student.count_params() + teacher.count_params()
    assert "the_teacher" in config


class Interruption(Exception):
    """The power cut of a test."""


class Interrupt(keras.callbacks.Callback):
    """Ends training at the beginning of the third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Interruption


def test_15_an_interrupted_training_goes_on(tmp_path):
    """The distiller is not built, so `BackupAndRestore` refuses it."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2)
    folder = str(tmp_path / "backup")
    uninterrupted, interrupted, resumed = (
        ours(network(), teacher, optimizer=keras.optimizers.Adam(0.01))
        for _ in range(3)
    )

    def callbacks(*others):
        return [keras.callbacks.BackupAndRestore(folder), *others]

    expected = fit(uninterrupted, images, labels, epochs=4)
    with pytest.raises(Interruption):
        fit(interrupted, images, labels, epochs=4, callbacks=callbacks(Interrupt()))
    logs = fit(resumed, images, labels, epochs=4, callbacks=callbacks())

    assert_close(logs["loss"], expected["loss"][2:])
    assert_same_weights(
        resumed.student.get_weights(), uninterrupted.student.get_weights(), atol=1e-6
    )
    with pytest.raises(ValueError, match="must be built before"):
        fit(theirs(network(), teacher), images, labels, callbacks=callbacks())


def tune(build, folder, **limits):
    tuner = keras_tuner.RandomSearch(
        lambda hyperparameters: build(),
        objective="val_loss",
        max_trials=1,
        directory=str(folder),
        **limits,
    )
    images, labels = make_images(), make_labels()
    tuner.search(images, labels, validation_data=(images, labels), verbose=0)
    (trial,) = tuner.oracle.trials.values()
    return tuner, trial


def test_15_a_tuner_knows_its_size_and_its_best_model(tmp_path):
    """KerasTuner takes it for a model of size zero, and cannot load the best."""
    teacher = network(seed=2)
    size = network().count_params()

    def build_ours():
        return ours(network(), teacher)

    tuner, trial = tune(build_ours, tmp_path / "ours")
    (best,) = tuner.get_best_models()
    loss = evaluate(best, make_images(), make_labels())["loss"]
    assert_close(loss, trial.score)
    untrained = evaluate(build_ours(), make_images(), make_labels())["loss"]
    assert abs(loss - untrained) > 1e-3
    _, trial = tune(build_ours, tmp_path / "small", max_model_size=size - 1)
    assert trial.status == "FAILED"
    assert "Oversized model" in trial.message

    tuner, trial = tune(
        lambda: theirs(network(), teacher), tmp_path / "theirs", max_model_size=1
    )
    assert trial.status == "COMPLETED"
    with pytest.raises(ValueError, match="not yet been built"):
        tuner.get_best_models()


def test_16_the_teacher_stays_as_it_was():
    """Constructing a distiller freezes the caller's teacher for good."""
    images, labels = make_images(), make_labels()
    teacher = network(seed=2, batch_norm=True)
    teacher.get_layer("convolution").trainable = False
    flags = [layer.trainable for layer in teacher.layers]
    before = teacher.get_weights()

    fit(ours(network(), teacher), images, labels)

    assert teacher.trainable
    assert [layer.trainable for layer in teacher.layers] == flags
    assert_same_weights(teacher.get_weights(), before)

    distillation.Distiller(teacher, network(), distillation.LogitsDistillation())
    assert not teacher.trainable
    assert not any(layer.trainable for layer in teacher.layers)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_17_the_weight_of_the_soft_loss_counts(weight):
    """The weight of a single distillation loss, not in a list, is ignored."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    losses = loss_reference(
        labels,
        outputs_of(teacher, images),
        outputs_of(student, images),
        weight=weight,
    )

    logs = fit_once(ours(student, teacher, soft_loss_weight=weight), images, labels)

    assert_close(logs["loss"], losses.mean())

    single, listed = (
        theirs(network(), teacher, losses, distillation_loss_weights=[weight])
        for losses in (
            distillation.LogitsDistillation(),
            [distillation.LogitsDistillation()],
        )
    )
    unweighted = theirs(network(), teacher, distillation.LogitsDistillation())
    single, listed, unweighted = (
        evaluate(distiller, images, labels)["distillation_loss"]
        for distiller in (single, listed, unweighted)
    )
    assert_close(single, unweighted)
    assert_close(listed, weight * unweighted)


class TracedDistiller(Distiller):
    """Counts how often its losses are traced: Python runs at no other time."""

    traces = 0

    def compute_losses(self, batch):
        self.traces += 1
        return super().compute_losses(batch)


def test_18_a_schedule_needs_no_new_trace():
    """Temperature and weights are Python constants: a schedule has no effect."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    teacher_logits, logits = outputs_of(teacher, images), outputs_of(student, images)
    temperatures, weights = [1.0, 2.0, 5.0], [0.9, 0.5, 0.1]
    distiller = TracedDistiller(student, teacher)
    # Nothing is learnt, so that only the schedule changes the loss
    distiller.compile(sgd(0.0), jit_compile=False)
    traces = []

    def schedule(epoch, logs):
        distiller.temperature.assign(temperatures[epoch])
        distiller.soft_loss_weight.assign(weights[epoch])

    scheduler = keras.callbacks.LambdaCallback(
        on_epoch_begin=schedule,
        on_epoch_end=lambda epoch, logs: traces.append(distiller.traces),
    )
    found = fit(distiller, images, labels, epochs=3, callbacks=[scheduler])

    soft = [soft_reference(teacher_logits, logits, t).mean() for t in temperatures]
    hard = hard_reference(labels, logits).mean()
    total = [(1 - weight) * hard + weight * s for weight, s in zip(weights, soft)]
    assert_close(found["soft_loss"], soft)
    assert_close(found["loss"], total)
    assert traces[0] > 0
    assert traces == traces[:1] * 3

    soft_loss_object = distillation.LogitsDistillation(
        1.0, loss=keras.losses.KLDivergence()
    )
    wrong = theirs(network(), teacher, soft_loss_object, optimizer=sgd(0.0))

    def their_schedule(epoch, logs):
        soft_loss_object.temperature = temperatures[epoch]
        wrong.student_loss_weight = 1 - weights[epoch]

    scheduler = keras.callbacks.LambdaCallback(on_epoch_begin=their_schedule)
    found = fit(wrong, images, labels, epochs=3, callbacks=[scheduler])
    assert_close(found["distillation_loss"], found["distillation_loss"][:1] * 3)
    assert_close(found["loss"], found["loss"][:1] * 3)


def test_18_validation_measures_the_task():
    """`val_loss` mixes the soft loss in, and the loss is logged twice."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    expected = hard_reference(labels, outputs_of(student, images)).mean()
    validation = {"validation_data": (images, labels), "validation_batch_size": 7}

    distiller = ours(student, teacher, optimizer=sgd(0.0))
    logs = fit_once(distiller, images, labels, **validation)

    assert logs.keys() == {"loss", "hard_loss", "soft_loss", "val_loss"}
    assert_close(logs["val_loss"], expected)

    wrong = theirs(network(), teacher, optimizer=sgd(0.0))
    logs = fit_once(wrong, images, labels, **validation)
    assert_close(logs["total_loss"], logs["loss"])
    assert abs(logs["val_loss"] - expected) > 0.1


class SquaredLogits(distillation.DistillationLoss):
    """A loss of the user's that is not registered with Keras."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return keras.ops.mean(keras.ops.square(teacher_outputs - student_outputs))

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


def test_19_a_saved_distiller_needs_no_custom_objects(tmp_path):
    """A custom `DistillationLoss` must be registered, or loading fails.

    Ours has no loss objects: a file holds the student, the task and numbers.
    """
    images, labels = make_images(), make_labels()
    teacher = network(seed=2)
    task = Task([3, 1], NUM_CLASSES, head="task")
    path = tmp_path / "distiller.keras"
    distiller = ours(network(num_outputs=2), teacher, task)
    fit(distiller, *task.filter((images, labels)))
    distiller.save(path)

    loaded = keras.models.load_model(path)

    assert loaded.task.get_config() == task.get_config()
    np.testing.assert_array_equal(loaded(images), distiller(images))

    wrong = theirs(network(), teacher, [SquaredLogits()])
    fit(wrong, images, labels)
    wrong.save(path)
    with pytest.raises(TypeError, match="Could not locate class 'SquaredLogits'"):
        keras.models.load_model(path)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_20_value_and_gradient_are_those_of_a_reference(temperature, weight, scaled):
    """Keras' tests compare no loss value with a reference; nothing there to run."""
    images, labels = make_images(), make_labels()
    teacher, student = network(seed=2), network()
    teacher_logits, logits = outputs_of(teacher, images), outputs_of(student, images)
    before = student.get_weights()[-1]
    scale = temperature**2 if scaled else 1.0
    hard = hard_reference(labels, logits).mean()
    soft = scale * soft_reference(teacher_logits, logits, temperature).mean()
    hard_gradient = softmax(logits) - np.eye(NUM_CLASSES)[labels]
    distance = softmax(logits, temperature) - softmax(teacher_logits, temperature)
    soft_gradient = scale * distance / temperature
    gradient = ((1 - weight) * hard_gradient + weight * soft_gradient).mean(axis=0)

    distiller = ours(
        student,
        teacher,
        temperature=temperature,
        soft_loss_weight=weight,
        scale_soft_loss=scaled,
    )
    logs = fit_once(distiller, images, labels)

    assert_close(logs["hard_loss"], hard)
    assert_close(logs["soft_loss"], soft)
    assert_close(logs["loss"], (1 - weight) * hard + weight * soft)
    moved = student.get_weights()[-1] - before
    np.testing.assert_allclose(moved, -LEARNING_RATE * gradient, atol=1e-6)
