"""Soft targets that are captured once and kept in a file."""

import json
import logging
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np

from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.images import Images, fingerprint
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import TransferSet, capture
from tskd_tf.errors import InputError
from tskd_tf.files import PathLike, atomic_path
from tskd_tf.networks.graph import layer_calls

_logger = logging.getLogger(__name__)


def fingerprint_of(
    teacher: keras.Model, train: Split, task: Task, recipe: Recipe
) -> str:
    """The fingerprint of everything that determines the soft targets of a training."""
    views = []
    if recipe.augmentation and not recipe.uses_live_teacher:
        views = [recipe.augmentation._asdict(), recipe.num_views, recipe.seed]
    return transfer_fingerprint(teacher, *train, task, *views)


def kept_soft_targets(
    teacher: keras.Model,
    train: Split,
    task: Task,
    recipe: Recipe,
    folder: pathlib.Path,
    mark: str,
) -> TransferSet:
    """Loads the soft targets from a folder, or captures and saves them.

    Args:
        teacher: A model that gives logits.
        train: All training images, with the data set's class ids.
        task: θ.
        recipe: Its augmentation, number of views and seed are used.
        folder: Folder of `soft_targets.npz`.
        mark: The result of `fingerprint_of` for the same arguments.

    Raises:
        InputError: If the file is damaged or has another mark.
    """
    path = folder / "soft_targets.npz"
    stored_views = recipe.stored_views
    if path.exists():
        return load_soft_targets(path, mark, *train, task, stored_views)
    transfer = capture(
        teacher, *train, task, stored_views, recipe.num_views, recipe.seed
    )
    save_soft_targets(path, transfer, mark)
    _logger.info(
        "Soft targets of %d training images captured: %s logits each",
        len(transfer.images),
        " views x ".join(map(str, transfer.teacher_logits.shape[1:])),
    )
    return transfer


def transfer_fingerprint(
    teacher: keras.Model,
    images: Images,
    class_ids: np.ndarray,
    task: Task,
    *views: Any,
) -> str:
    """A fingerprint of teacher, data, task and views, which determine soft targets.

    Args:
        teacher: Its graph, settings and weights are used.
        images: All images of the data set's training split.
        class_ids: Class ids of these images.
        task: θ.
        *views: Settings of the views, JSON-serializable; none without views.

    Returns:
        64 hexadecimal digits.
    """
    layers = [
        (_settings(call.layer), call.input_shapes) for call in layer_calls(teacher)
    ]
    graph = json.dumps(layers, sort_keys=True, default=str)
    weights = [np.asarray(weight) for weight in teacher.get_weights()]
    return fingerprint(graph, *weights, images, class_ids, task.get_config(), *views)


def _settings(layer: Any) -> dict[str, Any]:
    """A layer's settings without its name, which may differ between processes."""
    if isinstance(layer, keras.Model):
        # A subclassed model may lack get_config
        return {"class": type(layer).__name__}
    config = {k: v for k, v in layer.get_config().items() if k != "name"}
    return {"class": type(layer).__name__, **config}


def save_soft_targets(
    path: PathLike, stored: TransferSet, expected_fingerprint: str
) -> None:
    """Writes logits, labels, views and fingerprint to an `.npz` file, atomically."""
    arrays: dict[str, Any] = {
        "teacher_logits": stored.teacher_logits,
        "labels": stored.labels,
        "fingerprint": np.array(expected_fingerprint),
    }
    if stored.views is not None:
        arrays["views"] = stored.views
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def load_soft_targets(
    path: PathLike,
    expected_fingerprint: str,
    images: Images,
    class_ids: np.ndarray,
    task: Task,
    augmentation: Augmentation = Augmentation(),
) -> TransferSet:
    """Loads soft targets after a check of their fingerprint.

    Args:
        path: Path of the `.npz` file.
        expected_fingerprint: Fingerprint of teacher, data, task and views.
        images: All images of the data set's training split.
        class_ids: Class ids of these images, shape `(n,)`.
        task: θ.
        augmentation: Augmentation of the stored views. Default: none.

    Raises:
        InputError: If the file is damaged, or belongs to another teacher, data set,
            task or augmentation.
    """
    try:
        # np.load itself leaves the file open when it is damaged
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            found = str(stored["fingerprint"])
            logits, labels = stored["teacher_logits"], stored["labels"]
            views = stored["views"] if augmentation else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Cannot read the soft targets in {path} ({error}). Delete the file to run "
            "the teacher over the transfer set again"
        ) from None
    if found != expected_fingerprint:
        raise InputError(
            "Expected soft targets of this teacher, data set (in this order), task and "
            f"augmentation. Received: {path}, stored for another; use another folder"
        )
    chosen = images[task.indices(class_ids)]
    return TransferSet(chosen, labels, logits, None, augmentation, views, task)
