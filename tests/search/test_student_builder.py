"""Students that the user builds, and teachers that only they can serve."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import IMAGE_SHAPE, make_data

from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import as_functional
from tskd_tf.search.smallest_student import find_smallest_student

TASK = Task([3, 1], 4, head="task")
RECIPE = Recipe(epochs=4, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def splits():
    return make_data(256, 1), make_data(128, 2), make_data(120, 3)


def build(rate, num_outputs=2, activation=None, shape=IMAGE_SHAPE):
    """Another architecture than the teacher's."""
    stack = [keras.Input(shape), keras.layers.Rescaling(1 / 255)]
    stack += [keras.layers.Flatten(), keras.layers.Dense(max(1, int(10 * rate)))]
    return keras.Sequential([*stack, keras.layers.Dense(num_outputs, activation)])


def find(teacher, splits, rates=(0.2, 0.5, 1.0), **settings):
    defaults = {"recipe": RECIPE, "verbose": 0, "task": TASK, "max_executions": 1}
    return find_smallest_student(
        teacher, *splits, rates=rates, **{**defaults, **settings}
    )


def test_students_of_another_architecture(trained_teacher, splits):
    found = find(trained_teacher, splits, build_student=build, max_accuracy_loss=0.1)
    student = found.report["student"]
    assert student["widths"] == [int(10 * student["rate"]), 2]
    assert found.student.count_params() == complexity(build(student["rate"])).num_params
    assert found.report["meets_threshold"]


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """The network of `make_network`, written as a class."""

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(8, 3, activation="relu")
        self.pool = keras.layers.MaxPooling2D(2)
        self.dense = keras.layers.Dense(16, activation="relu")
        self.head = keras.layers.Dense(4, activation=activation)

    def call(self, images):
        x = self.pool(self.convolution(keras.ops.cast(images, "float32") / 255))
        return self.head(self.dense(keras.layers.Flatten()(x)))


@pytest.fixture
def subclassed(trained_teacher):
    model = Subclassed()
    model(np.zeros((1, *IMAGE_SHAPE), np.uint8))
    model.set_weights(trained_teacher.get_weights())
    return model


def test_a_subclassed_teacher_serves_students_that_the_user_builds(
    trained_teacher, subclassed, splits
):
    settings = {"build_student": build, "max_accuracy_loss": 0.1}
    got = find(subclassed, splits, **settings).report
    expected = find(trained_teacher, splits, **settings).report
    for key in ("num_params", "num_macs", "paper_cost", "accuracy"):
        assert got["teacher"][key] == expected["teacher"][key], key
    curves = [report["student"].pop("curve") for report in (got, expected)]
    assert got["student"] == expected["student"]
    # The two teachers' logits differ by 2e-6, as one is rebuilt as another graph
    assert curves[0]["loss"] == pytest.approx(curves[1]["loss"], rel=1e-6)
    assert curves[0]["validation_accuracy"] == curves[1]["validation_accuracy"]


def test_a_subclassed_teacher_alone_is_refused_with_the_way_out(subclassed, splits):
    with pytest.raises(InputError, match="Subclassed, a subclassed.*build_student="):
        find(subclassed, splits)
    wrong = [(np.zeros((40, 8)), np.arange(40) % 4)] * 3
    with pytest.raises(InputError, match=r"to take images of shape \(8,\)"):
        find(subclassed, wrong, build_student=build)


def test_a_subclassed_teacher_is_asked_for_new_views(subclassed, splits):
    live = dataclasses.replace(RECIPE, augmentation=Augmentation(shift=1), num_views=0)
    settings = {"recipe": live, "rates": (1.0,), "max_accuracy_loss": 0.2}
    assert find(subclassed, splits, build_student=build, **settings)


@pytest.mark.parametrize(
    "attention",
    [lambda x: keras.ops.einsum("bhwc,bhwd->bcd", x, x)],
)
def test_multiply_adds_that_cannot_be_counted_are_said(attention):
    class Attending(keras.Model):
        def call(self, images):
            return keras.layers.Flatten()(attention(images))

    model = as_functional(Attending(name="odd"), (4, 4, 3))
    with pytest.raises(InputError, match="'odd', which runs Einsum"):
        complexity(model)


@pytest.mark.parametrize(
    "builder, message",
    [
        (lambda rate: build(0.5), "fewer multiply-adds at smaller rates"),
        (lambda rate: build(1.2 - rate), "fewer multiply-adds at smaller rates"),
        (lambda rate: build(rate, num_outputs=4), "2 outputs"),
        (lambda rate: build(rate, activation="softmax"), "logits"),
        (lambda rate: build(rate, shape=(9, 8, 1)), "teacher's images"),
        (lambda rate: None, "NoneType"),
        (lambda rate: Subclassed(), "student to be built"),
        (lambda: None, "takes 0 positional arguments"),
        (lambda rate: 1 / 0, r"build_student\(0.2\).*ZeroDivisionError"),
    ],
)
def test_builders_that_give_no_students(trained_teacher, splits, builder, message):
    with pytest.raises(InputError, match=message):
        find(trained_teacher, splits, build_student=builder)


def test_rates_of_the_same_student_are_one_candidate(trained_teacher, splits):
    found = find(
        trained_teacher,
        splits,
        rates=(0.5, 0.52, 0.55),
        build_student=lambda rate: build(max(0.3, round(rate, 1))),
    )
    # 0.5 and 0.52 give five units, 0.55 six
    assert {trial["rate"] for trial in found.report["search"]["trials"]} <= {0.52, 0.55}


def test_a_start_belongs_to_students_of_ours(trained_teacher, splits):
    recipe = dataclasses.replace(RECIPE, initialize="teacher")
    with pytest.raises(InputError, match="initialize"):
        find(trained_teacher, splits, build_student=build, recipe=recipe)
    with pytest.raises(InputError, match="random, teacher.*Received: best"):
        find(
            trained_teacher,
            splits,
            recipe=dataclasses.replace(RECIPE, initialize="best"),
        )


def test_a_search_that_starts_from_the_teacher(trained_teacher, splits):
    recipe = dataclasses.replace(
        RECIPE, initialize="teacher", epochs=1, learning_rate=1e-9
    )
    report = find(
        trained_teacher, splits, rates=(1.0,), recipe=recipe, max_accuracy_loss=0.01
    ).report
    # Without any learning worth the name it is the teacher
    assert report["num_only_teacher_correct"] == 0 == report["num_only_student_correct"]


def test_a_search_with_another_builder_is_not_continued(
    trained_teacher, splits, tmp_path
):
    settings = {"directory": str(tmp_path / "search"), "rates": (0.5,)}
    find(trained_teacher, splits, build_student=build, **settings)
    find(trained_teacher, splits, build_student=build, **settings)
    with pytest.raises(InputError, match="student_macs"):
        find(
            trained_teacher,
            splits,
            build_student=lambda rate: build(2 * rate),
            **settings,
        )


class Unregistered(keras.layers.Layer):
    """A layer that no file can be loaded with."""

    def call(self, inputs):
        return keras.ops.relu(inputs)


@pytest.mark.parametrize(
    "layer, message",
    [
        (Unregistered(), "loaded from a file again: register your own layers"),
        (keras.layers.Lambda(lambda x: x, name="odd"), "'odd' of type Lambda"),
    ],
)
def test_students_that_no_file_can_keep_are_refused(
    trained_teacher, splits, tmp_path, layer, message
):
    def build_with_layer(rate):
        student = build(rate)
        return keras.Sequential([keras.Input(IMAGE_SHAPE), layer, *student.layers])

    with pytest.raises(InputError, match=message):
        find(trained_teacher, splits, build_student=build_with_layer)
