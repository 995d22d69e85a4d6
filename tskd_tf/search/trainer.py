"""Trains the students of a search: trials, the chosen student, the control."""

import dataclasses
import functools
import gc
import logging
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.curves import Curve, read_curve
from tskd_tf.distillation.event_files import control_run, finishing_run, trial_run
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.distillation.training import TrainedStudent, train_student
from tskd_tf.files import write_json
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.networks.width import StudentBuilder, layer_widths
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.early_verdict import decision_margin, early_verdict
from tskd_tf.search.evidence import Trial
from tskd_tf.search.hparams import write_hparams
from tskd_tf.search.int8_verdict import int8_accuracy
from tskd_tf.search.plan import SearchPlan, num_rounds_left
from tskd_tf.search.progress import (
    LiveLine,
    Workload,
    capitalized,
    format_accuracy,
    format_time,
    format_verdict,
    in_columns,
    line_head,
    trial_head,
    workload,
    write_line,
)
from tskd_tf.search.trial_files import (
    RECORD,
    keep,
    kept_record,
    kept_records,
    read_record,
    save_model,
)
from tuner.engines import BARGAIN, bargain_score
from tuner.student_tuner import Attempt

ACCURACY = "val_accuracy"
_logger = logging.getLogger(__name__)


class Trainer(NamedTuple):
    """Data and settings that all trials and the control share.

    Attributes:
        teacher: The teacher, whose network students are made from.
        transfer: D(θ) with the teacher's logits.
        validation: The task's validation images, with the student's labels.
        task: θ.
        recipe: The recipe of all trainings.
        plan: The plan of the search.
        log_dir: Folder for TensorBoard; None writes no curves.
        verbose: `"auto"` writes one line per training to standard error, live on a
            terminal. Other values are those of `keras.Model.fit`.
        builders: Functions that map a rate to its student, by family.
        shapes: Maps candidates to widths and multiply-adds of students that were built
            before. Other students are built to find them. Default: empty.
    """

    teacher: keras.Model
    transfer: TransferSet
    validation: Split
    task: Task
    recipe: Recipe
    plan: SearchPlan
    log_dir: str | None
    verbose: Any
    builders: Mapping[str, StudentBuilder]
    shapes: Mapping[Candidate, tuple[list[int], int]] = {}

    @property
    def num_epochs(self) -> int:
        """Number of epochs of a training that is not stopped early."""
        return self.recipe.num_epochs(len(self.transfer.images))

    @property
    def margin(self) -> float:
        """Distance from the floor beyond which one training decides the verdict."""
        return decision_margin(self.plan.floor, len(self.validation.images))

    def oracle(self) -> Any:
        """Builds the plan's oracle for these data."""
        return self.plan.build_oracle(self.margin, self.recipe.seed, self.num_epochs)

    def trial(self, attempt: Attempt, trial_dir: str) -> dict[str, float]:
        """Trains a student until its verdict is known; returns KerasTuner's metrics.

        The student and its record are saved in the trial's folder. If they are there
        already, nothing is trained.
        """
        folder = pathlib.Path(trial_dir)
        candidate = self.plan.candidates[attempt.candidate]
        recipe = self._recipe(attempt)
        record = kept_record(folder, candidate, recipe.seed)
        if record is None:
            verdict = None
            if self.plan.bisects:
                verdict = functools.partial(
                    early_verdict,
                    num_epochs=self.num_epochs,
                    floor=self.plan.floor,
                    margin=self.margin,
                )
            record = self._train_and_keep(candidate, recipe, folder, verdict)
        self._write_hparams(record, folder)
        score = bargain_score(
            attempt.candidate,
            record.accuracy,
            # No accuracy is enough where the most accurate student is the answer
            math.inf if self.plan.any_loss else self.plan.floor,
            len(self.plan.candidates),
        )
        return {ACCURACY: record.accuracy, BARGAIN: score}

    def finish(self, record: Trial, folder: pathlib.Path) -> Trial:
        """Trains a student to the end if its training was stopped early.

        It starts again with the same seed. The student with the better validation
        accuracy is kept.
        """
        marker = folder / "finished.json"
        if record.epochs < self.num_epochs and not marker.exists():
            self._log_start("%s is trained to the end", capitalized(record.candidate))
            recipe = dataclasses.replace(self.recipe, seed=record.seed)
            trained = self.train_more(
                "to the end",
                record,
                recipe,
                finishing_run(record.candidate.file_part),
                self.plan.floor,
                workload(kept_records(folder.parent), 0, self.num_epochs, 1),
            )
            if trained.accuracy >= record.accuracy:
                record = record._replace(
                    accuracy=trained.accuracy,
                    feasible=trained.accuracy >= self.plan.floor,
                    epochs=trained.epochs,
                    seconds=record.seconds + trained.seconds,
                    curve=trained.curve,
                )
                keep(trained.student, record, folder)
            write_json(marker, record._asdict())
        self._write_hparams(record, folder)
        return record

    def control(self, record: Trial, folder: pathlib.Path) -> tuple[keras.Model, Curve]:
        """The same network trained on hard labels only; trained once per folder."""
        path = folder / f"control_{record.candidate.file_part}.keras"
        if not path.exists():
            self._log_start("Control: %s on hard labels only", record.candidate)
            recipe = dataclasses.replace(self.recipe.on_hard_labels(), seed=record.seed)
            trained = self.train_more(
                "control",
                record,
                recipe,
                control_run(record.candidate.file_part),
                None,
                workload(kept_records(folder), 0, self.num_epochs, 0),
            )
            # Written first: a control in the folder always has its curve
            write_json(path.with_suffix(".json"), trained.curve)
            save_model(trained.student, path)
        return load_kept_model(path), read_curve(path.with_suffix(".json"))

    @property
    def shows_lines(self) -> bool:
        """Whether to show one line per training instead of Keras's progress bars."""
        return bool(self.verbose == "auto")

    def show_result(self, folder: pathlib.Path) -> None:
        """Writes a line about the finished trial in a folder."""
        record = read_record(folder / RECORD)
        if self.shows_lines:
            again = self._is_again(record)
            head = trial_head(folder, record.candidate, record.num_macs, again)
            others = self._workload(folder.parent, num_running=0)
            write_line(self._line(head, record, self.plan.floor, others))
            return
        _logger.info(
            "%s: %.2f %% of the validation images right, %.2f %% needed: %s",
            capitalized(record.candidate),
            100 * record.accuracy,
            100 * max(self.plan.floor, 0.0),
            "feasible" if record.feasible else "not feasible",
        )

    def _recipe(self, attempt: Attempt) -> Recipe:
        seed = (self.recipe.seed + attempt.execution) % 2**32
        recipe = dataclasses.replace(self.recipe, seed=seed)
        return (
            recipe
            if attempt.epochs is None
            else dataclasses.replace(recipe, epochs=attempt.epochs)
        )

    def _train_and_keep(
        self, candidate: Candidate, recipe: Recipe, folder: pathlib.Path, verdict: Any
    ) -> Trial:
        if candidate in self.shapes:
            widths, num_macs = self.shapes[candidate]
        else:
            student = self.builders[candidate.family](candidate.rate)
            widths, num_macs = layer_widths(student), complexity(student).num_macs
        names = "-".join(map(str, widths))
        self._log_start(
            "%s: %s, %s MACs", capitalized(candidate), names, f"{num_macs:,}"
        )
        live_line = LiveLine(
            trial_head(folder, candidate, num_macs, self._is_again(recipe)),
            self.plan.floor,
            self._workload(folder.parent, num_running=1),
            sys.stderr,
        )
        run_name = trial_run(folder.name, candidate.file_part)
        trained = self._train(candidate, recipe, run_name, live_line, verdict)
        record = Trial(
            family=candidate.family,
            rate=candidate.rate,
            widths=widths,
            num_macs=num_macs,
            num_params=complexity(trained.student).num_params,
            accuracy=trained.accuracy,
            feasible=trained.accuracy >= self.plan.floor,
            epochs=trained.epochs,
            seconds=trained.seconds,
            seed=recipe.seed,
            curve=trained.curve,
        )
        keep(trained.student, record, folder)
        self.show_result(folder)
        return record

    def train_more(
        self,
        title: str,
        record: Trial,
        recipe: Recipe,
        run_name: str,
        floor: float | None,
        others: Workload,
    ) -> TrainedStudent:
        """Trains a student after the trials; its line starts with the title."""
        head = line_head(title, record.candidate, record.num_macs)
        live_line = LiveLine(head, floor, others, sys.stderr)
        trained = self._train(record.candidate, recipe, run_name, live_line)
        if self.shows_lines:
            others = others.after(trained.epochs, trained.seconds)
            write_line(self._line(head, trained, floor, others))
        return trained

    def _train(
        self,
        candidate: Candidate,
        recipe: Recipe,
        run_name: str,
        live_line: LiveLine,
        verdict: Any = None,
    ) -> TrainedStudent:
        log_dir = self.log_dir and str(pathlib.Path(self.log_dir) / run_name)
        with live_line:
            trained = train_student(
                self.teacher,
                candidate.rate,
                self.transfer,
                self.validation,
                self.task,
                recipe,
                log_dir,
                0 if self.shows_lines else self.verbose,
                self.builders[candidate.family],
                verdict,
                [live_line] if self.shows_lines else [],
            )
        # The traced step is in reference cycles, which Python would free much later
        gc.collect()
        if self.plan.judge_by == "int8":
            accuracy = int8_accuracy(
                trained.student, self.transfer.images, self.validation
            )
            return trained._replace(accuracy=accuracy)
        return trained

    def _write_hparams(self, record: Trial, folder: pathlib.Path) -> None:
        if self.log_dir is not None:
            name = trial_run(folder.name, record.candidate.file_part)
            run_dir = pathlib.Path(self.log_dir) / name
            most_macs = complexity(self.teacher).num_macs
            write_hparams(
                run_dir, f"2_{folder.name}", record, self.num_epochs, most_macs
            )

    def _log_start(self, message: str, *values: Any) -> None:
        """Logs the start of a training; at debug level if a live line shows it."""
        is_live = self.shows_lines and sys.stderr.isatty()
        _logger.log(logging.DEBUG if is_live else logging.INFO, message, *values)

    def _line(
        self,
        head: Sequence[str],
        trained: TrainedStudent | Trial,
        floor: float | None,
        others: Workload,
    ) -> str:
        """The line about a finished training; without a floor it has no verdict."""
        is_judged = floor is not None and floor > 0.0
        feasible = trained.accuracy >= self.plan.floor if is_judged else None
        # KerasTuner's engines train for fewer epochs without stopping early
        num_epochs = self.num_epochs if self.plan.bisects else trained.epochs
        return in_columns(
            [
                *head,
                format_accuracy(trained.accuracy, floor),
                format_verdict(feasible, trained.epochs, num_epochs),
                format_time(trained.seconds, others),
            ]
        )

    def _is_again(self, trained: Recipe | Trial) -> bool:
        return trained.seed != self.recipe.seed

    def _workload(self, search_dir: pathlib.Path, num_running: int) -> Workload:
        """Finished work of the search, and remaining work besides running trials."""
        records = kept_records(search_dir)
        num_rounds = num_rounds_left(self.plan, self.oracle(), records)
        if num_rounds is not None:
            num_rounds = max(0, num_rounds - num_running)
        # The control, and the chosen student's training to the end
        num_full_trainings = 2 if self.plan.bisects else 1
        return workload(records, num_rounds, self.num_epochs, num_full_trainings)
