"""Splits, batches and where data come from."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_sample_weight

from tskd_tf.data import batches, splits
from tskd_tf.data.images import ImageFile
from tskd_tf.data.tfds import load
from tskd_tf.errors import InputError


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 100),
)
def test_stratified_split(counts, fraction, seed):
    class_ids = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(class_ids)
    first, second = splits.stratified_split(class_ids, fraction, seed)
    together = np.concatenate([first, second])
    assert sorted(together) == list(range(len(class_ids)))
    assert (np.diff(first) > 0).all() and (np.diff(second) > 0).all()
    for class_id, count in enumerate(counts):
        taken = int((class_ids[second] == class_id).sum())
        assert 1 <= taken < count
        assert abs(taken - fraction * count) <= 1
    again = splits.stratified_split(class_ids, fraction, seed)
    np.testing.assert_array_equal(again[1], second)


def test_split_of_a_class_with_one_example_is_refused():
    with pytest.raises(InputError, match="one of class 7"):
        splits.stratified_split(np.array([3, 3, 7]), 0.5, seed=1)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            splits.stratified_split(np.array([3, 3]), fraction, seed=1)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=6), first=st.integers())
def test_balanced_weights(counts, first):
    labels = np.repeat(np.arange(len(counts)) + first % 7, counts)
    np.random.default_rng(0).shuffle(labels)
    weights = splits.balanced_weights(labels)
    assert weights.dtype == np.float32
    expected = compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    totals = [weights[labels == label].sum() for label in np.unique(labels)]
    np.testing.assert_allclose(totals, totals[0], rtol=1e-5)


def test_balanced_weights_in_numbers():
    weights = splits.balanced_weights(np.array([5, 2, 5, 5]))
    np.testing.assert_allclose(weights, [2 / 3, 2, 2 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(splits.balanced_weights(np.array([1, 0, 0, 1])), 1)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (10, 10), (3, 8), (8, 4)])
def test_batches_know_their_number_and_hold_every_example_once(count, batch_size):
    arrays = ({"a": np.arange(count), "b": -np.arange(count)}, np.arange(count) * 10)
    for seed in (None, 5):
        dataset = batches.batches(arrays, batch_size, seed)
        assert int(dataset.cardinality()) == -(-count // batch_size)
        got = list(dataset.as_numpy_iterator())
        assert len(got) == -(-count // batch_size)
        inputs = np.concatenate([part[0]["a"] for part in got])
        assert sorted(inputs) == list(range(count))
        np.testing.assert_array_equal(
            np.concatenate([part[0]["b"] for part in got]), -inputs
        )
        np.testing.assert_array_equal(np.concatenate([p[1] for p in got]), inputs * 10)
        if seed is None:
            assert inputs.tolist() == list(range(count))


def test_batches_are_shuffled_anew_each_epoch_and_alike_for_a_seed():
    def epochs(seed, number=3):
        dataset = batches.batches((np.arange(50),), 7, seed)
        return [
            np.concatenate([part[0] for part in dataset]).tolist()
            for _ in range(number)
        ]

    first = epochs(1)
    assert first[0] != first[1] != first[2] != first[0]
    assert epochs(1) == first
    assert epochs(2) != first
    assert epochs(0) == epochs(0)


def test_a_last_batch_that_is_too_small_is_left_out():
    for count, smallest, expected in ((9, 2, 2), (10, 2, 3), (8, 2, 2), (9, 1, 3)):
        dataset = batches.batches((np.arange(count),), 4, 1, smallest_batch=smallest)
        sizes = [len(batch) for (batch,) in dataset]
        assert len(sizes) == int(dataset.cardinality()) == expected
        assert min(sizes) >= smallest


def test_as_arrays(arrays):
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(7)
    for got, expected in zip(batches.as_arrays(dataset), arrays):
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(InputError, match="one that repeats"):
        batches.as_arrays(dataset.repeat())
    with pytest.raises(InputError, match="empty"):
        batches.as_arrays(dataset.take(0))
    with pytest.raises(InputError, match="str"):
        batches.as_arrays("mnist")


def test_bad_images_are_refused():
    images = np.zeros((2, 8, 8, 1), "float32")
    batches.check_images(images, (8, 8, 1))
    batches.check_images(images, (None, None, 1))
    with pytest.raises(InputError, match=r"\(n, 8, 8, 3\).*\(2, 8, 8, 1\)"):
        batches.check_images(images, (8, 8, 3))
    with pytest.raises(InputError, match=r"\(2, 8, 8\)"):
        batches.check_images(images[..., 0], (8, 8, 1))
    images[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        batches.check_images(images, (8, 8, 1))


def test_without_a_network_it_says_what_to_do(no_network, tmp_path):
    with pytest.raises(InputError) as caught:
        load("mnist", str(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    for part in ("tfds build mnist", "--data_dir", "--offline_sample", str(tmp_path)):
        assert part in message
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_sample_is_for_mnist_only(no_network, tmp_path):
    with pytest.raises(InputError, match="fashion_mnist") as caught:
        load("fashion_mnist", str(tmp_path), offline_sample=True)
    assert "--offline_sample" not in str(caught.value)


def test_the_sample_is_real_mnist_and_loud(no_network, tmp_path, caplog):
    got = load("mnist", str(tmp_path), offline_sample=True)
    assert "5,000" in got.source and "NO NETWORK" in caplog.text
    assert got.test.images.shape == (1000, 28, 28, 1)
    assert got.train.images.dtype == np.uint8
    assert len(got.train.images) + len(got.validation.images) == 4000
    for split in (got.train, got.validation, got.test):
        counts = np.bincount(split.class_ids)
        assert len(counts) == 10 and counts.min() == counts.max()
    # Another seed validates on other images and tests on the same
    other = load("mnist", str(tmp_path), seed=2, offline_sample=True)
    np.testing.assert_array_equal(other.test.images, got.test.images)
    assert (other.validation.images != got.validation.images).any()


def test_unknown_data_sets_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="mnistt") as caught:
        load("mnistt", str(tmp_path))
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """A small TFDS data set, written and read by the real TFDS."""

    VERSION = tfds.core.Version("1.0.0")
    splits = ("train",)
    image_shape = (8, 8, 1)
    class_names = ["square", "disc"]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=self.image_shape),
                    "label": tfds.features.ClassLabel(names=self.class_names),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, manager):
        return {name: self._generate_examples(name) for name in self.splits}

    def _generate_examples(self, split):
        for key in range(24):
            image = np.full((8, 8, 1), 10 * key, np.uint8)
            yield key, {"image": image, "label": key % len(self.class_names)}


class ShapesWithTest(Shapes):
    splits = ("train", "test")


class ManyShapes(ShapesWithTest):
    class_names = ["square", "disc", "ring"]


class AnySize(Shapes):
    image_shape = (None, None, 1)


@pytest.fixture
def prepared(tmp_path):
    def prepare(builder_class):
        builder = builder_class(data_dir=str(tmp_path))
        builder.download_and_prepare()
        return builder.name, str(tmp_path)

    return prepare


def test_a_prepared_copy_is_read(prepared):
    name, folder = prepared(ShapesWithTest)
    got = load(name, folder, validation_fraction=0.25)
    assert got.class_names == ["square", "disc"]
    assert got.source == "tensorflow_datasets shapes_with_test/1.0.0"
    assert got.train.images.shape == (18, 8, 8, 1)
    assert len(got.validation.images) == 6 and len(got.test.images) == 24
    np.testing.assert_array_equal(
        got.train.images[:, 0, 0, 0] // 10 % 2, got.train.class_ids
    )


@pytest.mark.parametrize("seed", [1, 5])
def test_past_the_limit_everything_stays_the_same(prepared, seed):
    name, folder = prepared(ShapesWithTest)
    in_memory, in_file = (
        load(name, folder, 0.25, seed, memory_limit_mb=limit) for limit in (1, 0)
    )
    for one, other in zip(in_memory[2:], in_file[2:], strict=True):
        assert isinstance(other.images, ImageFile)
        np.testing.assert_array_equal(one.images, np.asarray(other.images))
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        first, second = (
            batches.batches(tuple(split), 4, seed) for split in (one, other)
        )
        for batch, twin in zip(first, second, strict=True):
            np.testing.assert_array_equal(batch[0], twin[0])
            np.testing.assert_array_equal(batch[1], twin[1])
    # The limit is that of both splits: 24 images of 64 bytes each
    only_train = load(name, folder, memory_limit_mb=2000 / 1e6)
    assert isinstance(only_train.train.images, np.ndarray)
    assert isinstance(only_train.test.images, ImageFile)


def test_only_the_classes_asked_for_are_decoded(prepared, monkeypatch):
    name, folder = prepared(ManyShapes)
    everything = load(name, folder, 0.25)
    decoded = []
    decode = tfds.features.Image.decode_example

    def count(feature, example):
        tf.py_function(lambda: decoded.append(1), [], [])
        return decode(feature, example)

    monkeypatch.setattr(tfds.features.Image, "decode_example", count)
    some = load(name, folder, 0.25, choose_classes=lambda names: [names.index("ring")])
    assert len(decoded) == 2 * 8
    assert some.class_names == ["square", "disc", "ring"]
    for one, other in zip(everything[2:], some[2:], strict=True):
        is_ring = one.class_ids == 2
        np.testing.assert_array_equal(one.images[is_ring], other.images)
        assert set(other.class_ids) == {2}


def test_a_set_without_a_test_split_is_given_one(prepared):
    name, folder = prepared(Shapes)
    got = load(name, folder, validation_fraction=0.2)
    assert "held out as test" in got.source
    assert len(got.test.images) == 4
    seen = [split.images[:, 0, 0, 0] for split in got[2:]]
    assert len(set(np.concatenate(seen))) == 24


def test_images_of_several_sizes_are_refused(prepared):
    name, folder = prepared(AnySize)
    with pytest.raises(InputError, match="one size"):
        load(name, folder)
