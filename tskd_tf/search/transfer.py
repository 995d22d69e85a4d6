"""The soft targets of a search, kept in its folder."""

import logging
import pathlib

import keras

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import (
    TransferSet,
    capture,
    load_soft_targets,
    save_soft_targets,
    transfer_fingerprint,
)

_logger = logging.getLogger(__name__)


def fingerprint_of(
    teacher: keras.Model, train: Split, task: Task, recipe: Recipe
) -> str:
    """Of all that the soft targets of a search depend on."""
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
    """Those in the folder; else the teacher's, which are then kept there.

    Args:
        teacher: Gives logits.
        train: All training images, with the data set's class ids.
        task: θ.
        recipe: Says which views of the images there are.
        folder: Of the search.
        mark: See `fingerprint_of`.

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
