"""The evidence of a search as plain data, in the form of `report.json`."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple, cast

from tskd_tf.acceptance import PairedLoss, meets_threshold, smallest_certifiable_loss
from tskd_tf.choices import PLAIN, THIN
from tskd_tf.data.task import Task
from tskd_tf.distillation.curves import Curve
from tskd_tf.distillation.methods.method import DISTILLATION
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.networks.costs import Complexity
from tskd_tf.networks.layers.convolution import convolution_named
from tskd_tf.report.record import (
    SCHEMA_VERSION,
    ClassResult,
    Confusion,
    ControlResult,
    Costs,
    DataRecord,
    Kind,
    Report,
    SearchRecord,
    Spending,
    StudentResult,
    TaskRecord,
    TeacherResult,
    TrialRow,
    WrongImage,
)
from tskd_tf.search.candidate import OWN, Candidate
from tskd_tf.search.settings import SearchSettings


class Trial(NamedTuple):
    """One student of the search.

    Attributes:
        family: A name in `choices.FAMILIES`, or `candidate.OWN`.
        rate: Width rate, above 0.
        widths: Filters or units of its layers, head included.
        num_macs: Multiply-adds of one inference on one image.
        num_params: Number of parameters.
        accuracy: Accuracy on the task's validation images, in [0, 1].
        feasible: Whether this accuracy meets Eq. 4.
        epochs: Number of epochs trained.
        seconds: Wall-clock time of the training, in seconds.
        seed: Seed of initial weights and of the order of images.
        curve: Learning curve of the training whose student is kept.
    """

    family: str
    rate: float
    widths: list[int]
    num_macs: int
    num_params: int
    accuracy: float
    feasible: bool
    epochs: int
    seconds: float
    seed: int
    curve: Curve

    @property
    def candidate(self) -> Candidate:
        """The candidate that was trained."""
        return Candidate(self.family, self.rate)


class TestResults(NamedTuple):
    """Accuracies on the task's test images, in [0, 1].

    Attributes:
        teacher_accuracy: Teacher's, with the arg-max over the outputs of the task's
            head.
        teacher_accuracy_all_outputs: Teacher's, with the arg-max over all its outputs.
        teacher_accuracy_task_outputs: Teacher's, with the arg-max over the outputs of
            the task's classes.
        student_accuracy: Accuracy of the chosen student.
        control_accuracy: Accuracy of the same network trained on hard labels only.
        paired: Comparison of teacher and student, image by image.
        classes: Results per class, in the task's order.
        confusion: Confusion matrices of teacher and student.
        wrong_images: Images that only the student gets wrong, those of the highest
            probability first.
    """

    teacher_accuracy: float
    teacher_accuracy_all_outputs: float
    teacher_accuracy_task_outputs: float
    student_accuracy: float
    control_accuracy: float
    paired: PairedLoss
    classes: list[ClassResult]
    confusion: Confusion
    wrong_images: list[WrongImage]


def build_report(
    task: Task,
    data: DataRecord,
    settings: SearchSettings,
    costs: tuple[Complexity, Complexity],
    chosen: Trial,
    results: TestResults,
    control_curve: Curve,
    budgets: dict[str, Spending],
    search: SearchRecord,
) -> Report:
    """The report of a search, without the parts that only a command-line run adds.

    Args:
        task: θ.
        data: Numbers of images of the task.
        settings: Settings of the search.
        costs: Costs of the teacher and of the student.
        chosen: The trial of the chosen student.
        results: Results on the test images.
        control_curve: Learning curve of the control.
        budgets: Limit and spending of each budget that was set, by name.
        search: How the student was found, see `search_record`.
    """
    teacher_cost, student_cost = costs
    paired = results.paired
    return Report(
        schema_version=SCHEMA_VERSION,
        task=TaskRecord(
            class_ids=task.class_ids,
            class_names=[task.class_names[i] for i in task.class_ids],
            head=task.head,
            output_names=task.output_names,
        ),
        data=data,
        max_accuracy_loss=settings.allowed_loss,
        budgets=budgets,
        teacher=_teacher_result(results, teacher_cost),
        student=_student_result(results, student_cost, chosen, settings.recipe),
        accuracy_loss=paired.accuracy_loss,
        accuracy_loss_interval=[paired.low, paired.high],
        accuracy_loss_interval_method="Tango's score interval for paired data",
        confidence=paired.confidence,
        num_only_teacher_correct=paired.num_lost,
        num_only_student_correct=paired.num_gained,
        smallest_certifiable_loss=smallest_certifiable_loss(
            paired.num_examples, paired.confidence
        ),
        meets_threshold=meets_threshold(paired.accuracy_loss, settings.allowed_loss),
        certified=meets_threshold(paired.high, settings.allowed_loss),
        control=ControlResult(
            accuracy=results.control_accuracy,
            balanced_accuracy=fmean(c["control_accuracy"] for c in results.classes),
            curve=control_curve,
        ),
        classes=results.classes,
        confusion=results.confusion,
        wrong_images=results.wrong_images,
        search=search,
    )


def search_record(
    trials: Sequence[Trial],
    teacher_accuracy: float,
    floor: float,
    num_over_budget: int,
) -> SearchRecord:
    """The part of the report that says how a student was found.

    Args:
        trials: All trials, in the order in which they ended.
        teacher_accuracy: Teacher's accuracy on the validation images, in [0, 1].
        floor: Smallest accuracy on these images that meets Eq. 4.
        num_over_budget: Number of candidates that exceed a budget and were not tried.
    """
    return SearchRecord(
        seconds=sum(trial.seconds for trial in trials),
        validation_teacher_accuracy=teacher_accuracy,
        validation_floor=floor,
        num_over_budget=num_over_budget,
        # A test checks that the two have the same fields
        trials=[_trial_row(trial) for trial in trials],
    )


def _trial_row(trial: Trial) -> TrialRow:
    row = cast(TrialRow, trial._asdict())
    if trial.family in (THIN, OWN):
        del row["family"]
    return row


def _teacher_result(results: TestResults, cost: Complexity) -> TeacherResult:
    return {
        "accuracy": results.teacher_accuracy,
        "accuracy_all_outputs": results.teacher_accuracy_all_outputs,
        "accuracy_task_outputs": results.teacher_accuracy_task_outputs,
        # Mean of the accuracies by class (Brodersen et al. 2010)
        "balanced_accuracy": fmean(c["teacher_accuracy"] for c in results.classes),
        **_costs(cost),
        # Trained elsewhere
        "curve": None,
    }


def _student_result(
    results: TestResults, cost: Complexity, chosen: Trial, recipe: Recipe
) -> StudentResult:
    kind = _kind(recipe.convolutions, recipe.groups)
    if chosen.family not in (THIN, OWN):
        kind["family"] = chosen.family
    # The default is left out, as in older reports
    if recipe.method != DISTILLATION:
        kind["method"] = recipe.method
    return {
        "rate": chosen.rate,
        "widths": chosen.widths,
        **kind,
        "accuracy": results.student_accuracy,
        "balanced_accuracy": fmean(c["student_accuracy"] for c in results.classes),
        **_costs(cost),
        "curve": chosen.curve,
    }


def _kind(convolutions: str, groups: int | None) -> Kind:
    """Kind and groups of convolutions; empty for plain ones, as in older reports."""
    if convolutions == PLAIN:
        return {}
    default_groups = convolution_named(convolutions).default_groups
    if default_groups is None:
        return {"convolutions": convolutions}
    return {"convolutions": convolutions, "groups": groups or default_groups}


def _costs(cost: Complexity) -> Costs:
    return {
        "num_params": cost.num_params,
        "num_macs": cost.num_macs,
        "paper_cost": cost.paper_cost,
        "size_bytes": cost.size_bytes,
    }
