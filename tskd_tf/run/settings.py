"""Converts the flags into the objects of a run."""

import dataclasses
import importlib
import importlib.metadata
import pathlib
import platform
import shlex
from typing import Any

from tskd_tf.choices import AUTO, THIN, Budgets
from tskd_tf.data.augmentation import Augmentation
from tskd_tf.distillation.device import (
    choose_jit_compile,
    choose_precision,
    choose_strategy,
    describe_device,
    explain_precision,
)
from tskd_tf.distillation.methods.method import method_named
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training_settings import TrainingSettings
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.export.exports import check_formats, packages_of
from tskd_tf.networks.width import StudentBuilder, spaced_rates
from tskd_tf.report.record import Environment
from tskd_tf.run.config import RunConfig
from tskd_tf.run.output_folder import FREE_SETTINGS
from tskd_tf.search.settings import SearchSettings

_PACKAGES = (
    "tskd_tf",
    "tensorflow",
    "keras",
    "keras-tuner",
    "tensorflow-datasets",
    "ai-edge-litert",
)


def recipe_of(config: RunConfig) -> Recipe:
    """The recipe that trains the students."""
    pixels = config.augmentation_pixels
    shared = _values_of(config, TrainingSettings)
    if config.mode == "sweep":
        # The paper's experiment is about thinner teachers from random weights
        shared["family"] = THIN if config.family == AUTO else config.family
        is_used = "initialize" not in method_named(config.method).unused_settings
        if config.initialize == AUTO and is_used:
            shared["initialize"] = "random"
    return Recipe(
        **{**shared, "precision": choose_precision(config.precision)},
        augmentation=Augmentation(
            flip="flip" in config.augmentation,
            crop=pixels if "crop" in config.augmentation else 0,
            shift=pixels if "shift" in config.augmentation else 0,
        ),
        jit_compile={"auto": "auto", "true": True, "false": False}[config.jit_compile],
    )


def _values_of(config: RunConfig, settings: type) -> dict[str, Any]:
    """The values in a run's configuration of another dataclass's fields."""
    names = (field.name for field in dataclasses.fields(settings))
    return {name: getattr(config, name) for name in names}


def rates_of(config: RunConfig) -> list[float] | None:
    """The width rates a run may choose from; None for those of its family."""
    if config.rate is not None:
        return [config.rate]
    return None if config.rate_step is None else spaced_rates(config.rate_step)


def budgets_of(config: RunConfig) -> Budgets:
    """The upper limits of the student's cost."""
    return Budgets(**_values_of(config, Budgets))


def import_student_builder(config: RunConfig) -> StudentBuilder | None:
    """The function that --student_builder names; None without this flag.

    Raises:
        InputError: If it cannot be imported.
    """
    if config.student_builder is None:
        return None
    module, _, name = config.student_builder.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's code may raise anything
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


def search_settings_of(
    config: RunConfig, build_student: StudentBuilder | None = None
) -> SearchSettings:
    """The settings of a run's search."""
    folder = pathlib.Path(config.output_dir)
    return SearchSettings(
        max_accuracy_loss=config.max_accuracy_loss,
        rates=rates_of(config),
        recipe=recipe_of(config),
        confidence=config.confidence,
        directory=str(folder / "search"),
        log_dir=str(folder / "tensorboard"),
        build_student=build_student,
        budgets=budgets_of(config),
        oracle=config.oracle,
        minimize=config.minimize,
        judge_by=config.judge_by,
        max_executions=config.max_executions,
        num_workers=config.workers,
        refine=config.refine,
    )


def check_settings(config: RunConfig) -> None:
    """Checks the settings before the data are read.

    Raises:
        InputError: If a setting is out of range or contradicts another.
    """
    search_settings_of(config).check()
    check_formats(config.exports)
    if config.input_range != "0:255" and not is_file(config.teacher):
        raise InputError(
            "Expected --input_range with a teacher from a .keras file only. Received: "
            f"--input_range={config.input_range} --teacher={config.teacher}"
        )


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


def environment_of(config: RunConfig) -> Environment:
    """Device, precision, seed and package versions of a run, JSON-able."""
    packages = (*_PACKAGES, *packages_of(config.exports))
    versions = {name: importlib.metadata.version(name) for name in packages}
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


def is_file(teacher: str) -> bool:
    """Whether --teacher is the path of a file, not a network's name."""
    return "." in teacher or "/" in teacher
