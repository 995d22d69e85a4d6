"""The whole job of a search, from settings to report, stage by stage."""

import logging
import pathlib
import time

import keras

from tskd_tf.data.splits import ImageData
from tskd_tf.data.task import Task
from tskd_tf.distillation.event_files import REPORT_RUN
from tskd_tf.errors import InputError
from tskd_tf.export.deployment import Deployment, write_labels
from tskd_tf.export.exports import Bargain, export_student
from tskd_tf.export.int8_rescue import Retraining
from tskd_tf.export.record import ExportRow
from tskd_tf.networks.evaluate import accuracy, is_correct, predict_logits
from tskd_tf.report.record import Environment, Report, Seconds
from tskd_tf.report.tensorboard import write_summaries
from tskd_tf.report.words import summary_table
from tskd_tf.run.config import RunConfig
from tskd_tf.run.inputs import (
    build_or_load_teacher,
    check_teacher_fits,
    load_data,
    train_or_resume_teacher,
)
from tskd_tf.run.output_folder import (
    check_output_dir,
    claim_output_dir,
    redraw,
    save_wrong_images,
    write_report,
)
from tskd_tf.run.settings import (
    check_settings,
    command_of,
    environment_of,
    import_student_builder,
    recipe_of,
    search_settings_of,
)
from tskd_tf.search.budgets import keep_costs
from tskd_tf.search.found import SearchResults
from tskd_tf.search.preparation import prepare
from tskd_tf.search.workers.worker import run as run_worker
from tuner import chief

_logger = logging.getLogger(__name__)

MEETS_THRESHOLD, MISSES_THRESHOLD = 0, 3


def run(config: RunConfig) -> tuple[int, str]:
    """Runs the job of a configuration.

    Args:
        config: The settings.

    Returns:
        The exit status, 0 or 3, and the final message to the user.

    Raises:
        InputError: If settings, files and data do not fit each other. Nothing has been
            trained or written then.
    """
    folder = pathlib.Path(config.output_dir)
    if config.mode == "report":
        report, figures = redraw(folder)
        write_summaries(report, figures, folder / "tensorboard" / REPORT_RUN)
        return _outcome(report, folder)
    if chief.role() == "worker":
        return _work(config, folder)
    check_output_dir(config)
    check_settings(config)
    # First, because a teacher's file may need layers of the builder's module
    build_student = import_student_builder(config)
    clock = _Clock()
    data = load_data(config)
    task = Task.from_names(config.classes, data.class_names, config.head)
    teacher = build_or_load_teacher(config, data)
    prepared = None
    if config.mode == "teacher":
        check_teacher_fits(config, data, task, teacher, build_student)
    else:
        prepared = prepare(
            teacher,
            data.train,
            data.validation,
            data.test,
            task,
            search_settings_of(config, build_student),
        )
    clock.lap("data")
    environment = _announced_environment(config)
    claim_output_dir(config)
    if prepared is not None:
        keep_costs(folder / "search", prepared.costs.measured)
    teacher, teacher_curve = train_or_resume_teacher(config, data, teacher)
    clock.lap("teacher")
    if prepared is None:
        return MEETS_THRESHOLD, _teacher_summary(teacher, data, folder)
    results = prepared.run(teacher)
    found = results.found
    clock.lap("search")
    exports = _exports(config, results, teacher, task)
    clock.lap("exports")
    whole: Report = {
        **found.report,
        "teacher": {**found.report["teacher"], "curve": teacher_curve},
        "data": {"source": data.source, **found.report["data"]},
        "exports": exports,
        "labels": write_labels(task.output_names, str(folder)),
        "environment": environment,
        "command": command_of(config),
        "seconds": clock.seconds(),
    }
    save_wrong_images(found.wrong_images, folder)
    figures = write_report(whole, folder, found.wrong_images)
    write_summaries(whole, figures, folder / "tensorboard" / REPORT_RUN)
    return _outcome(whole, folder)


def _work(config: RunConfig, folder: pathlib.Path) -> tuple[int, str]:
    """Trains students of a chief's search, as one of its workers."""
    if config.mode == "teacher":
        raise InputError(
            "Expected a worker of a search. Received: --mode=teacher, which does not "
            "use workers"
        )
    num_trials = run_worker((folder / "search").resolve())
    return MEETS_THRESHOLD, f"{num_trials} students trained for {folder}\n"


def _announced_environment(config: RunConfig) -> Environment:
    """Precision, device and versions of the run; logs them."""
    environment = environment_of(config)
    _logger.info(
        "Training in %s (%s) on %s, XLA %s",
        environment["precision"],
        environment["precision_reason"],
        environment["device"],
        "on" if environment["jit_compile"] else "off",
    )
    return environment


def _exports(
    config: RunConfig, results: SearchResults, teacher: keras.Model, task: Task
) -> list[ExportRow]:
    """Exports the student; returns one row of measurements per file."""
    found, test = results.found, results.test
    teacher_logits = task.select_logits(results.teacher_logits)
    return export_student(
        found.student,
        teacher,
        config.exports,
        config.output_dir,
        Deployment(config.export_outputs, task.output_names, results.transfer.images),
        Bargain(
            test,
            is_correct(teacher_logits, test.class_ids),
            found.report["max_accuracy_loss"],
            config.confidence,
        ),
        Retraining(
            teacher, results.transfer, results.validation, task, recipe_of(config)
        ),
    )


def _outcome(report: Report, folder: pathlib.Path) -> tuple[int, str]:
    """Exit status and final message of a finished run."""
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


class _Clock:
    """Measures the time of each stage, in seconds."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}
        self._start = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._laps[name] = now - self._start
        self._start = now

    def seconds(self) -> Seconds:
        """The time of each stage; all stages must have ended."""
        laps = self._laps
        return Seconds(
            data=laps["data"],
            teacher=laps["teacher"],
            search=laps["search"],
            exports=laps["exports"],
        )
