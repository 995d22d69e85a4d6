"""The settings of a training: which of them a teacher feels, and their ranges."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import make_data, make_network

from tskd_tf.choices import settings_marked
from tskd_tf.data.splits import Split
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training import train_teacher
from tskd_tf.distillation.training_settings import TrainingSettings
from tskd_tf.errors import InputError

# Few of class 3, so that class weights are felt
TRAIN = Split(*(part[:43] for part in make_data(64)))
VALIDATION = Split(*make_data(16, seed=1))
RECIPE = Recipe(epochs=1, batch_size=16, steps_per_execution=3)
FELT = settings_marked(TrainingSettings, "felt_by_teacher")
# Of each setting a value other than in RECIPE; a teacher has epochs of its own
OTHERS = {
    "method": "hint",
    "hint_share": 0.5,
    "num_students": 3,
    "temperature": 5.0,
    "soft_loss_weight": 0.5,
    "scale_soft_loss": True,
    "class_weights": "balanced",
    "batch_size": 8,
    "learning_rate": 1e-3,
    "solver": "caffe_lenet",
    "precision": "mixed_bfloat16",
    "num_views": 3,
    "initialize": "teacher",
    "family": "compact",
    "convolutions": "grouped",
    "groups": 2,
    "steps_per_execution": 1,
    "distribute": "none",
    "seed": 2,
}


def _trained_weights(recipe):
    keras.utils.set_random_seed(1)
    images = np.concatenate([TRAIN.images, TRAIN.images[TRAIN.class_ids < 3]])
    class_ids = np.concatenate([TRAIN.class_ids, TRAIN.class_ids[TRAIN.class_ids < 3]])
    train = Split(images, class_ids)
    teacher = train_teacher(make_network(), train, VALIDATION, recipe, verbose=0)
    return np.concatenate([array.ravel() for array in teacher.get_weights()])


@pytest.fixture(scope="module")
def expected():
    return _trained_weights(RECIPE)


def test_each_setting_is_tried():
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert names == {*OTHERS, "epochs"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_teacher_feels_what_is_marked_so(name, expected):
    assert getattr(RECIPE, name) != OTHERS[name]
    got = _trained_weights(dataclasses.replace(RECIPE, **{name: OTHERS[name]}))
    assert np.array_equal(got, expected) == (name not in FELT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", float("nan")),
        ("temperature", 0),
        ("temperature", None),
        ("learning_rate", "fast"),
        ("epochs", 0),
        ("hint_share", 1.0),
        ("num_students", 1),
        ("num_views", -1),
        ("seed", 2**32),
        ("precision", "float8"),
        ("initialize", "best"),
    ],
)
def test_what_is_out_of_range_is_named(name, value):
    with pytest.raises(InputError, match=f"Expected {name} .*Received: {value}$"):
        Recipe(**{name: value}).check()


def test_help_says_what_each_setting_is():
    for field in dataclasses.fields(Recipe):
        assert f"    {field.name}: {field.metadata['help']}" in Recipe.__doc__


def test_a_recipe_is_kept_as_json():
    recipe = Recipe(seed=np.int64(3), learning_rate=np.float32(0.5), groups=None)
    kept = recipe.as_json()
    assert type(kept["seed"]) is int and type(kept["learning_rate"]) is float
    assert Recipe.from_json(kept) == recipe


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "teacher"),
        ({"convolutions": "dominant"}, "teacher"),
        ({"convolutions": "shift"}, "random"),
        ({"family": "compact"}, "random"),
        ({"method": "online"}, "random"),
        ({"method": "hint"}, "teacher"),
    ],
)
def test_students_start_from_the_teacher_where_they_have_its_shape(changes, expected):
    assert Recipe(**changes).initialization == expected
    assert Recipe(initialize="random", **changes).initialization == "random"
