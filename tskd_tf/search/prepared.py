"""Prepares a search: all checks are done before any student is trained."""

import dataclasses
import functools
import logging
import os
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

from tskd_tf.acceptance import accuracy_floor
from tskd_tf.data.images import as_uint8, fingerprint
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task, check_pairs
from tskd_tf.distillation.kept_soft_targets import fingerprint_of, kept_soft_targets
from tskd_tf.distillation.recipe import student_builder
from tskd_tf.distillation.soft_targets import check_teacher
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.graph import check_model
from tskd_tf.networks.rebuild import as_functional, as_logits
from tskd_tf.networks.width import StudentBuilder, layer_widths
from tskd_tf.report.record import DataRecord
from tskd_tf.search.budgets import (
    ANY_LOSS,
    fitting_rates,
    keep_costs,
    kept_costs,
    spending,
)
from tskd_tf.search.candidates import BuiltOnce, buildable_rates, check_method_fits
from tskd_tf.search.evidence import Trial, build_report, search_record
from tskd_tf.search.found import FoundStudent, SearchResults
from tskd_tf.search.inputs import as_searched, checked_split
from tskd_tf.search.judge import judge
from tskd_tf.search.refine import (
    check_refinable,
    costs_after,
    refine_chosen,
    with_refinement,
)
from tskd_tf.search.same_search import note_settings
from tskd_tf.search.settings import SearchSettings
from tskd_tf.search.student_costs import StudentCosts
from tskd_tf.search.trainer import Trainer
from tskd_tf.search.trials import search_widths
from tskd_tf.search.workers.crew import address_refused, search_with_workers
from tskd_tf.search.workers.shared import check_importable, stop_sharing
from tuner import chief
from tuner.student_tuner import StudentTuner

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PreparedSearch:
    """A search after all checks, with its candidates.

    Attributes:
        teacher: A model that gives logits, for the shape of the images. It may still be
            untrained, see `run`.
        train: All training images, with the data set's class ids.
        validation: The task's validation images, with the student's labels.
        test: The task's test images, with the student's labels.
        task: θ and the head.
        settings: Settings of the search, with a recipe of plain numbers.
        rates: Rates whose students can be built and are distinct, ascending.
        candidates: The rates that fit the budgets. Without a limit of the accuracy
            loss, only the widest of them.
        num_over_budget: Number of `rates` that exceed a budget.
        costs: Costs of the student of each rate.
        is_by_others: Whether workers train the trials.
        shapes: Maps rates to widths and multiply-adds of the user's own students.
    """

    teacher: keras.Model
    train: Split
    validation: Split
    test: Split
    task: Task
    settings: SearchSettings
    rates: list[float]
    candidates: list[float]
    num_over_budget: int
    costs: StudentCosts
    is_by_others: bool
    shapes: dict[float, tuple[list[int], int]]

    def run(self, trained_teacher: keras.Model | None = None) -> SearchResults:
        """Searches the smallest student that meets Eq. 4, and judges it.

        Args:
            trained_teacher: The trained teacher, if `teacher` is untrained; the same
                network. Default: `teacher` is trained.

        Raises:
            InputError: If the directory holds a search with other settings or data.
        """
        if trained_teacher is not None:
            teacher = as_searched(trained_teacher, self.train)
            return dataclasses.replace(self, teacher=teacher).run()
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(self.settings.directory or temporary).resolve()
            trainer, teacher_accuracy = self._trainer(folder)
            student, chosen, trials = search_widths(
                trainer, folder, self._how_to_search(trainer, folder)
            )
            # An interrupted search with workers may have left these files
            stop_sharing(folder)
            self._note_smallest(chosen)
            student, refinement = refine_chosen(
                self.settings.refine, trainer, student, chosen, trials, folder
            )
            control, control_curve = trainer.control(chosen, folder)
            teacher_logits = predict_logits(self.teacher, self.test.images)
            results = judge(
                teacher_logits,
                student,
                control,
                self.test,
                trainer.transfer.labels,
                self.task,
                self.settings.confidence,
            )
            report = build_report(
                task=self.task,
                data=DataRecord(
                    num_train=len(trainer.transfer.images),
                    num_validation=len(self.validation.images),
                    num_test=len(self.test.images),
                ),
                settings=self.settings,
                costs=(complexity(self.teacher), complexity(student)),
                chosen=chosen,
                results=results,
                control_curve=control_curve,
                budgets=spending(
                    self.settings.budgets,
                    chosen.rate,
                    costs_after(refinement, student, self.costs, self.train.images),
                ),
                search=search_record(
                    trials, teacher_accuracy, trainer.plan.floor, self.num_over_budget
                ),
            )
            report = with_refinement(report, refinement, student)
            keep_costs(folder, self.costs.measured)
        wrong = np.array([image["index"] for image in results.wrong_images], dtype=int)
        found = FoundStudent(student, report, as_uint8(self.test.images[wrong]))
        return SearchResults(
            found, trainer.transfer, self.validation, self.test, teacher_logits
        )

    def _note_smallest(self, chosen: Trial) -> None:
        """Logs that smaller students may suffice if the smallest one was chosen."""
        is_smallest = chosen.feasible and chosen.rate == self.rates[0]
        if is_smallest and len(self.candidates) > 1:
            _logger.info(
                "Rate %g is the smallest candidate: with a smaller rate, an even "
                "smaller student may meet Eq. 4",
                chosen.rate,
            )

    def _trainer(self, folder: pathlib.Path) -> tuple[Trainer, float]:
        """The trainer of the trials, and the teacher's validation accuracy."""
        settings, recipe = self.settings, self.settings.recipe
        mark = fingerprint_of(self.teacher, self.train, self.task, recipe)
        teacher_logits = predict_logits(self.teacher, self.validation.images)
        teacher_accuracy = accuracy(
            self.task.select_logits(teacher_logits), self.validation.class_ids
        )
        floor = accuracy_floor(teacher_accuracy, settings.allowed_loss)
        _logger.info(
            "The teacher gets %.2f %% of the task's %d validation images right; a "
            "student must reach %.2f %%",
            100 * teacher_accuracy,
            len(self.validation.images),
            100 * max(floor, 0.0),
        )
        note_settings(folder, self._common_settings(mark, floor))
        keep_costs(folder, self.costs.measured)
        transfer = kept_soft_targets(
            self.teacher, self.train, self.task, recipe, folder, mark
        )
        trainer = Trainer(
            self.teacher,
            transfer,
            self.validation,
            self.task,
            recipe,
            settings.plan(self.candidates, floor),
            settings.log_dir,
            settings.verbose,
            settings.build_student
            or student_builder(self.teacher, transfer, self.task, recipe),
            self.shapes,
        )
        return trainer, teacher_accuracy

    def _common_settings(self, transfer_mark: str, floor: float) -> dict[str, Any]:
        """The settings that a resumed search in the same folder must share."""
        settings, recipe = self.settings, self.settings.recipe
        return {
            "transfer_set": transfer_mark,
            "validation": fingerprint(*self.validation),
            "floor": floor,
            "rates": self.rates,
            "budgets": settings.budgets.limits(),
            "oracle": settings.oracle,
            "max_executions": settings.max_executions,
            # None for students of the teacher's families
            "student_macs": settings.build_student
            and [self.costs.cost("max_macs", rate) for rate in self.rates],
            "recipe": recipe.as_json(),
        }

    def _how_to_search(self, trainer: Trainer, folder: pathlib.Path) -> Any:
        # A single student trains fastest in this process, with all cores
        if self.is_by_others and (trainer.plan.is_a_search or chief.role() == "chief"):
            return functools.partial(
                search_with_workers, trainer, self.settings.build_student, folder
            )
        return StudentTuner.search


def prepare(
    teacher: keras.Model,
    train: Any,
    validation: Any,
    test: Any,
    task: Task | None = None,
    settings: SearchSettings = SearchSettings(),
) -> PreparedSearch:
    """Does all checks of a search and finds its candidates; each is built once.

    Args:
        teacher: A classifier as in `find_smallest_student`. It may still be untrained,
            see `PreparedSearch.run`.
        train: All training images and their class ids, as a `tf.data.Dataset` of
            batches or a pair of arrays.
        validation: The validation images and class ids, in the same form.
        test: The test images and class ids, in the same form.
        task: θ and the head. Default: all classes of the teacher.
        settings: Settings of the search.

    Raises:
        InputError: If an argument is invalid, or if no student fits the budgets.
    """
    build_student = settings.build_student
    teacher = _with_known_shape(teacher, train, settings)
    if task is None:
        num_classes = teacher.outputs[0].shape[-1]
        task = Task(range(num_classes), num_classes)
    settings.check()
    settings = settings.with_plain_recipe()
    by_others = is_by_others(
        settings.directory, teacher, build_student, settings.num_workers
    )
    check_teacher(teacher, task)
    all_train, all_validation, all_test = (
        checked_split(teacher, task, split, settings.memory_limit_mb)
        for split in (train, validation, test)
    )
    teacher = as_searched(teacher, all_train)
    complexity(teacher)
    built = None if build_student is None else BuiltOnce(build_student)
    rates = buildable_rates(teacher, task, settings.rates, settings.recipe, built)
    check_method_fits(
        teacher, task, rates[0], settings.recipe, built and built.fresh_copy
    )
    if settings.refine:
        check_refinable((built or settings.recipe.students_of(teacher, task))(rates[0]))
    costs = StudentCosts(
        built or settings.recipe.students_of(teacher, task),
        all_train.images,
        kept_costs(pathlib.Path(settings.directory)) if settings.directory else {},
    )
    fitting = fitting_rates(rates, settings.budgets, costs.cost)
    if settings.budgets.limits():
        _logger.info(
            "%d of %d candidates fit the budgets: rates up to %g",
            len(fitting),
            len(rates),
            fitting[-1],
        )
    shapes = {} if built is None else _own_shapes(built, rates, costs)
    return PreparedSearch(
        teacher,
        all_train,
        Split(*task.filter(tuple(all_validation))),
        Split(*task.filter(tuple(all_test))),
        task,
        settings,
        rates,
        fitting if settings.allowed_loss < ANY_LOSS else fitting[-1:],
        len(rates) - len(fitting),
        costs,
        by_others,
        shapes,
    )


def _with_known_shape(
    teacher: keras.Model, train: Any, settings: SearchSettings
) -> keras.Model:
    """The teacher without its softmax; with the user's students it may be any model."""
    if settings.build_student is not None:
        check_pairs(train)
        spec = getattr(train, "element_spec", None)
        shape = np.shape(train[0]) if spec is None else spec[0].shape
        teacher = as_functional(teacher, shape[1:])
    check_model(teacher, "the teacher")
    return as_logits(teacher)


def _own_shapes(
    built: BuiltOnce, rates: list[float], costs: StudentCosts
) -> dict[float, tuple[list[int], int]]:
    """Widths and multiply-adds of the user's students; their models are freed."""
    shapes = {
        rate: (layer_widths(built(rate)), int(costs.cost("max_macs", rate)))
        for rate in rates
    }
    built.forget()
    return shapes


def is_by_others(
    directory: str | None,
    teacher: keras.Model,
    build_student: StudentBuilder | None,
    num_workers: int,
) -> bool:
    """Whether workers train the trials; includes the checks that workers need.

    Raises:
        InputError: If this process is a worker, if a chief has no directory or no free
            address, or if workers cannot import the user's code.
    """
    role = chief.role()
    if role == "worker":
        raise InputError(
            "Expected a search in a chief, or without KERASTUNER_TUNER_ID. Received: "
            f"{os.environ['KERASTUNER_TUNER_ID']}, a worker; start workers by python "
            "-m tskd_tf.worker DIRECTORY"
        )
    if role == "chief" and directory is None:
        raise InputError(
            "Expected a directory that the chief shares with its workers. Received: "
            "none"
        )
    by_others = role == "chief" or num_workers > 1
    if by_others:
        check_importable(teacher, build_student)
    if role == "chief":
        try:
            chief.check_address()
        except chief.AddressError as error:
            raise address_refused(error) from None
    return by_others
