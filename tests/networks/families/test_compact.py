"""Compact students, from a rate to a file for the device."""

import random

import keras
import numpy as np
import pytest
from conftest import make_data
from example_networks import random_network
from keras import layers

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.errors import InputError
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.litert import open_litert, write_litert, write_litert_int8
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.compact import (
    compact_rates,
    compact_student,
)
from tskd_tf.networks.width import layer_widths
from tskd_tf.networks.zoo.models import cifar10_full, lenet
from tskd_tf.networks.zoo.resnet import cheap_resnet
from tskd_tf.networks.zoo.wide_resnet import wide_resnet

TASK = Task([2, 0], 4, head="task")


def small_teacher(**changes):
    """A convolutional network of four classes for the images of `make_data`."""
    settings = {"second": 6, "activation": None, **changes}
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3, padding="same", name="a")]
    stack += [layers.MaxPooling2D(2), layers.Conv2D(settings["second"], 3, name="b")]
    stack += [layers.Flatten(), layers.Dense(20, activation="relu", name="c")]
    stack += [layers.Dense(4, activation=settings["activation"], name="d")]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


def grouped(image):
    x = layers.Conv2D(4, 3, activation="relu")(image)
    # Two groups whose channels go one of each at a time; four that go as a whole
    x = layers.Conv2D(8, 3, groups=2)(x)
    x = layers.Conv2D(4, 1)(x)
    return layers.GroupNormalization(4)(layers.Conv2D(4, 1, groups=4)(x))


def test_lenet_becomes_the_network_that_was_measured():
    student = compact_student(lenet((28, 28, 1), 10), 0.2206)
    assert layer_widths(student) == [4, 11, 110, 10]
    assert complexity(student).num_macs == 44_076
    kinds = [type(layer).__name__ for layer in student.layers]
    normalized = ["BatchNormalization", "ReLU"]
    expected = ["Rescaling", "Conv2D", *normalized, "Identity", "DepthwiseConv2D"]
    expected += ["Conv2D", *normalized, "MaxPooling2D", "Flatten", "Dense"]
    assert kinds == [*expected, "BatchNormalization", "Activation", "Dense"]


@pytest.mark.parametrize("rate", [0.001, 0.3, 1, 2.5])
def test_every_layer_but_the_head_is_at_the_rate(rate):
    teacher = small_teacher()
    student = compact_student(teacher, rate, Task([2, 0], 4))
    expected = [max(1, int(rate * width + 0.5)) for width in (8, 6, 20)]
    assert layer_widths(student) == [*expected, 4]
    assert layer_widths(compact_student(teacher, rate, TASK)) == [*expected, 2]
    assert student.input_shape == teacher.input_shape
    assert student.output_shape == teacher.output_shape
    assert all(weight.trainable for weight in student.trainable_weights)


def test_random_views_are_left_out():
    teacher = small_teacher()
    view = layers.RandomFlip(name="view")
    teacher = keras.Sequential([teacher.inputs[0], view, *teacher.layers])
    student = compact_student(teacher, 0.5)
    assert type(student.get_layer("view")) is layers.Identity
    # What they show goes to the stem as if they were not there
    assert student.get_layer("a").strides == (2, 2)


def test_students_start_at_random():
    teacher = small_teacher()
    one, other = (compact_student(teacher, 1.0) for _ in range(2))
    assert (one.get_layer("a").kernel != other.get_layer("a").kernel).numpy().any()


@pytest.mark.parametrize("rate", [0.4, 1.7, 3.0])
def test_tied_and_grouped_channels_fit_at_any_width(rate):
    """Residual sums, concatenations, gates, groups and nested models."""
    image = keras.Input((12, 12, 3))
    x = layers.GlobalAveragePooling2D()(grouped(image))
    networks = [keras.Model(image, layers.Dense(4)(x))]
    networks += [random_network(random.Random(seed).choice) for seed in (6, 8, 13, 16)]
    images = np.random.default_rng(0).uniform(0, 1, (2, 12, 12, 3))
    for network in networks:
        student = compact_student(network, rate)
        assert np.isfinite(student(images).numpy()).all()


TEACHERS = {
    "small": small_teacher,
    "cifar10_full": lambda: cifar10_full((16, 16, 3), 4, np.zeros((16, 16, 3))),
    "wide_resnet": lambda: wide_resnet(10, 1, (16, 16, 3), 4),
    "grouped_resnet": lambda: cheap_resnet("grouped", 4, 8, (16, 16, 3), 4),
    "drawn": lambda: random_network(random.Random(5).choice),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_multiply_adds_rise_with_the_rate_up_to_the_teachers(name):
    teacher = TEACHERS[name]()
    found = compact_rates(teacher, TASK)
    rates, costs = list(found), list(found.values())
    assert len(rates) >= 10 and rates == sorted(set(rates))
    assert costs == sorted(set(costs)) and costs[-1] <= complexity(teacher).num_macs
    # What is counted without building is what is built
    for i in (0, len(rates) // 2, -1):
        student = compact_student(teacher, rates[i], TASK)
        assert complexity(student).num_macs == costs[i]
    widths = layer_widths(compact_student(teacher, rates[0], TASK))
    assert min(widths[:-1]) == 1


def test_a_student_learns_and_keeps_its_predictions_in_files(tmp_path):
    teacher = small_teacher()
    student = compact_student(teacher, 0.5, TASK)
    images, class_ids = make_data(64)
    task_images, labels = TASK.filter((images, class_ids))
    distiller = Distiller(student, teacher, task=TASK)
    distiller.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    before = student.get_weights()
    logs = distiller.fit(task_images, labels, epochs=5, verbose=0)
    losses = logs.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert all((a != b).any() for a, b in zip(before, student.get_weights()))
    expected = student.predict(task_images, verbose=0)
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded.predict(task_images, verbose=0), expected)
    deployment = Deployment("logits", TASK.output_names, task_images)
    for write, tolerance in ((write_litert, 1e-4), (write_litert_int8, 0.2)):
        path = str(tmp_path / f"{write.__name__}.tflite")
        write(student, path, deployment)
        error = np.abs(open_litert(path).outputs(task_images) - expected).max()
        assert error < tolerance * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "DenseNet121"])
def test_networks_of_keras(name):
    teacher = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=4, classifier_activation=None
    )
    student = compact_student(teacher, 0.1, TASK)
    assert student(np.zeros((1, 32, 32, 3))).shape == (1, 2)
    assert 0 < complexity(student).num_macs < 0.05 * complexity(teacher).num_macs
    # They normalise themselves: nothing is added, and 3x3 convolutions are separable
    kinds = [type(layer).__name__ for layer in student.layers]
    of_teacher = [type(layer).__name__ for layer in teacher.layers]
    assert kinds.count("BatchNormalization") == of_teacher.count("BatchNormalization")
    large = [x for x in student.layers if getattr(x, "kernel_size", (1,)) > (1, 1)]
    assert [type(layer).__name__ for layer in large].count("Conv2D") == 1


class Subclassed(keras.Model):
    def call(self, images):
        return images[:, 0, 0]


def perceptron():
    stack = [layers.Flatten(), layers.Dense(9), layers.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


def uneven():
    stack = [layers.Conv2D(4, 3, strides=2)]
    stack += [layers.Conv2D(8, 2, strides=(1, 2), name="uneven")]
    stack += [layers.Flatten(), layers.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 4)))
    return model


@pytest.mark.parametrize(
    "build, message",
    [
        (perceptron, "with a convolution of its images.*images go to Dense"),
        (uneven, "same stride in both directions.*'uneven'"),
        (subclassed, "Functional or Sequential.*Subclassed"),
        (lambda: small_teacher(activation="softmax"), "give logits.*softmax"),
        (
            lambda: cheap_resnet("plain", None, 8, (16, 16, 3), 4),
            "channels can be followed.*of type Pad",
        ),
    ],
)
def test_teachers_that_cannot_be_made_compact_are_refused(build, message):
    teacher = build()
    for refuse in (compact_student, lambda model, _: compact_rates(model)):
        with pytest.raises(InputError, match=message):
            refuse(teacher, 0.5)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_other_rates_are_refused(rate):
    with pytest.raises(InputError, match="rate above 0. Received"):
        compact_student(small_teacher(), rate)


def test_a_task_of_other_classes_is_refused():
    with pytest.raises(InputError, match="outputs"):
        compact_student(small_teacher(), 0.5, Task([0, 1], 3))


def test_a_teacher_that_is_cheaper_already_is_refused():
    stack = [layers.Conv2D(1, 3, name="stem"), layers.Conv2D(1, 1)]
    stack += [layers.Conv2D(1, (3, 1)), layers.Flatten(), layers.Dense(4)]
    teacher = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    with pytest.raises(
        InputError, match="costs more than its smallest compact student"
    ):
        compact_rates(teacher)


def test_a_teacher_that_is_compact_already_has_no_compact_students():
    stack = [layers.Conv2D(8, 3, strides=2), layers.BatchNormalization(), layers.ReLU()]
    stack += [
        layers.DepthwiseConv2D(3),
        layers.Conv2D(8, 1),
        layers.BatchNormalization(),
    ]
    stack += [layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    teacher = keras.Sequential([keras.Input((16, 16, 1)), *stack])
    with pytest.raises(InputError, match="a rule of compact students changes"):
        compact_rates(teacher)
