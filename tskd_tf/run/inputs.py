"""The data and the teacher of a run, and checks that they fit each other."""

import dataclasses
import logging
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import keras

from tskd_tf.data.image_folder import load_image_folder
from tskd_tf.data.images import fingerprint
from tskd_tf.data.splits import ImageData
from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.curves import Curve, curve_of
from tskd_tf.distillation.event_files import TEACHER_RUN
from tskd_tf.distillation.soft_targets import check_teacher
from tskd_tf.distillation.training import train_teacher
from tskd_tf.errors import InputError
from tskd_tf.files import atomic_path, read_json, write_json
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.networks.teacher_file import load_teacher, teacher_shapes
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.networks.zoo.models import build_teacher, image_shape_of
from tskd_tf.run.config import RunConfig, parse_image_size
from tskd_tf.run.output_folder import TEACHER_SETTINGS
from tskd_tf.run.settings import is_file, recipe_of, search_settings_of
from tskd_tf.search.candidates import BuiltOnce, buildable_chains

_logger = logging.getLogger(__name__)


def load_data(config: RunConfig) -> ImageData:
    """The TFDS data set, or the user's own images at the teacher's input size.

    Raises:
        InputError: If they cannot be loaded at that size.
    """
    if config.image_dir is None:
        return load(
            config.dataset,
            config.data_dir,
            config.validation_fraction,
            config.seed,
            config.offline_sample,
            config.memory_limit_mb,
            _classes_to_load(config),
        )
    image_shape, num_classes = _wanted_images(config)
    return load_image_folder(
        config.image_dir,
        image_shape,
        config.validation_fraction,
        config.seed,
        config.memory_limit_mb,
        _classes_to_load(config),
        num_classes,
        config.skip_corrupt_images,
    )


def _wanted_images(config: RunConfig) -> tuple[tuple[int, int, int], int | None]:
    """Image shape (--image_size, else the teacher's) and number of classes.

    The number is None without a trained teacher: any number fits.
    """
    size = parse_image_size(config.image_size)
    if not is_file(config.teacher):
        *sides, channels = image_shape_of(config.teacher)
        return (*(size or sides), channels), None
    takes, num_classes = teacher_shapes(config.teacher)
    if takes[2] not in (1, 3):
        raise InputError(
            "Expected a teacher for images of one or three channels with --image_dir. "
            f"Received: {config.teacher}, which takes {takes}"
        )
    height, width = size or takes[:2]
    fits = all(b in (a, None) for a, b in zip((height, width), takes[:2], strict=True))
    if height is None or width is None or not fits:
        needed = "x".join("any" if side is None else str(side) for side in takes[:2])
        raise InputError(
            f"Expected --image_size=HEIGHTxWIDTH as the teacher takes images, {needed}."
            f" Received: --image_size={config.image_size} --teacher={config.teacher}"
        )
    return (height, width, takes[2]), num_classes


def _classes_to_load(config: RunConfig) -> Callable[[list[str]], list[int]] | None:
    """Selects the task's classes; None loads all, to train a teacher on them."""
    is_trained = is_file(config.teacher) and config.mode != "teacher"
    if not config.classes or not is_trained:
        return None
    return lambda names: Task.from_names(config.classes, names).class_ids


def build_or_load_teacher(config: RunConfig, data: ImageData) -> keras.Model:
    """The teacher's network: freshly built by name, or a trained one from a file."""
    num_classes = len(data.class_names)
    if is_file(config.teacher):
        shape = data.train.images.shape[1:]
        return load_teacher(config.teacher, shape, num_classes, config.input_range)
    keras.utils.set_random_seed(config.seed)
    return build_teacher(config.teacher, data.train.images, num_classes)


def check_teacher_fits(
    config: RunConfig,
    data: ImageData,
    task: Task,
    teacher: keras.Model,
    build_student: StudentBuilder | None,
) -> None:
    """Checks that data, task and teacher fit, for runs that train the teacher only.

    The check covers the students, so that no teacher is trained in vain.

    Raises:
        InputError: If they do not fit.
    """
    check_teacher(teacher, task)
    for split in (data.train, data.validation, data.test):
        task.indices(split.class_ids)
    complexity(teacher)
    settings = search_settings_of(config, build_student)
    buildable_chains(
        teacher,
        task,
        settings.rates,
        settings.recipe,
        settings.families_of_search(),
        build_student and BuiltOnce(build_student),
    )


def train_or_resume_teacher(
    config: RunConfig, data: ImageData, teacher: keras.Model
) -> tuple[keras.Model, Curve | None]:
    """The trained teacher, read from `teacher.keras` if that exists.

    Returns:
        The teacher, and its curve if this folder's run trained it. Runs of earlier
        versions saved no curve.

    Raises:
        InputError: If the saved teacher belongs to other settings or data.
    """
    folder = pathlib.Path(config.output_dir)
    path, note_path = folder / "teacher.keras", folder / "search" / "teacher.json"
    settings = config.as_json()
    note = {
        "settings": {name: settings[name] for name in TEACHER_SETTINGS},
        "data": fingerprint(*data.train),
        # A file of the same name may hold another teacher by now
        "file": None,
    }
    if is_file(config.teacher):
        note["data"], note["file"] = None, fingerprint(*teacher.get_weights())
    if path.exists() and note_path.exists():
        found = read_json(note_path)
        curve = found.pop("curve", None) if isinstance(found, dict) else None
        found = _with_defaults(found)
        if found != note:
            raise InputError(
                f"Expected {path} to be the teacher of these settings and data. "
                "Received: a teacher of others; choose another --output_dir"
            )
        _logger.info("Teacher of an earlier run kept: %s", path)
        return load_kept_model(path), curve
    curve = None
    if not is_file(config.teacher):
        recipe = dataclasses.replace(recipe_of(config), epochs=config.teacher_epochs)
        history = keras.callbacks.History()
        teacher = train_teacher(
            teacher,
            data.train,
            data.validation,
            recipe,
            str(folder / "tensorboard" / TEACHER_RUN),
            _verbosity(),
            [history],
        )
        curve = curve_of(history.history)
    with atomic_path(path) as temporary:
        teacher.save(temporary)
    write_json(note_path, {**note, "curve": curve})
    return load_kept_model(path), curve


def _with_defaults(note: Any) -> Any:
    """A teacher's note with the settings that earlier versions did not have."""
    if not isinstance(note, dict) or not isinstance(note.get("settings"), dict):
        return note
    defaults = RunConfig().as_json()
    known = {name: defaults[name] for name in TEACHER_SETTINGS}
    return {**note, "settings": {**known, **note["settings"]}}


def _verbosity() -> int:
    """Keras's `verbose`: 1 (progress bar) on a terminal, else 2 (line per epoch)."""
    return 1 if sys.stdout.isatty() else 2
