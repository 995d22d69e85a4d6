"""Images past a memory limit: the same images, read from a file by position."""

import errno
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tskd_tf.data import batches
from tskd_tf.data.images import (
    ImageFile,
    ImageStore,
    as_images,
    chunks,
    fingerprint,
    mean_of_images,
)
from tskd_tf.errors import InputError


def stored(images, limit_mb, batch_size=7):
    store = ImageStore(limit_mb)
    for part in chunks(len(images), batch_size):
        store.append(images[part])
    return store.finish()


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(1, 60),
    limit_bytes=st.integers(0, 1200),
    batch_size=st.integers(1, 20),
    kind=st.sampled_from(["uint8", "float32"]),
)
def test_a_store_gives_back_what_it_was_given(count, limit_bytes, batch_size, kind):
    images = np.random.default_rng(count).integers(0, 255, (count, 4, 3, 1))
    images = images.astype(kind)
    got = stored(images, limit_bytes / 1e6, batch_size)
    assert isinstance(got, ImageFile) == (images.nbytes > limit_bytes)
    assert got.shape == images.shape and got.dtype == images.dtype
    assert got.nbytes == images.nbytes and len(got) == count
    np.testing.assert_array_equal(np.asarray(got), images)
    np.testing.assert_array_equal(np.stack(list(got)), images)
    order = np.random.default_rng(1).permutation(count)
    np.testing.assert_array_equal(np.asarray(got[order][1::2]), images[order][1::2])
    np.testing.assert_allclose(mean_of_images(got), images.mean(axis=0))
    # Whether a run is the same does not hang on where its images are kept
    assert fingerprint(got) == fingerprint(images)


def test_selecting_reads_nothing(arrays, monkeypatch):
    images = stored(arrays[0], limit_mb=0)
    monkeypatch.setattr(np, "memmap", None)
    part = images[np.array([3, 1])][:1]
    assert isinstance(part, ImageFile)
    assert part.shape == (1, 8, 8, 1) and as_images(part) is part


def test_batches_from_a_file_are_those_from_memory(arrays):
    images, class_ids = arrays
    in_file = stored(images, limit_mb=0)
    for seed in (None, 3):
        first, second = (
            batches.batches(({"images": kept}, class_ids), 10, seed)
            for kept in (images, in_file)
        )
        assert first.element_spec == second.element_spec
        assert int(first.cardinality()) == int(second.cardinality()) == 7
        for _ in range(2):
            for one, other in zip(first, second, strict=True):
                np.testing.assert_array_equal(one[0]["images"], other[0]["images"])
                np.testing.assert_array_equal(one[1], other[1])


def test_a_data_set_past_the_limit_goes_into_a_file(arrays):
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(9)
    images, class_ids = batches.as_arrays(dataset, memory_limit_mb=0.001)
    assert isinstance(images, ImageFile)
    np.testing.assert_array_equal(np.asarray(images), arrays[0])
    np.testing.assert_array_equal(class_ids, arrays[1])


def test_nan_in_a_file_is_refused(arrays):
    images = arrays[0].astype("float32")
    batches.check_images(stored(images, 0), (8, 8, 1))
    images[40] = np.nan
    with pytest.raises(InputError, match="NaN"):
        batches.check_images(stored(images, 0), (8, 8, 1))


def test_images_of_two_sizes_and_none_are_refused():
    store = ImageStore()
    with pytest.raises(InputError, match="at least one image"):
        store.finish()
    store.append(np.zeros((2, 4, 4, 1)))
    with pytest.raises(InputError, match=r"\(4, 4, 1\) and \(5, 4, 1\)"):
        store.append(np.zeros((2, 5, 4, 1)))


def test_a_full_disk_is_said_in_one_line(monkeypatch, tmp_path):
    class Full:
        def close(self):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(InputError, match="No space left.*TMPDIR") as caught:
        stored(np.zeros((9, 4, 4, 1)), limit_mb=0)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
