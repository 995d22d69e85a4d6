"""The transfer set: one teacher pass, the right logits beside the right images."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_network

from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation import kept_soft_targets as kept
from tskd_tf.distillation.kept_soft_targets import (
    fingerprint_of,
    kept_soft_targets,
    load_soft_targets,
    save_soft_targets,
    transfer_fingerprint,
)
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import (
    capture,
    capture_soft_targets,
    transfer_set,
)
from tskd_tf.errors import InputError
from tskd_tf.networks.evaluate import predict_logits


def collect(dataset):
    parts = list(dataset.as_numpy_iterator())
    images = np.concatenate([part[0]["images"] for part in parts])
    logits = np.concatenate([part[0]["teacher_logits"] for part in parts])
    rest = [np.concatenate(column) for column in zip(*(part[1:] for part in parts))]
    return images, logits, *rest


@pytest.mark.parametrize("head", ["full", "task"])
def test_logits_lie_beside_their_images(arrays, teacher, head):
    task = Task([3, 1], 4, head=head)
    stored = capture(teacher, *arrays, task)
    images, labels = task.filter(arrays)
    np.testing.assert_array_equal(stored.images, images)
    np.testing.assert_array_equal(stored.labels, labels)
    assert stored.teacher_logits.dtype == np.float32
    live = task.select_logits(teacher(images).numpy())
    np.testing.assert_allclose(stored.teacher_logits, live, atol=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_transfer_set_of_arrays_and_of_a_dataset(arrays, teacher, small_task, kind):
    given = arrays
    if kind == "dataset":
        given = tf.data.Dataset.from_tensor_slices(arrays).batch(10)
    dataset = transfer_set(given, teacher, small_task)
    assert int(dataset.cardinality()) == (1 if kind == "arrays" else 4)
    images, logits, labels = collect(dataset)
    assert len(images) == 32 and set(labels) == {0, 1}
    live = small_task.select_logits(teacher(images).numpy())
    np.testing.assert_allclose(logits, live, atol=1e-5)
    assert collect(dataset)[2].tolist() != labels.tolist()


def test_without_a_task_all_classes_are_kept(arrays, teacher):
    images, logits, labels = collect(transfer_set(arrays, teacher, batch_size=8))
    assert len(images) == 64 and logits.shape == (64, 4)
    assert sorted(labels) == sorted(arrays[1])


def test_sample_weights_travel_along(arrays, teacher, small_task):
    weights = arrays[1].astype("float32") + 1
    *_, labels, got = collect(transfer_set((*arrays, weights), teacher, small_task))
    # Class 2 is label 0 and weighs 3; class 0 is label 1 and weighs 1
    np.testing.assert_array_equal(got, np.where(labels == 0, 3.0, 1.0))


def test_the_teacher_runs_once_over_each_image(arrays, small_task):
    seen = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            seen.append(inputs.shape[0])
            return inputs

    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(Counting()(image))
    teacher = keras.Model(image, keras.layers.Dense(4)(x))
    seen.clear()
    dataset = transfer_set(arrays, teacher, small_task)
    for _ in range(3):
        collect(dataset)
    assert sum(seen) == 32


def test_what_does_not_fit_is_refused(arrays, teacher, small_task):
    images, class_ids = arrays
    with pytest.raises(InputError, match=r"\(n, 8, 8, 1\)"):
        transfer_set((images[:, :4], class_ids), teacher, small_task)
    with pytest.raises(InputError, match="each of the 5 classes"):
        transfer_set(arrays, teacher, Task([0, 1], 5))
    with pytest.raises(InputError, match="softmax"):
        transfer_set(arrays, make_network(activation="softmax"), small_task)
    probabilities = keras.ops.softmax(teacher.outputs[0]) * 1.0
    disguised = keras.Model(teacher.inputs[0], probabilities)
    # Logits may be positive, or sum up to 1, but hardly both
    for logits in (keras.ops.relu(teacher.outputs[0]), probabilities * 100.0 - 24.75):
        model = keras.Model(teacher.inputs[0], logits)
        transfer_set(arrays, model, small_task)
    with pytest.raises(InputError, match="probabilities"):
        transfer_set(arrays, disguised, small_task)
    with pytest.raises(InputError, match="none of class 2"):
        kept = class_ids != 2
        transfer_set((images[kept], class_ids[kept]), teacher, small_task)
    stream = tf.data.Dataset.from_tensor_slices(arrays)
    with pytest.raises(InputError, match=r"\.batch"):
        transfer_set(stream, teacher, small_task)
    with pytest.raises(InputError, match="empty"):
        transfer_set(stream.batch(8).take(0), teacher, small_task)
    bad = images.astype("float32")
    bad[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        transfer_set((bad, class_ids), teacher, small_task)
    teacher.set_weights([weight * np.nan for weight in teacher.get_weights()])
    with pytest.raises(InputError, match="finite teacher logits"):
        transfer_set(arrays, teacher, small_task)


def test_stored_soft_targets_are_read_back(arrays, teacher, small_task, tmp_path):
    path = tmp_path / "soft_targets.npz"
    stored = capture(teacher, *arrays, small_task)
    mark = transfer_fingerprint(teacher, *arrays, small_task)
    save_soft_targets(path, stored, mark)
    got = load_soft_targets(path, mark, *arrays, small_task)
    for part, expected in zip(got[:3], stored[:3]):
        np.testing.assert_array_equal(part, expected)
    assert [child.name for child in tmp_path.iterdir()] == ["soft_targets.npz"]


def test_soft_targets_of_anything_else_are_refused(
    arrays, teacher, small_task, tmp_path
):
    path = tmp_path / "soft_targets.npz"
    mark = transfer_fingerprint(teacher, *arrays, small_task)
    save_soft_targets(path, capture(teacher, *arrays, small_task), mark)
    images, class_ids = arrays
    other_images = images.copy()
    other_images[5, 0, 0] += 1
    other_teacher = keras.models.clone_model(teacher)
    others = [
        transfer_fingerprint(other_teacher, *arrays, small_task),
        transfer_fingerprint(teacher, other_images, class_ids, small_task),
        transfer_fingerprint(teacher, images, class_ids[::-1], small_task),
        transfer_fingerprint(teacher, *arrays, Task([0, 2], 4, head="task")),
        transfer_fingerprint(teacher, *arrays, Task([2, 0], 4)),
    ]
    assert len({mark, *others}) == 6
    for other in others:
        with pytest.raises(InputError, match="stored for another"):
            load_soft_targets(path, other, *arrays, small_task)


def test_fingerprint_does_not_depend_on_names(arrays, teacher, small_task):
    twin = keras.models.clone_model(
        teacher,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "name": f"other_{layer.name}"}
        ),
    )
    twin.set_weights(teacher.get_weights())
    first, second = (
        transfer_fingerprint(model, *arrays, small_task) for model in (teacher, twin)
    )
    assert first == second


def test_fingerprint_notes_settings_that_are_no_weights(arrays, small_task):
    def with_scale(scale):
        image = keras.Input((8, 8, 1), name="image")
        x = keras.layers.Rescaling(scale, name="scale")(image)
        x = keras.layers.Flatten(name="flatten")(x)
        model = keras.Model(image, keras.layers.Dense(4, name="head")(x), name="m")
        model.set_weights([np.ones((64, 4)), np.zeros(4)])
        return transfer_fingerprint(model, *arrays, small_task)

    assert with_scale(1.0) == with_scale(1.0) != with_scale(0.5)


@pytest.mark.parametrize("damage", ["empty", "torn", "text"])
def test_damaged_soft_targets_are_refused(
    arrays, teacher, small_task, tmp_path, damage
):
    path = tmp_path / "soft_targets.npz"
    save_soft_targets(path, capture(teacher, *arrays, small_task), "mark")
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "torn": whole[: len(whole) // 2], "text": b"hello"}[damage]
    )
    with pytest.raises(InputError, match="Cannot read.*Delete"):
        load_soft_targets(path, "mark", *arrays, small_task)


def test_prediction_in_pieces_is_prediction_at_once(arrays, teacher):
    at_once = predict_logits(teacher, arrays[0])
    in_pieces = predict_logits(teacher, arrays[0], batch_size=7)
    np.testing.assert_allclose(in_pieces, at_once, atol=1e-6)


def test_stored_views_are_kept_and_others_refused(
    tmp_path, teacher, arrays, small_task
):
    flipped, shifted = Augmentation(flip=True), Augmentation(shift=1)
    settings = {
        name: (augmentation._asdict(), num_views, 1)
        for name, augmentation, num_views in (
            ("flipped", flipped, 3),
            ("shifted", shifted, 3),
            ("fewer", flipped, 2),
        )
    }
    marks = {
        name: transfer_fingerprint(teacher, *arrays, small_task, *views)
        for name, views in settings.items()
    }
    marks["plain"] = transfer_fingerprint(teacher, *arrays, small_task)
    assert len(set(marks.values())) == 4
    stored = capture(teacher, *arrays, small_task, flipped, num_views=3)
    assert stored.teacher_logits.shape == (32, 3, 2)
    path = tmp_path / "soft_targets.npz"
    save_soft_targets(path, stored, marks["flipped"])
    got = load_soft_targets(path, marks["flipped"], *arrays, small_task, flipped)
    for one, other in zip(got.batches(8, 1), stored.batches(8, 1), strict=True):
        for name in one[0]:
            np.testing.assert_array_equal(one[0][name], other[0][name])
    for name in ("shifted", "fewer", "plain"):
        with pytest.raises(InputError, match="augmentation"):
            load_soft_targets(path, marks[name], *arrays, small_task, shifted)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(augmentation=Augmentation(shift=1), num_views=2, seed=3),
        Recipe(augmentation=Augmentation(flip=True), num_views=0),
    ],
)
def test_the_teacher_runs_once_for_kept_soft_targets(
    arrays, teacher, small_task, tmp_path, monkeypatch, recipe
):
    given = (teacher, Split(*arrays), small_task, recipe)
    mark = fingerprint_of(*given)
    first = kept_soft_targets(*given, tmp_path, mark)
    views, num_views = recipe.stored_views, recipe.num_views
    expected = capture(teacher, *arrays, small_task, views, num_views, recipe.seed)
    monkeypatch.setattr(kept, "capture", None)
    again = kept_soft_targets(*given, tmp_path, mark)
    for found in (first, again):
        np.testing.assert_array_equal(found.teacher_logits, expected.teacher_logits)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert (found.views is None) == (not views)
        if views:
            np.testing.assert_array_equal(found.views, expected.views)
    with pytest.raises(InputError, match="stored for another"):
        kept_soft_targets(*given, tmp_path, "other")


def test_only_stored_views_count_in_the_mark(arrays, teacher, small_task):
    plain = Recipe()
    live = Recipe(augmentation=Augmentation(flip=True), num_views=0)
    stored = Recipe(augmentation=Augmentation(flip=True), num_views=2)
    others = [dataclasses.replace(stored, seed=2), dataclasses.replace(plain, seed=2)]
    given = (teacher, Split(*arrays), small_task)
    marks = [fingerprint_of(*given, r) for r in (plain, live, stored, *others)]
    assert marks[0] == marks[1] == marks[4]
    assert len(set(marks)) == 3


def test_a_transfer_set_past_the_limit_is_the_same(arrays, teacher, small_task):
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    in_memory, in_file = (
        transfer_set(dataset, teacher, small_task, memory_limit_mb=limit)
        for limit in (1, 0)
    )
    for one, other in zip(in_memory, in_file, strict=True):
        for name in one[0]:
            np.testing.assert_array_equal(one[0][name], other[0][name])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("head", ["full", "task"])
def test_a_task_within_a_set_is_what_its_own_capture_gives(arrays, teacher, head):
    """Bit by bit, in its order, without a further pass of the teacher."""
    weights = np.arange(64, dtype="float32")
    everything = capture_soft_targets((*arrays, weights), teacher)
    task = Task([3, 0, 2], 4, head=head)
    expected = capture_soft_targets((*arrays, weights), teacher, task)
    teacher.set_weights([weight * np.nan for weight in teacher.get_weights()])
    got = everything.for_task(task)
    for name in ("images", "labels", "teacher_logits", "sample_weights"):
        one, other = getattr(got, name), getattr(expected, name)
        np.testing.assert_array_equal(one, other, name)
        assert one.dtype == other.dtype
    for one, other in zip(got.batches(8, 3), expected.batches(8, 3), strict=True):
        for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
            np.testing.assert_array_equal(a, b)
    # Of a set with a full head, again
    again = everything.for_task(Task([3, 0, 2], 4)).for_task(task)
    np.testing.assert_array_equal(again.teacher_logits, got.teacher_logits)


def test_views_and_images_in_a_file_stay_beside_their_logits(arrays, teacher):
    flipped = Augmentation(flip=True)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    everything = capture_soft_targets(
        dataset, teacher, augmentation=flipped, num_views=2, memory_limit_mb=0
    )
    task = Task([3, 1], 4, head="task")
    inputs, labels = next(iter(everything.for_task(task).batches(32)))
    assert set(labels.numpy()) == {0, 1}
    live = task.select_logits(teacher(inputs["images"]).numpy())
    np.testing.assert_allclose(inputs["teacher_logits"], live, atol=1e-5)


def test_tasks_that_are_not_within_a_set_are_refused(arrays, teacher, small_task):
    stored = capture(teacher, *arrays, small_task)
    with pytest.raises(InputError, match=r"all 4 classes.*\[2, 0\].*full head"):
        stored.for_task(Task([2, 0], 4))
    of_two = capture(teacher, *arrays, Task([2, 0], 4))
    with pytest.raises(InputError, match="none of class 3"):
        of_two.for_task(Task([2, 3], 4))
    with pytest.raises(InputError, match="all 5 classes"):
        of_two.for_task(Task([2, 0], 5))


def test_training_draws_every_stored_view(arrays, teacher, small_task):
    """The first view and the last one too, each beside its own logits."""
    flipped = Augmentation(shift=2)
    stored = capture(teacher, *arrays, small_task, flipped, num_views=3)
    drawn = set()
    for epoch in range(12):
        _, logits, _ = collect(stored.batches(16, seed=epoch))
        distances = np.abs(logits[:, None, None] - stored.teacher_logits).max(-1)
        assert distances.min((1, 2)).max() < 1e-5
        drawn |= {int(d.argmin()) % 3 for d in distances}
    assert drawn == {0, 1, 2}
