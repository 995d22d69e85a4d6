"""Training one student: views, memory and devices by recipe."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import make_data

from tskd_tf.augmentation import Augmentation
from tskd_tf.data import Split, as_arrays, batches
from tskd_tf.errors import InputError
from tskd_tf.images import ImageFile
from tskd_tf.soft_targets import capture
from tskd_tf.training import Recipe, train_student, train_teacher

VIEWS = Augmentation(flip=True, shift=1)
RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.01)


def train(teacher, images, class_ids, task, recipe):
    stored = VIEWS if not recipe.uses_live_teacher else Augmentation()
    views = stored if recipe.augmentation else Augmentation()
    transfer = capture(teacher, images, class_ids, task, views, recipe.num_views)
    validation = Split(*task.filter(make_data(40, seed=5)))
    trained = train_student(teacher, 0.5, transfer, validation, task, recipe, verbose=0)
    return trained.student.get_weights()


@pytest.mark.parametrize("num_views", [0, 2])
def test_views_change_the_student(trained_teacher, arrays, small_task, num_views):
    plain = train(trained_teacher, *arrays, small_task, RECIPE)
    recipe = RECIPE._replace(augmentation=VIEWS, num_views=num_views)
    first, second = (
        train(trained_teacher, *arrays, small_task, recipe) for _ in range(2)
    )
    assert any((a != b).any() for a, b in zip(plain, first, strict=True))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_images_in_a_file_train_the_same_student(trained_teacher, arrays, small_task):
    images, class_ids = as_arrays(batches(arrays, 8), memory_limit_mb=0)
    assert isinstance(images, ImageFile)
    in_file = train(trained_teacher, images, class_ids, small_task, RECIPE)
    in_memory = train(trained_teacher, *arrays, small_task, RECIPE)
    for a, b in zip(in_file, in_memory, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"steps_per_execution": 1}, {"jit_compile": True}, {"distribute": "none"}],
    ids=str,
)
def test_how_steps_are_run_does_not_change_the_student(
    trained_teacher, arrays, small_task, settings
):
    expected = train(trained_teacher, *arrays, small_task, RECIPE)
    got = train(trained_teacher, *arrays, small_task, RECIPE._replace(**settings))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_teacher_is_trained_on_views_too(teacher, arrays):
    split = Split(*arrays)
    first, second = (
        train_teacher(teacher, split, split, recipe, verbose=0).get_weights()
        for recipe in (RECIPE, RECIPE._replace(augmentation=VIEWS))
    )
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_views": -1}, "num_views from 0 on"),
        ({"steps_per_execution": 0}, "steps_per_execution of at least 1"),
        ({"jit_compile": "yes"}, "jit_compile"),
        ({"distribute": "everywhere"}, "distribute out of auto"),
        ({"augmentation": Augmentation(crop=1, shift=1)}, "either crop or shift"),
    ],
)
def test_wrong_recipes_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RECIPE._replace(**settings).check()


# Two CPUs must be asked for before TensorFlow starts them, so in a process of its own
TWO_CPUS = """
    import json
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )

    import keras
    from conftest import make_data, make_network
    from tskd_tf import InputError, Recipe, Task
    from tskd_tf.augmentation import Augmentation
    from tskd_tf.data import Split
    from tskd_tf.soft_targets import capture
    from tskd_tf.training import train_student, train_teacher

    # The last batch of 13 cannot be shared equally, nor the validation images
    train, validation = (Split(*make_data(n, seed=n)) for n in (61, 41))
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.003)
    mirrored = recipe._replace(distribute="mirrored")
    keras.utils.set_random_seed(1)
    network = make_network()
    teacher = train_teacher(network, train, validation, mirrored, verbose=0)
    task = Task(range(4), 4)
    transfer = capture(teacher, *train, task)
    weights = {}
    for views, changes in {
        "stored": {},
        "live": {"augmentation": Augmentation(flip=True), "num_views": 0},
    }.items():
        for devices, chosen in {"one": recipe, "two": mirrored}.items():
            trained = train_student(
                teacher, 0.5, transfer, validation, task,
                chosen._replace(**changes), verbose=0,
            )
            arrays = trained.student.get_weights()
            weights[f"{devices}, {views}"] = [array.tolist() for array in arrays]
    try:
        train_teacher(
            network, train, validation, mirrored._replace(batch_size=15), verbose=0
        )
    except InputError as error:
        refusal = str(error)
    print(json.dumps({"weights": weights, "refusal": refusal}))
"""


def test_two_devices_train_the_student_of_one():
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    completed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_CPUS)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert completed.returncode == 0, completed.stderr
    result = json.loads(completed.stdout.splitlines()[-1])
    weights = result["weights"]
    for views in ("stored", "live"):
        pairs = zip(weights[f"one, {views}"], weights[f"two, {views}"], strict=True)
        for one, two in pairs:
            # Adam makes rounding grow from step to step; one step agrees to 1e-6
            np.testing.assert_allclose(one, two, atol=1e-3)
    assert "2 devices share equally" in result["refusal"]
