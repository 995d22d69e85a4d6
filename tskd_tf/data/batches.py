"""Images in batches: shuffled by seed, gathered from arrays or files, and checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tskd_tf.data.images import (
    MEMORY_LIMIT_MB,
    ImageFile,
    Images,
    ImageStore,
    as_images,
    chunks,
)
from tskd_tf.errors import InputError


def batches(
    arrays: Any,
    batch_size: int,
    shuffle_seed: int | None = None,
    finish: Callable[[Any, tf.Tensor], Any] | None = None,
    smallest_batch: int = 1,
) -> tf.data.Dataset:
    """Batches gathered by index.

    The indices are shuffled once per epoch. Each batch is one gather, from memory or
    from the file that holds the images. Both give the same batches.

    Args:
        arrays: A structure of arrays or `ImageFile`s with the same first dimension,
            `n` examples.
        batch_size: Examples per batch; the last may be smaller.
        shuffle_seed: Seed of a new order in each epoch; equal seeds (and equal global
            seeds of TensorFlow, if set) give equal orders. None keeps the order.
        finish: `(batch, seed)` → batch. The seed is two integers and differs for each
            batch of each epoch.
        smallest_batch: A last batch with fewer examples is left out.

    Returns:
        A `tf.data.Dataset` of the same structure, whose cardinality is known.
    """
    with tf.device("CPU"):
        sources = tf.nest.map_structure(_as_source, arrays)
    parts = tf.nest.flatten(sources)
    num_examples = len(parts[0])
    num_batches, rest = divmod(num_examples, batch_size)
    num_batches += int(rest >= smallest_batch)

    def in_order(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = number * batch_size
        end = tf.minimum(start + batch_size, num_examples)
        return tf.range(start, end), tf.stack([tf.zeros_like(start), start + 1])

    def shuffled(draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(num_examples), seed=tf.stack([draw, shuffle_seed])
        )
        places = num_batches * batch_size
        order = tf.pad(order, [[0, max(0, places - num_examples)]])[:places]
        starts = tf.range(0, places, batch_size, tf.int64)
        seeds = tf.stack([tf.fill([num_batches], draw), starts + 1], axis=1)
        return tf.reshape(order, (num_batches, batch_size)), seeds

    def gather(chosen: tf.Tensor, seed: tf.Tensor) -> Any:
        # The last batch may be smaller
        chosen = chosen[: tf.cast(num_examples + 1 - seed[1], tf.int32)]
        batch = tf.nest.map_structure(lambda part: _gather(part, chosen), sources)
        return batch if finish is None else finish(batch, seed)

    has_file = any(isinstance(part, ImageFile) for part in parts)
    num_calls = 2 if has_file else None
    # Each epoch starts the data set again, and each function in it takes time to start:
    # so one function without shuffling, and no flat_map
    if shuffle_seed is None:
        gathered = tf.data.Dataset.range(num_batches).map(
            lambda number: gather(*in_order(number)), num_parallel_calls=num_calls
        )
    else:
        # A new draw each time the data set is iterated, that is each epoch
        draws = tf.data.Dataset.random(
            seed=shuffle_seed, rerandomize_each_iteration=True
        ).take(1)
        orders = draws.map(shuffled).unbatch()
        gathered = orders.map(gather, num_parallel_calls=num_calls)
    known = gathered.apply(tf.data.experimental.assert_cardinality(num_batches))
    # A gather ends sooner than threads wake. The autotuner's own thread takes a
    # fifth of an epoch's time on two cores
    options = tf.data.Options()
    options.autotune.enabled = False
    return known.prefetch(2 if has_file else 1).with_options(options)


def as_arrays(
    dataset: Any, memory_limit_mb: float = MEMORY_LIMIT_MB
) -> tuple[Any, ...]:
    """Reads a data set of batches, in its order.

    Args:
        dataset: A `tf.data.Dataset` of tuples of batches, images first, or a tuple of
            arrays.
        memory_limit_mb: Megabytes of images that may be held in memory; beyond, they
            are kept in a temporary file.

    Returns:
        A tuple of arrays, the first of which may be an `ImageFile`.

    Raises:
        InputError: If the data set is neither, endless or empty.
    """
    if isinstance(dataset, (tuple, list)):
        return tuple(as_images(part) for part in dataset)
    if not isinstance(dataset, tf.data.Dataset):
        raise InputError(
            "Expected a tf.data.Dataset of (images, class ids) batches or a pair of "
            f"arrays. Received: {type(dataset).__name__}"
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("Expected a finite data set. Received: one that repeats")
    return store(dataset, memory_limit_mb)


def store(dataset: tf.data.Dataset, memory_limit_mb: float) -> tuple[Any, ...]:
    """Reads batches of `(images, …)` to the end; see `as_arrays`.

    Raises:
        InputError: If the data set is empty.
    """
    images = ImageStore(memory_limit_mb)
    columns: list[tuple[np.ndarray, ...]] = []
    for first, *others in dataset.as_numpy_iterator():
        images.append(first)
        columns.append(tuple(others))
    if not columns:
        raise InputError("Expected at least one batch. Received: an empty data set")
    return (images.finish(), *map(np.concatenate, zip(*columns)))


def check_images(images: Images, image_shape: tuple[int | None, ...]) -> None:
    """Checks the user's images.

    Args:
        images: Shape `(n, height, width, channels)`.
        image_shape: `(height, width, channels)` that the model takes.

    Raises:
        InputError: If their shape differs, or they hold NaN or infinity.
    """
    fits = len(images.shape) == 4 and all(
        wanted in (None, got) for wanted, got in zip(image_shape, images.shape[1:])
    )
    if not fits:
        raise InputError(
            f"Expected images of shape (n, {', '.join(map(str, image_shape))}), as the "
            f"teacher takes them. Received: {images.shape}"
        )
    if images.dtype.kind != "f":
        return
    for part in chunks(len(images)):
        if not np.isfinite(np.asarray(images[part])).all():
            raise InputError("Expected finite images. Received: NaN or infinite pixels")


def _as_source(array: Any) -> Any:
    return array if isinstance(array, ImageFile) else tf.convert_to_tensor(array)


def _gather(source: Any, chosen: tf.Tensor) -> tf.Tensor:
    if not isinstance(source, ImageFile):
        return tf.gather(source, chosen)

    def read(rows: np.ndarray) -> np.ndarray:
        return np.asarray(source[rows])

    images = tf.numpy_function(read, [chosen], tf.as_dtype(source.dtype))
    return tf.ensure_shape(images, (None, *source.image_shape))
