"""Soft targets that are captured once and kept in a folder."""

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
    """The fingerprint of all that the soft targets of a training depend on."""
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
    """The soft targets in the folder; else they are captured and kept there.

    Args:
        teacher: Gives logits.
        train: All training images, with the data set's class ids.
        task: θ.
        recipe: Its views, their number and its seed count.
        folder: Holds `soft_targets.npz`.
        mark: What `fingerprint_of` gives for the same arguments.

    Raises:
        InputError: If what the folder holds is damaged, or has another mark.
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
    """Identifies what soft targets depend on: teacher, data, task and views.

    Args:
        teacher: Its graph, settings and weights count.
        images: All images of the data set's training split.
        class_ids: Their class ids.
        task: θ.
        *views: What views are drawn from: JSON-able values, none without views.

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
    """A layer's settings but its name, which may differ from process to process."""
    if isinstance(layer, keras.Model):
        # A subclassed one need not know its settings
        return {"class": type(layer).__name__}
    config = {k: v for k, v in layer.get_config().items() if k != "name"}
    return {"class": type(layer).__name__, **config}


def save_soft_targets(
    path: PathLike, stored: TransferSet, expected_fingerprint: str
) -> None:
    """Writes the logits, labels and views to an `.npz` file, all or nothing."""
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
    """Reads soft targets back, if they are those of this teacher, data, task, views.

    Raises:
        InputError: If the file is of another teacher, data set, task or augmentation,
            or damaged.
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
