"""Training one student: views, memory and devices by recipe."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from conftest import make_data
from digits import mnist_data

from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.batches import as_arrays, batches
from tskd_tf.data.images import ImageFile
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.distillation.training import train_student, train_teacher
from tskd_tf.errors import InputError
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.zoo.models import lenet

VIEWS = Augmentation(flip=True, shift=1)
RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.01)


def train(teacher, images, class_ids, task, recipe):
    views = Augmentation() if recipe.uses_live_teacher else recipe.augmentation
    transfer = capture(teacher, images, class_ids, task, views, recipe.num_views)
    validation = Split(*task.filter(make_data(40, seed=5)))
    trained = train_student(teacher, 0.5, transfer, validation, task, recipe, verbose=0)
    return trained.student.get_weights()


@pytest.mark.parametrize("num_views", [0, 2])
def test_views_change_the_student(trained_teacher, arrays, small_task, num_views):
    plain = train(trained_teacher, *arrays, small_task, RECIPE)
    recipe = dataclasses.replace(RECIPE, augmentation=VIEWS, num_views=num_views)
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
    got = train(
        trained_teacher, *arrays, small_task, dataclasses.replace(RECIPE, **settings)
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_teacher_is_trained_on_views_too(teacher, arrays):
    split = Split(*arrays)
    first, second = (
        train_teacher(teacher, split, split, recipe, verbose=0).get_weights()
        for recipe in (RECIPE, dataclasses.replace(RECIPE, augmentation=VIEWS))
    )
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


@pytest.fixture
def few_and_repeated():
    """Three times as many examples of class 2 as of class 0, and these three times.

    Each image is its own mirror image, so that all views of it are alike.
    """
    images, class_ids = make_data(80)
    images = images // 2 + images[:, :, ::-1] // 2
    many, few = np.flatnonzero(class_ids == 2), np.flatnonzero(class_ids == 0)[:5]
    others = np.flatnonzero(class_ids % 2)[:30]
    chosen = [many[:15], few, others]
    repeated = [many[:15], few, few, few, others]
    return [
        Split(images[rows], class_ids[rows])
        for rows in map(np.concatenate, [chosen, repeated])
    ]


MIRRORED = Augmentation(flip=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"soft_loss_weight": 0.0},
        {"augmentation": MIRRORED, "num_views": 2},
        {"augmentation": MIRRORED, "num_views": 0},
    ],
    ids=["stored", "control", "stored views", "live teacher"],
)
def test_balanced_weights_are_repeated_examples(
    trained_teacher, small_task, few_and_repeated, settings
):
    """One batch an epoch: its weighted mean is that over the repeated examples."""
    recipe = dataclasses.replace(RECIPE, epochs=4, batch_size=64, **settings)
    balanced = dataclasses.replace(recipe, class_weights="balanced")
    few, repeated = few_and_repeated
    plain, weighted, same, weighted_same = (
        train(trained_teacher, *split, small_task, chosen)
        for split in (few, repeated)
        for chosen in (recipe, balanced)
    )
    for a, b, c in zip(weighted, same, weighted_same, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
        # Equal counts: all weights are 1
        np.testing.assert_allclose(b, c, atol=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(plain, weighted)) > 0.01


def test_balanced_weights_of_a_teacher_are_repeated_examples(teacher, few_and_repeated):
    few, repeated = (
        Split(*(part[split.class_ids % 2 == 0] for part in split))
        for split in few_and_repeated
    )
    balanced = dataclasses.replace(RECIPE, batch_size=64, class_weights="balanced")
    weighted, same, plain = (
        train_teacher(teacher, split, few, recipe, verbose=0).get_weights()
        for split, recipe in (
            (few, balanced),
            (repeated, dataclasses.replace(balanced, class_weights="none")),
            (few, dataclasses.replace(balanced, class_weights="none")),
        )
    )
    for a, b in zip(weighted, same, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    assert max(np.abs(a - b).max() for a, b in zip(plain, weighted)) > 0.01


@pytest.mark.long
def test_balanced_weights_serve_the_rare_class():
    """Real fours and nines, ten to one: seeds 1 to 3 gained 0.23 to 0.30."""
    pixels, class_ids = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype("uint8")
    fours, nines = (np.flatnonzero(class_ids == digit) for digit in (4, 9))
    rows = np.concatenate([fours[:300], nines[:30]])
    rare = Split(images[rows], class_ids[rows])
    # As many of both, so that its accuracy is the balanced one
    rows = np.concatenate([fours[300:], nines[300:]])
    task = Task([4, 9], 10, head="task")
    even = Split(*task.filter((images[rows], class_ids[rows])))
    balanced_accuracy = {}
    for class_weights in ("none", "balanced"):
        recipe = Recipe(epochs=10, batch_size=64, class_weights=class_weights)
        keras.utils.set_random_seed(1)
        network = lenet((28, 28, 1), 10)
        teacher = train_teacher(network, rare, rare, recipe, verbose=0)
        transfer = capture(teacher, *rare, task)
        trained = train_student(teacher, 0.1, transfer, even, task, recipe, verbose=0)
        balanced_accuracy[class_weights] = trained.accuracy
    assert balanced_accuracy["balanced"] > balanced_accuracy["none"] + 0.1


@pytest.fixture
def train_to_verdict(trained_teacher, arrays, small_task):
    """Trains for four epochs at most, with a function that gives verdicts."""
    transfer = capture(trained_teacher, *arrays, small_task)
    validation = Split(*small_task.filter(make_data(40, seed=5)))
    recipe = dataclasses.replace(RECIPE, epochs=4)

    def run(early_verdict=None):
        return train_student(
            trained_teacher,
            0.5,
            transfer,
            validation,
            small_task,
            recipe,
            verbose=0,
            early_verdict=early_verdict,
        )

    return run, validation


@pytest.mark.parametrize("verdict", [True, False])
def test_training_ends_at_its_verdict(train_to_verdict, verdict):
    run, validation = train_to_verdict
    seen = []

    def after_two(accuracies):
        seen.append(list(accuracies))
        return verdict if len(accuracies) == 2 else None

    stopped, full = run(after_two), run()
    assert (stopped.epochs, full.epochs) == (2, 4)
    # The first epochs are those of the full training, reported one by one
    accuracies = full.curve["validation_accuracy"]
    assert seen == [accuracies[:1], accuracies[:2]]
    assert stopped.curve == {name: full.curve[name][:2] for name in full.curve}
    # What is measured is what is kept
    logits = predict_logits(stopped.student, validation.images)
    assert stopped.accuracy == accuracy(logits, validation.class_ids)
    assert stopped.accuracy == pytest.approx(accuracies[1])
    pairs = zip(stopped.student.get_weights(), full.student.get_weights(), strict=True)
    assert any((a != b).any() for a, b in pairs)


def test_without_a_verdict_training_is_untouched(train_to_verdict):
    run, _ = train_to_verdict
    plain, watched = run(), run(lambda accuracies: None)
    assert (plain.curve, plain.epochs) == (watched.curve, 4)
    pairs = zip(plain.student.get_weights(), watched.student.get_weights(), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": "equal"}, "class_weights out of none, balanced"),
        ({"num_views": -1}, "num_views from 0 on"),
        ({"steps_per_execution": 0}, "steps_per_execution of at least 1"),
        ({"jit_compile": "yes"}, "jit_compile"),
        ({"distribute": "everywhere"}, "distribute out of auto"),
        ({"augmentation": Augmentation(crop=1, shift=1)}, "either crop or shift"),
    ],
)
def test_wrong_recipes_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RECIPE, **settings).check()


# Two CPUs must be asked for before TensorFlow starts them, so in a process of its own
TWO_CPUS = """
    import dataclasses
    import json
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )

    import keras
    import numpy as np
    from conftest import make_data, make_network
    from tskd_tf import InputError, Recipe, Task
    from tskd_tf.data.augmentation import Augmentation
    from tskd_tf.data.splits import Split
    from tskd_tf.distillation.soft_targets import capture
    from tskd_tf.distillation.training import train_student, train_teacher

    # The last batch of 13 cannot be shared equally, nor the validation images
    train, validation = (Split(*make_data(n, seed=n)) for n in (73, 41))
    # Few of class 3
    kept = (train.class_ids < 3) | (np.arange(73) < 24)
    train = Split(*(part[kept] for part in train))
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.003)
    mirrored = dataclasses.replace(recipe, distribute="mirrored")
    keras.utils.set_random_seed(1)
    network = make_network()
    teacher = train_teacher(network, train, validation, mirrored, verbose=0)
    task = Task(range(4), 4)
    transfer = capture(teacher, *train, task)
    weights = {}
    for views, changes in {
        "stored": {},
        "live": {"augmentation": Augmentation(flip=True), "num_views": 0},
        "balanced": {"class_weights": "balanced"},
    }.items():
        for devices, chosen in {"one": recipe, "two": mirrored}.items():
            trained = train_student(
                teacher, 0.5, transfer, validation, task,
                dataclasses.replace(chosen, **changes), verbose=0,
            )
            arrays = trained.student.get_weights()
            weights[f"{devices}, {views}"] = [array.tolist() for array in arrays]
    try:
        train_teacher(
            network, train, validation, dataclasses.replace(mirrored, batch_size=15),
            verbose=0,
        )
    except InputError as error:
        refusal = str(error)
    print(json.dumps({"weights": weights, "refusal": refusal}))
"""


@pytest.mark.long
def test_two_devices_train_the_student_of_one():
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    completed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_CPUS)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert completed.returncode == 0, completed.stderr
    result = json.loads(completed.stdout.splitlines()[-1])
    weights = result["weights"]
    assert weights["one, stored"] != weights["one, balanced"]
    for views in ("stored", "live", "balanced"):
        pairs = zip(weights[f"one, {views}"], weights[f"two, {views}"], strict=True)
        for one, two in pairs:
            # Adam makes rounding grow from step to step; one step agrees to 1e-6
            np.testing.assert_allclose(one, two, atol=1e-3)
    assert "2 devices share equally" in result["refusal"]
