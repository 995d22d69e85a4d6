"""`--mode=sweep`: the paper's experiment as one job, and its files."""

import functools
import io
import logging
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import cast

import keras
import numpy as np

from tskd_tf.choices import THIN
from tskd_tf.data.splits import ImageData
from tskd_tf.data.task import Task
from tskd_tf.distillation.kept_soft_targets import fingerprint_of, kept_soft_targets
from tskd_tf.distillation.soft_targets import TransferSet, check_teacher
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.files import PathLike, atomic_path, read_json, write_json, write_text
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.width import distinct_rates
from tskd_tf.run.config import RunConfig
from tskd_tf.run.inputs import build_or_load_teacher, load_data, train_or_resume_teacher
from tskd_tf.run.output_folder import check_output_dir, claim_output_dir
from tskd_tf.run.settings import check_settings, command_of, environment_of, recipe_of
from tskd_tf.search.candidates import buildable_rates, check_method_fits
from tskd_tf.search.progress import duration
from tskd_tf.sweep.figures import accuracy_by_rate, accuracy_surface, rate_by_classes
from tskd_tf.sweep.record import SCHEMA_VERSION, StudentRow, Sweep
from tskd_tf.sweep.students import (
    Cell,
    Materials,
    SweptStudent,
    plan_cells,
    run_cells,
    teacher_rows,
    train_here,
)
from tskd_tf.sweep.tables import as_csv, as_markdown, num_right
from tskd_tf.sweep.workers import train_elsewhere
from tuner import chief

_FILE = "sweep.json"
_RATES = tuple(i / 10 for i in range(1, 11))
_FIGURES = {
    "accuracy_by_rate": accuracy_by_rate,
    "accuracy_surface": accuracy_surface,
    "rate_by_classes": rate_by_classes,
}
_logger = logging.getLogger(__name__)


def run(config: RunConfig) -> tuple[int, str]:
    """Runs the job of a configuration with `mode="sweep"`.

    Args:
        config: The settings, including those of its protocol.

    Returns:
        Exit status 0, and the final message to the user.

    Raises:
        InputError: If settings, files and data do not fit each other. Nothing has been
            trained or written then.
        WorkerError: If a worker failed or was killed.
    """
    start = time.monotonic()
    folder = pathlib.Path(config.output_dir)
    check_output_dir(config)
    check_settings(config)
    if config.classes or config.student_builder or chief.role() is not None:
        raise InputError(
            "Expected a sweep with tasks from --task_sizes and with thinner teachers "
            "as students, in one process or with --workers. Received: --classes, "
            "--student_builder or KERASTUNER_TUNER_ID"
        )
    data = load_data(config)
    sizes = task_sizes_of(config, len(data.class_names))
    teacher = build_or_load_teacher(config, data)
    rates = _checked_rates(config, data, teacher)
    easiest = Task(range(sizes[0]), head=config.head, class_names=data.class_names)
    check_method_fits(teacher, easiest, rates[0], recipe_of(config))
    claim_output_dir(config)
    teacher, _ = train_or_resume_teacher(config, data, teacher)
    cells = plan_cells(sizes, rates, [int(seed) for seed in config.seeds])
    materials = _materials(config, data, teacher)
    progress = _Progress(materials, cells)
    elsewhere = functools.partial(train_elsewhere, num_workers=config.workers)
    train = train_here if config.workers == 1 else elsewhere
    students = run_cells(cells, folder / "sweep", materials, progress, train)
    sweep: Sweep = {
        "schema_version": SCHEMA_VERSION,
        "protocol": config.protocol,
        "data": {"source": data.source, "num_train": len(data.train.images)},
        "head": config.head,
        "method": config.method,
        "temperature": config.temperature,
        "soft_loss_weight": config.soft_loss_weight,
        "scale_soft_loss": config.scale_soft_loss,
        "family": recipe_of(config).family,
        "convolutions": config.convolutions,
        "groups": config.groups,
        "confidence": config.confidence,
        "normalized_accuracies": _shares(config),
        "teacher": {
            "name": teacher.name,
            "num_params": complexity(teacher).num_params,
            "num_macs": complexity(teacher).num_macs,
            "tasks": teacher_rows(materials, sizes),
        },
        "students": [_row_of(student) for student in students],
        "environment": environment_of(config),
        "command": command_of(config),
        "seconds": {
            "this_run": time.monotonic() - start,
            "students": sum(student.seconds for student in students),
        },
    }
    write_sweep(sweep, folder)
    return 0, _summary(sweep, folder)


def redraw(output_dir: PathLike) -> tuple[int, str]:
    """Draws tables and figures of a finished sweep again.

    Args:
        output_dir: Output folder of the sweep.

    Returns:
        Exit status 0, and the final message to the user.

    Raises:
        InputError: If `sweep.json` is damaged.
    """
    folder = pathlib.Path(output_dir)
    sweep = read_json(folder / _FILE)
    try:
        write_sweep(sweep, folder)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"Expected {folder / _FILE} to be of a finished sweep. Received: "
            f"{type(error).__name__}: {in_one_line(error)}"
        ) from None
    return 0, _summary(sweep, folder)


def holds_sweep(output_dir: PathLike) -> bool:
    """Whether a folder holds a finished sweep."""
    return (pathlib.Path(output_dir) / _FILE).exists()


def write_sweep(sweep: Sweep, folder: pathlib.Path) -> None:
    """Writes `sweep.csv`, `sweep.md`, the figures and, last, `sweep.json`."""
    write_text(folder / "sweep.csv", as_csv(sweep))
    write_text(folder / "sweep.md", as_markdown(sweep))
    for name, draw in _FIGURES.items():
        stream = io.BytesIO()
        draw(sweep).savefig(stream, format="png")
        with atomic_path(folder / "figures" / f"{name}.png") as temporary:
            pathlib.Path(temporary).write_bytes(stream.getvalue())
    write_json(folder / _FILE, sweep)


def task_sizes_of(config: RunConfig, num_classes: int) -> list[int]:
    """Numbers of classes of the tasks, ascending; by default from 2 to all.

    Raises:
        InputError: If a number is below 2 or above `num_classes`.
    """
    sizes = [int(size) for size in config.task_sizes] or range(2, num_classes + 1)
    if not 2 <= min(sizes) <= max(sizes) <= num_classes:
        raise InputError(
            f"Expected --task_sizes from 2 to {num_classes}, the classes of the data. "
            f"Received: {','.join(config.task_sizes)}"
        )
    return sorted(set(sizes))


def _materials(config: RunConfig, data: ImageData, teacher: keras.Model) -> Materials:
    recipe = recipe_of(config)
    return Materials(
        teacher,
        _soft_targets(config, data, teacher),
        data.validation,
        data.test,
        recipe,
        config.head,
        data.class_names,
    )


def _soft_targets(
    config: RunConfig, data: ImageData, teacher: keras.Model
) -> TransferSet:
    """Soft targets of all classes and outputs, captured once and kept in a file."""
    folder = pathlib.Path(config.output_dir) / "sweep"
    recipe = recipe_of(config)
    everything = Task.from_names([], data.class_names)
    mark = fingerprint_of(teacher, data.train, everything, recipe)
    return kept_soft_targets(teacher, data.train, everything, recipe, folder, mark)


def _checked_rates(
    config: RunConfig, data: ImageData, teacher: keras.Model
) -> list[float]:
    """The rates of a sweep that give distinct students, ascending.

    Raises:
        InputError: If the family has no students of the teacher.
    """
    check_teacher(teacher, Task.from_names([], data.class_names))
    rates = sorted({float(rate) for rate in config.rates} or _RATES)
    everything = Task.from_names([], data.class_names)
    recipe = recipe_of(config)
    if recipe.family != THIN:
        return list(buildable_rates(teacher, everything, rates, recipe))
    recipe.students_of(teacher, everything)(rates[0])
    return distinct_rates(teacher, rates)


def _shares(config: RunConfig) -> list[float]:
    """Shares of the teacher's accuracy to keep, descending: the paper's and the user's.

    The user's share is 1 minus --max_accuracy_loss.
    """
    shares = {float(share) for share in config.normalized_accuracies}
    if config.max_accuracy_loss is not None:
        shares.add(round(1.0 - config.max_accuracy_loss, 10))
    return sorted(shares, reverse=True)


class _Progress:
    """Writes one line per student, with an estimate of the remaining time."""

    def __init__(self, materials: Materials, cells: Sequence[Cell]) -> None:
        self._head = materials.head
        self._num_test = {
            row["num_classes"]: row
            for row in teacher_rows(materials, [cell.num_classes for cell in cells])
        }
        labels = materials.soft_targets.labels
        self._work = {cell: _work(cell, labels) for cell in cells}
        self._left = sum(self._work.values())
        self._num_done, self._done, self._start = 0, 0.0, time.monotonic()

    def __call__(self, student: SweptStudent, is_earlier: bool) -> None:
        work = self._work[Cell(*student[:4])]
        self._num_done += 1
        self._left -= work
        if is_earlier:
            return
        self._done += work
        left = (time.monotonic() - self._start) * self._left / self._done
        row = self._num_test[student.num_classes]
        num_test = row["num_test"]
        student_share = num_right(self._head, _row_of(student)) / num_test
        teacher_share = num_right(self._head, row) / num_test
        sys.stderr.write(
            f"{self._num_done} of {len(self._work)}  {student.num_classes} classes  "
            f"rate {student.rate:g}  seed {student.seed}  "
            f"{student.method.replace('_', ' ')}  {100 * student_share:.2f} % "
            f"(teacher {100 * teacher_share:.2f} %)  "
            f"{duration(student.seconds)}"
            + (f", about {duration(left)} left\n" if self._left else "\n")
        )
        sys.stderr.flush()


def _row_of(student: SweptStudent) -> StudentRow:
    """A student in the form of `sweep.json`; a test checks that the fields agree."""
    return cast(StudentRow, student._asdict())


def _work(cell: Cell, labels: np.ndarray) -> float:
    """Estimated work of a training: examples times a linear function of the rate."""
    return float((labels < cell.num_classes).sum()) * (0.3 + cell.rate)


def _summary(sweep: Sweep, folder: pathlib.Path) -> str:
    return (
        f"\n{as_markdown(sweep)}\n"
        f"Tables: {folder / 'sweep.md'} and {folder / 'sweep.csv'}\n"
        f"Figures: {folder / 'figures'}\n"
    )
