"""Views: exact, drawn alike for a seed, and the same for teacher and student."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tskd_tf.data import batches
from tskd_tf.data.augmentation import Augmentation
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.soft_targets import capture, transfer_set
from tskd_tf.errors import InputError
from tskd_tf.networks.width import scale_width


def reference_view(image, view, augmentation):
    """One view, pixel by pixel as a person would say it."""
    is_mirrored, down, right = view
    if is_mirrored:
        image = image[:, ::-1]
    distance = augmentation.crop + augmentation.shift
    border = [(distance, distance), (distance, distance), (0, 0)]
    padded = np.pad(image, border, mode="constant" if augmentation.crop else "edge")
    top, left = distance + down, distance + right
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


AUGMENTATIONS = [
    Augmentation(),
    Augmentation(flip=True),
    Augmentation(crop=2),
    Augmentation(shift=3),
    Augmentation(flip=True, crop=1),
]


@settings(deadline=None, max_examples=30)
@given(
    augmentation=st.sampled_from(AUGMENTATIONS),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 3),
    kind=st.sampled_from(["uint8", "float32"]),
    seed=st.integers(0, 1000),
)
def test_views_against_numpy(augmentation, height, width, channels, kind, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(1, 255, (6, height, width, channels)).astype(kind)
    views = augmentation.draw(6, (seed, 1))
    got = augmentation.apply(images, views)
    assert got.dtype == images.dtype and got.shape == images.shape
    for image, view, seen in zip(images, views.numpy(), got.numpy()):
        np.testing.assert_array_equal(seen, reference_view(image, view, augmentation))
    if not augmentation:
        np.testing.assert_array_equal(got, images)


def test_every_view_is_drawn_and_alike_for_a_seed():
    augmentation = Augmentation(flip=True, shift=1)
    views = augmentation.draw(2000, (1, 2)).numpy()
    assert len(np.unique(views, axis=0)) == 2 * 3 * 3
    assert abs(views.mean(axis=0) - [0.5, 0, 0]).max() < 0.06
    np.testing.assert_array_equal(views, augmentation.draw(2000, (1, 2)))
    assert (views != augmentation.draw(2000, (1, 3)).numpy()).any()


def test_mapped_batches_have_new_views_each_epoch(arrays):
    def epochs(seed):
        plain = batches.batches(arrays, 16)
        views = Augmentation(flip=True, crop=2).map(plain, seed)
        assert int(views.cardinality()) == 4
        return [np.concatenate([batch[0] for batch in views]) for _ in range(2)]

    first, second = epochs(1)
    assert (first != second).any() and (first != epochs(2)[0]).any()
    for again, before in zip(epochs(1), (first, second)):
        np.testing.assert_array_equal(again, before)


def test_stored_views_carry_their_own_logits(arrays, teacher, small_task):
    augmentation = Augmentation(flip=True, shift=2)
    stored = transfer_set(
        arrays, teacher, small_task, 8, augmentation=augmentation, num_views=3
    )
    assert int(stored.cardinality()) == 4
    plain = small_task.filter(arrays)[0]
    seen = [np.concatenate(_images_of(stored)) for _ in range(8)]
    for inputs, _ in stored:
        logits = small_task.select_logits(teacher(inputs["images"]))
        np.testing.assert_allclose(inputs["teacher_logits"], logits, atol=1e-4)
        assert set(inputs) == {"images", "teacher_logits", "teacher_pixels"}
    # Three views of each of 32 images, and no others, however many epochs
    assert len(np.unique(np.concatenate(seen), axis=0)) <= 3 * 32
    assert len(np.unique(np.concatenate(seen), axis=0)) > 2 * 32
    assert (np.sort(seen[0].ravel()) != np.sort(plain.ravel())).any()


def _images_of(dataset):
    return [inputs["images"].numpy() for inputs, _ in dataset]


def test_stored_views_train_like_a_live_teacher_on_them(arrays, teacher, small_task):
    def views():
        return transfer_set(
            arrays, teacher, small_task, 8, augmentation=AUGMENTATIONS[4], num_views=2
        )

    weights = []
    for is_live in (False, True):
        keras.utils.set_random_seed(1)
        student = scale_width(teacher, 0.5, small_task)
        distiller = Distiller(student, teacher, task=small_task)
        distiller.compile(keras.optimizers.SGD(0.1))
        dataset = views()
        if is_live:
            dataset = dataset.map(lambda inputs, labels: (inputs["images"], labels))
        distiller.fit(dataset, epochs=2, verbose=0, shuffle=False)
        weights.append(student.get_weights())
    for stored, live in zip(*weights, strict=True):
        np.testing.assert_allclose(stored, live, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images[:, :, ::-1],
        lambda images: tf.roll(images, 1, axis=1),
        lambda images: images // 2,
        lambda images: tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, 2:, 2:],
    ],
    ids=["flip", "shift", "darker", "crop"],
)
@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_stored_logits_of_other_views_are_refused(
    arrays, teacher, small_task, change, steps_per_execution
):
    other = transfer_set(arrays, teacher, small_task, 8).map(
        lambda inputs, labels: ({**inputs, "images": change(inputs["images"])}, labels)
    )
    student = scale_width(teacher, 0.5, small_task)
    before = student.get_weights()
    distiller = Distiller(student, task=small_task)
    distiller.compile(steps_per_execution=steps_per_execution)
    with pytest.raises(
        (InputError, tf.errors.InvalidArgumentError), match="augmentation to transfer"
    ):
        distiller.fit(other, verbose=0, shuffle=False)
    for one, another in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)


def test_a_cast_of_the_images_is_no_other_view(arrays, teacher, small_task):
    same = transfer_set(arrays, teacher, small_task, 8).map(
        lambda inputs, labels: (
            {**inputs, "images": tf.cast(inputs["images"], tf.float32)},
            labels,
        )
    )
    distiller = Distiller(scale_width(teacher, 0.5, small_task), task=small_task)
    distiller.compile()
    distiller.fit(same, verbose=0, shuffle=False)


def test_views_of_a_transfer_set_are_refused(arrays, teacher, small_task):
    stored = transfer_set(arrays, teacher, small_task)
    with pytest.raises(InputError, match="pass the augmentation to transfer_set"):
        Augmentation(flip=True).map(stored)


def test_a_student_that_makes_views_of_its_own_is_refused(teacher):
    nested = keras.Sequential(
        [keras.layers.RandomFlip(name="mirror"), keras.layers.Activation("relu")]
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), nested, *teacher.layers])
    with pytest.raises(InputError, match="mirror"):
        Distiller(model, teacher)
    mixing = keras.layers.MixUp(name="mixing")
    model = keras.Sequential([keras.Input((8, 8, 1)), mixing, *teacher.layers])
    with pytest.raises(InputError, match="mixing"):
        Distiller(model, teacher)


def test_random_crops_are_refused():
    """Keras's `RandomCrop` gives inference the whole image, against its own shape."""
    image = keras.Input((8, 8, 1))
    crop = keras.layers.RandomCrop(6, 6, name="crop")
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(crop(image)))
    model = keras.Model(image, keras.layers.Dense(4)(x))
    with pytest.raises(InputError, match="'crop' of type RandomCrop.*CenterCrop"):
        scale_width(model, 0.5)
    with pytest.raises(InputError, match="its own views in crop"):
        Distiller(model, model)


def test_a_student_of_a_teacher_that_makes_views_does_not():
    teacher = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.RandomTranslation(0.2, 0.2, name="move"),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )
    student = scale_width(teacher, 1.0)
    student.set_weights([w for w in teacher.get_weights() if w.ndim])
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 1))
    np.testing.assert_allclose(
        student(images, training=True), teacher(images, training=False), atol=1e-5
    )
    Distiller(student, teacher)


def test_settings_that_contradict_are_refused(arrays, teacher, small_task):
    for wrong in (Augmentation(crop=1, shift=1), Augmentation(crop=-1)):
        with pytest.raises(InputError, match="either crop or shift"):
            capture(teacher, *arrays, small_task, wrong)
        with pytest.raises(InputError, match="either crop or shift"):
            wrong.map(batches.batches(arrays, 8))
    with pytest.raises(InputError, match="num_views"):
        capture(teacher, *arrays, small_task, Augmentation(flip=True), num_views=0)
