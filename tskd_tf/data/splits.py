"""Image classification data, split into train, validation and test.

Images are decoded once and stay uint8; scaling is a layer of the models. Images that do
not fit in memory are in an `ImageFile`, and are batched in the same way.
"""

from typing import NamedTuple

import numpy as np

from tskd_tf.data.images import Images
from tskd_tf.errors import InputError


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
        source: Origin of the data; a note is added to it if test data are held out.
        class_names: Names of the classes, by class id.
        train: Training data.
        validation: Validation data, or None to take a share of the training data.
        test: Test data, or None to take a sixth of the training data before that.
        validation_fraction: Share of the training data for validation, in (0, 1).
        seed: Decides which examples are taken for validation.

    Raises:
        InputError: If the fraction is out of range, or a class has too few examples.
    """
    if test is None:
        # Test data must not depend on the run's seed: a teacher of a run with another
        # seed would have been trained on them
        train, test = split_off(train, 1 / 6, seed=0)
        source += ", one sixth of the training data held out as test"
    if validation is None:
        train, validation = split_off(train, validation_fraction, seed)
    return ImageData(source, class_names, train, validation, test)


def split_off(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
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
        seed: Decides which examples go to the second part.

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
        # Each class by itself, so that the split does not depend on the loaded classes
        generator = np.random.default_rng([seed, class_id])
        taken.append(generator.permutation(members)[:count])
    second = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(class_ids)), second), second


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Weights that make each class count the same: n / (k·n_c) in class c.

    There are n examples, k classes, and n_c examples of class c, as in scikit-learn's
    "balanced". The mean weight is 1, so the scale of a loss does not change.

    Args:
        labels: Integers of shape `(n,)`. Only classes that occur count.

    Returns:
        float32, shape `(n,)`.
    """
    _, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = len(labels) / (len(counts) * counts)
    return weights[positions].astype(np.float32)
