"""The whole job, one stage after the other."""

import dataclasses
import functools
import importlib
import importlib.metadata
import logging
import pathlib
import platform
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

import keras

from tskd_tf.augmentation import Augmentation
from tskd_tf.budgets import (
    Budgets,
    StudentCosts,
    fitting_rates,
    keep_latencies,
    kept_latencies,
)
from tskd_tf.candidates import buildable_rates
from tskd_tf.config import RunConfig, parse_image_size
from tskd_tf.costs import complexity
from tskd_tf.curves import Curve, curve_of
from tskd_tf.data import ImageData, Split, load
from tskd_tf.deployment import Deployment, write_labels
from tskd_tf.device import (
    choose_jit_compile,
    choose_precision,
    choose_strategy,
    describe_device,
    explain_precision,
)
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.evaluate import accuracy, is_correct, predict_logits
from tskd_tf.event_files import REPORT_RUN, TEACHER_RUN
from tskd_tf.export import Bargain, check_formats, export_student
from tskd_tf.files import atomic_path, fingerprint, read_json, write_json
from tskd_tf.image_folder import load_image_folder
from tskd_tf.int8_rescue import Retraining
from tskd_tf.models import IMAGE_SHAPES, build_teacher, check_name
from tskd_tf.output_folder import (
    FREE_SETTINGS,
    TEACHER_SETTINGS,
    check_output_dir,
    claim_output_dir,
    redraw,
    save_wrong_images,
    write_report,
)
from tskd_tf.rebuild import load_kept_model
from tskd_tf.report import summary_table
from tskd_tf.search import (
    FoundStudent,
    check_bargain,
    find_smallest_student,
    is_by_others,
    soft_targets_of,
)
from tskd_tf.search_plan import SearchPlan
from tskd_tf.soft_targets import check_teacher
from tskd_tf.summaries import write_summaries
from tskd_tf.task import Task
from tskd_tf.teacher import load_teacher, teacher_shapes
from tskd_tf.training import Recipe, train_teacher
from tskd_tf.width import StudentBuilder, check_rate, spaced_rates
from tskd_tf.worker import run as run_worker
from tuner import chief

_logger = logging.getLogger(__name__)

MEETS_THRESHOLD, MISSES_THRESHOLD = 0, 3
_PACKAGES = ("tskd_tf", "tensorflow", "keras", "keras-tuner", "tensorflow-datasets")


def run(config: RunConfig) -> tuple[int, str]:
    """Does what a configuration says.

    Args:
        config: The settings.

    Returns:
        The exit status, 0 or 3, and what to tell the user at the end.

    Raises:
        InputError: If settings, files and data do not fit each other; nothing has
            been trained or written then.
    """
    folder = pathlib.Path(config.output_dir)
    if config.mode == "report":
        return _outcome(redraw(folder), folder)
    if chief.role() == "worker":
        if config.mode == "teacher":
            raise InputError(
                "Expected a worker of a search. Received: --mode=teacher, which has no "
                "use for workers"
            )
        num_trials = run_worker((folder / "search").resolve())
        return MEETS_THRESHOLD, f"{num_trials} students trained for {folder}\n"
    check_output_dir(config)
    check_settings(config)
    # First, because a teacher's file may need the layers of its module
    build_student = import_student_builder(config)
    clock = _Clock()
    data = load_data(config)
    task = Task.from_names(config.classes, data.class_names, config.head)
    teacher = untrained_or_loaded_teacher(config, data)
    latencies_us = check_everything_fits(config, data, task, teacher, build_student)
    clock.lap("data")
    environment = environment_of(config)
    _logger.info(
        "Training in %s (%s) on %s, XLA %s",
        environment["precision"],
        environment["precision_reason"],
        environment["device"],
        "on" if environment["jit_compile"] else "off",
    )
    claim_output_dir(config)
    keep_latencies(folder / "search", latencies_us)
    teacher, teacher_curve = finished_teacher(config, data, teacher)
    clock.lap("teacher")
    if config.mode == "teacher":
        return MEETS_THRESHOLD, _teacher_summary(teacher, data, folder)
    found = find_smallest_student(
        teacher,
        data.train,
        data.validation,
        data.test,
        task=task,
        max_accuracy_loss=config.max_accuracy_loss,
        rates=rates_of(config),
        recipe=recipe_of(config),
        confidence=config.confidence,
        directory=str(folder / "search"),
        log_dir=str(folder / "tensorboard"),
        build_student=build_student,
        budgets=budgets_of(config),
        oracle=config.oracle,
        max_executions=config.max_executions,
        num_workers=config.workers,
    )
    clock.lap("search")
    exports = _exports(config, found, teacher, data, task)
    clock.lap("exports")
    report = {
        **found.report,
        "teacher": {**found.report["teacher"], "curve": teacher_curve},
        "data": {"source": data.source, **found.report["data"]},
        "exports": exports,
        "labels": write_labels(task.output_names, str(folder)),
        "environment": environment,
        "command": command_of(config),
        "seconds": clock.laps,
    }
    save_wrong_images(found.wrong_images, folder)
    figures = write_report(report, folder, found.wrong_images)
    write_summaries(report, figures, folder / "tensorboard" / REPORT_RUN)
    return _outcome(report, folder)


def _exports(
    config: RunConfig,
    found: FoundStudent,
    teacher: keras.Model,
    data: ImageData,
    task: Task,
) -> list[dict[str, Any]]:
    """The student's files and what is measured of each."""
    folder, recipe = pathlib.Path(config.output_dir), recipe_of(config)
    test = Split(*task.filter(tuple(data.test)))
    teacher_logits = task.select_logits(predict_logits(teacher, test.images))
    transfer = functools.partial(
        soft_targets_of, teacher, data.train, task, recipe, str(folder / "search")
    )
    train_images, _ = task.filter(tuple(data.train))
    return export_student(
        found.student,
        teacher,
        config.exports,
        str(folder),
        Deployment(config.export_outputs, task.output_names, train_images),
        Bargain(
            test,
            is_correct(teacher_logits, test.class_ids),
            found.report["max_accuracy_loss"],
            config.confidence,
        ),
        Retraining(
            teacher,
            transfer,
            Split(*task.filter(tuple(data.validation))),
            task,
            recipe,
        ),
    )


def load_data(config: RunConfig) -> ImageData:
    """The data set of TFDS, or the user's own images in the size the teacher takes.

    Raises:
        InputError: If they cannot be had, or not in that size.
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
    """Image shape and number of classes that the teacher is made for, or --image_size.

    Without a trained teacher any number of classes will do.
    """
    size = parse_image_size(config.image_size)
    if not _is_file(config.teacher):
        check_name(config.teacher)
        *sides, channels = IMAGE_SHAPES[config.teacher]
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
    """Only those of the task, where a trained teacher needs no others."""
    is_trained = _is_file(config.teacher) and config.mode != "teacher"
    if not config.classes or not is_trained:
        return None
    return lambda names: Task.from_names(config.classes, names).class_ids


def recipe_of(config: RunConfig) -> Recipe:
    """How students are trained."""
    pixels = config.augmentation_pixels
    return Recipe(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        solver=config.solver,
        temperature=config.temperature,
        soft_loss_weight=config.soft_loss_weight,
        scale_soft_loss=config.scale_soft_loss,
        class_weights=config.class_weights,
        precision=choose_precision(config.precision),
        seed=config.seed,
        augmentation=Augmentation(
            flip="flip" in config.augmentation,
            crop=pixels if "crop" in config.augmentation else 0,
            shift=pixels if "shift" in config.augmentation else 0,
        ),
        num_views=config.num_views,
        initialize=config.initialize,
        steps_per_execution=config.steps_per_execution,
        jit_compile={"auto": "auto", "true": True, "false": False}[config.jit_compile],
        distribute=config.distribute,
    )


def rates_of(config: RunConfig) -> list[float]:
    """The rates a run may choose from: one for `distill`."""
    return spaced_rates(config.rate_step) if config.rate is None else [config.rate]


def budgets_of(config: RunConfig) -> Budgets:
    """What the student may cost."""
    return Budgets(
        config.max_macs, config.max_params, config.max_bytes, config.max_latency_us
    )


def import_student_builder(config: RunConfig) -> StudentBuilder | None:
    """The function that --student_builder names; None where there is no such flag.

    Raises:
        InputError: If it cannot be imported.
    """
    if config.student_builder is None:
        return None
    module, _, name = config.student_builder.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # it is the user's code: anything may come
        raise InputError(
            "Expected --student_builder=package.module:function, a function of the "
            f"rate that can be imported from here. Received: {config.student_builder} "
            f"({type(error).__name__}: {in_one_line(error)})"
        ) from error
    if not callable(function):
        raise InputError(
            "Expected --student_builder to be a function of the rate. Received: "
            f"{config.student_builder}, of type {type(function).__name__}"
        )
    build: StudentBuilder = function
    return build


def untrained_or_loaded_teacher(config: RunConfig, data: ImageData) -> keras.Model:
    """The teacher's network: freshly built by name, or a trained one from a file."""
    num_classes = len(data.class_names)
    if _is_file(config.teacher):
        shape = data.train.images.shape[1:]
        return load_teacher(config.teacher, shape, num_classes, config.input_range)
    keras.utils.set_random_seed(config.seed)
    return build_teacher(config.teacher, data.train.images, num_classes)


def _is_file(teacher: str) -> bool:
    return "." in teacher or "/" in teacher


def check_settings(config: RunConfig) -> None:
    """Checks what can be wrong in itself, before the data are read.

    Raises:
        InputError: If a setting is out of range or contradicts another.
    """
    check_bargain(config.max_accuracy_loss, config.confidence)
    budgets_of(config).check()
    SearchPlan([], 0.0, config.oracle, config.max_executions).check()
    if config.workers < 1:
        raise InputError(
            f"Expected --workers of at least 1. Received: {config.workers}"
        )
    recipe_of(config).check()
    check_formats(config.exports)
    if config.rate is not None:
        check_rate(config.rate)
    if config.input_range != "0:255" and not _is_file(config.teacher):
        raise InputError(
            "Expected --input_range with a teacher from a .keras file only. Received: "
            f"--input_range={config.input_range} --teacher={config.teacher}"
        )


def check_everything_fits(
    config: RunConfig,
    data: ImageData,
    task: Task,
    teacher: keras.Model,
    build_student: StudentBuilder | None,
) -> dict[float, float]:
    """Checks data, task, teacher, rates and budgets together before any training.

    Returns:
        Microseconds an image by rate, where students had to be measured for it.

    Raises:
        InputError: If they do not fit.
    """
    check_teacher(teacher, task)
    for split in (data.train, data.validation, data.test):
        task.indices(split.class_ids)
    complexity(teacher)
    rates = buildable_rates(teacher, task, rates_of(config), build_student)
    if config.mode == "teacher":
        return {}
    search_dir = pathlib.Path(config.output_dir) / "search"
    is_by_others(str(search_dir), teacher, build_student, config.workers)
    latencies_us = kept_latencies(search_dir)
    images = data.train.images
    costs = StudentCosts(teacher, task, images, latencies_us, build_student)
    fitting_rates(rates, budgets_of(config), costs.cost)
    return costs.latencies_us


def finished_teacher(
    config: RunConfig, data: ImageData, teacher: keras.Model
) -> tuple[keras.Model, Curve | None]:
    """The trained teacher, from `teacher.keras` when it is there already.

    Returns:
        The teacher, and its curve if it was trained here; runs of earlier versions
        kept none.

    Raises:
        InputError: If the teacher kept there is of other settings or data.
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
    if _is_file(config.teacher):
        note["data"], note["file"] = None, fingerprint(*teacher.get_weights())
    if path.exists() and note_path.exists():
        found = read_json(note_path)
        curve = found.pop("curve", None) if isinstance(found, dict) else None
        if found != note:
            raise InputError(
                f"Expected {path} to be the teacher of these settings and data. "
                "Received: one of others; choose another --output_dir"
            )
        _logger.info("Teacher of an earlier run kept: %s", path)
        return load_kept_model(path), curve
    curve = None
    if not _is_file(config.teacher):
        recipe = recipe_of(config)._replace(epochs=config.teacher_epochs)
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


def command_of(config: RunConfig) -> str:
    """The command line that repeats a run: every setting that is not the default."""
    parts = ["python -m tskd_tf.main"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in FREE_SETTINGS or value == field.default:
            continue
        text = ",".join(value) if isinstance(value, tuple) else value
        text = str(text).lower() if isinstance(value, bool) else text
        parts.append(shlex.quote(f"--{field.name}={text}"))
    return " ".join(parts)


def _outcome(report: dict[str, Any], folder: pathlib.Path) -> tuple[int, str]:
    """Exit status and closing words of a finished run."""
    status = MEETS_THRESHOLD if report["meets_threshold"] else MISSES_THRESHOLD
    return status, (
        f"\n{summary_table(report)}\n"
        f"Report: {folder / 'report.html'}\n"
        f"Curves: tensorboard --logdir {folder / 'tensorboard'}\n"
    )


def _teacher_summary(
    teacher: keras.Model, data: ImageData, folder: pathlib.Path
) -> str:
    test_accuracy = accuracy(
        predict_logits(teacher, data.test.images), data.test.class_ids
    )
    return (
        f"\nTeacher: {folder / 'teacher.keras'}\n"
        f"{100 * test_accuracy:.2f} % of the {len(data.test.images)} test images of "
        f"all classes right\nData: {data.source}\n"
    )


def environment_of(config: RunConfig) -> dict[str, Any]:
    """Where and with what a run's networks are trained, JSON-able."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    precision, reason = explain_precision(config.precision)
    recipe = recipe_of(config)
    return {
        "precision": precision,
        "precision_reason": reason,
        "device": describe_device(),
        "num_replicas": choose_strategy(config.distribute).num_replicas_in_sync,
        "jit_compile": choose_jit_compile(recipe.jit_compile),
        "seed": config.seed,
        "versions": {"python": platform.python_version(), **versions},
    }


def _verbosity() -> int:
    """Keras's moving progress bars on a terminal, a line an epoch elsewhere."""
    return 1 if sys.stdout.isatty() else 2


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._start = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._start
        self._start = now
