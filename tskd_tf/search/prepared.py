"""A search after all checks: it trains, chooses and judges."""

import dataclasses
import functools
import logging
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tskd_tf.acceptance import accuracy_floor
from tskd_tf.data.images import as_uint8, fingerprint
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.kept_soft_targets import fingerprint_of, kept_soft_targets
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.report.record import DataRecord
from tskd_tf.search.budgets import keep_costs, spending
from tskd_tf.search.builders import student_builders
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.evidence import Trial, build_report, search_record
from tskd_tf.search.found import FoundStudent, SearchResults
from tskd_tf.search.inputs import as_searched
from tskd_tf.search.judge import judge
from tskd_tf.search.objective import ordered_chains
from tskd_tf.search.refine import costs_after, refine_chosen, with_refinement
from tskd_tf.search.same_search import note_settings
from tskd_tf.search.settings import SearchSettings
from tskd_tf.search.student_costs import StudentCosts
from tskd_tf.search.trainer import Trainer
from tskd_tf.search.trials import search_widths
from tskd_tf.search.workers.crew import search_with_workers
from tskd_tf.search.workers.shared import stop_sharing
from tuner import chief
from tuner.chains import number_by_cost
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
        found: One list per family of the candidates whose students can be built and
            are distinct, ascending.
        chains: The candidates of `found` that fit the budgets. Without a limit of the
            accuracy loss, only the widest of each family.
        num_over_budget: Number of candidates that exceed a budget.
        costs: Costs of the student of each candidate.
        is_by_others: Whether workers train the trials.
        shapes: Maps candidates to widths and multiply-adds of the user's own students.
    """

    teacher: keras.Model
    train: Split
    validation: Split
    test: Split
    task: Task
    settings: SearchSettings
    found: list[list[Candidate]]
    chains: list[list[Candidate]]
    num_over_budget: int
    costs: StudentCosts
    is_by_others: bool
    shapes: dict[Candidate, tuple[list[int], int]]

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
                    chosen.candidate,
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
        smallest = {chain[0] for chain in self.found}
        num_candidates = sum(map(len, self.chains))
        if chosen.feasible and chosen.candidate in smallest and num_candidates > 1:
            _logger.info(
                "The smallest candidate was chosen, %s: an even smaller student may "
                "meet Eq. 4",
                chosen.candidate,
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
        candidates, members = self._ordered(folder)
        trainer = Trainer(
            self.teacher,
            transfer,
            self.validation,
            self.task,
            recipe,
            settings.plan(candidates, floor, members),
            settings.log_dir,
            settings.verbose,
            student_builders(
                self.teacher,
                transfer,
                self.task,
                recipe,
                candidates,
                settings.build_student,
            ),
            self.shapes,
        )
        return trainer, teacher_accuracy

    def _ordered(
        self, folder: pathlib.Path
    ) -> tuple[list[Candidate], Sequence[Sequence[int]]]:
        """All candidates by cost, and the positions of each family's among them."""
        if len(self.chains) == 1:
            return self.chains[0], ()
        costs = ordered_chains(
            self.chains,
            self.settings.minimize,
            {
                c: int(self.costs.cost("max_macs", c))
                for chain in self.chains
                for c in chain
            },
            self.costs.student,
            self.train.images,
            folder,
        )
        rates = {chain[0].family: chain for chain in self.chains}
        order, members = number_by_cost(costs)
        return [rates[family][place] for family, place in order], members

    def _common_settings(self, transfer_mark: str, floor: float) -> dict[str, Any]:
        """The settings that a resumed search in the same folder must share."""
        settings, recipe = self.settings, self.settings.recipe
        return {
            "transfer_set": transfer_mark,
            "validation": fingerprint(*self.validation),
            "floor": floor,
            "rates": [candidate.rate for chain in self.found for candidate in chain],
            "families": [chain[0].family for chain in self.found],
            "minimize": settings.minimize,
            "judge_by": settings.judge_by,
            "budgets": settings.budgets.limits(),
            "oracle": settings.oracle,
            "max_executions": settings.max_executions,
            # None for students of the teacher's families
            "student_macs": settings.build_student
            and [self.costs.cost("max_macs", c) for chain in self.found for c in chain],
            "recipe": recipe.as_json(),
        }

    def _how_to_search(self, trainer: Trainer, folder: pathlib.Path) -> Any:
        # A single student trains fastest in this process, with all cores
        if self.is_by_others and (trainer.plan.is_a_search or chief.role() == "chief"):
            return functools.partial(
                search_with_workers, trainer, self.settings.build_student, folder
            )
        return StudentTuner.search
