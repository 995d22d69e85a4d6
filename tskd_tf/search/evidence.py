"""The evidence of a search as plain data, as it stands in `report.json`."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

from tskd_tf.acceptance import PairedLoss, meets_threshold, smallest_certifiable_loss
from tskd_tf.choices import PLAIN
from tskd_tf.data.task import Task
from tskd_tf.distillation.curves import Curve
from tskd_tf.distillation.methods.method import DISTILLATION
from tskd_tf.networks.costs import Complexity
from tskd_tf.networks.layers.convolution import convolution_named

SCHEMA_VERSION = 2


class Trial(NamedTuple):
    """One student of the search.

    Attributes:
        rate: Width rate.
        widths: Of its layers, head included.
        num_macs: Of one inference.
        accuracy: On the task's validation images, in [0, 1].
        feasible: Whether that is enough for Eq. 4.
        epochs: Trained.
        seconds: Wall clock.
        seed: Of weights and order.
        curve: Of the training whose student is kept.
    """

    rate: float
    widths: list[int]
    num_macs: int
    accuracy: float
    feasible: bool
    epochs: int
    seconds: float
    seed: int
    curve: Curve


class ClassResult(NamedTuple):
    """One class of the task.

    Attributes:
        class_id: In the data set's numbering.
        class_name: Its name.
        num_train: Its training images.
        num_test: Its test images, ≥ 1.
        teacher_accuracy: Share of these that the teacher gets right, in [0, 1].
        student_accuracy: The same of the chosen student.
        control_accuracy: The same of the control.
    """

    class_id: int
    class_name: str
    num_train: int
    num_test: int
    teacher_accuracy: float
    student_accuracy: float
    control_accuracy: float


class Confusion(NamedTuple):
    """What the task's test images are taken for, as counts.

    Attributes:
        row_names: The task's classes, in its order.
        column_names: The same and, where there are further outputs, `"another class"`.
        teacher: A row a class, a column an answer.
        student: The same of the chosen student.
    """

    row_names: list[str]
    column_names: list[str]
    teacher: list[list[int]]
    student: list[list[int]]


class WrongImage(TypedDict):
    """A test image that the student gets wrong and the teacher right.

    Keys:
        index: Position among the task's test images.
        class_name: What it is.
        student_prediction: Name of the class that the student takes it for.
        student_probability: The student's softmax of that class, in [0, 1].
    """

    index: int
    class_name: str
    student_prediction: str
    student_probability: float


class TestResults(NamedTuple):
    """Accuracies on the task's test images, in [0, 1].

    Attributes:
        teacher_accuracy: Arg-max over the outputs of the task's head.
        teacher_accuracy_all_outputs: Arg-max over all the teacher's outputs.
        teacher_accuracy_task_outputs: Arg-max over the task's outputs only.
        student_accuracy: Of the chosen student.
        control_accuracy: Of the same network trained on hard labels only.
        paired: Teacher against student, image by image.
        classes: Class by class, in the task's order.
        confusion: What teacher and student take the images for.
        wrong_images: Some that only the student gets wrong, the surest first.
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
    num_examples: tuple[int, int, int],
    max_accuracy_loss: float,
    costs: tuple[Complexity, Complexity],
    chosen: Trial,
    trials: Sequence[Trial],
    results: TestResults,
    control_curve: Curve,
    validation: dict[str, float],
    budgets: dict[str, dict[str, float]],
    num_over_budget: int,
    method: str,
    convolutions: tuple[str, int | None] = (PLAIN, None),
) -> dict[str, Any]:
    """The report of a search, without what only a command-line run knows.

    Args:
        task: θ.
        num_examples: The task's training, validation and test images.
        max_accuracy_loss: Tacc_loss.
        costs: Of the teacher and of the student.
        chosen: The trial whose student is handed over.
        trials: All of them, as they ran.
        results: On the test images.
        control_curve: Of the control's training.
        validation: `teacher_accuracy` and `floor` on the validation images.
        budgets: By name the `limit`, and what the `student` costs of it.
        num_over_budget: Candidates that were not tried as they do not fit these.
        method: By which the students learnt.
        convolutions: Of the students, as in `Recipe`, and their groups.

    Returns:
        JSON-able; accuracies and losses are fractions.
    """
    teacher_cost, student_cost = costs
    paired = results.paired
    return {
        "schema_version": SCHEMA_VERSION,
        "task": {
            "class_ids": task.class_ids,
            "class_names": [task.class_names[i] for i in task.class_ids],
            "head": task.head,
            "output_names": task.output_names,
        },
        "data": dict(zip(("num_train", "num_validation", "num_test"), num_examples)),
        "max_accuracy_loss": max_accuracy_loss,
        "budgets": budgets,
        "teacher": {
            "accuracy": results.teacher_accuracy,
            "accuracy_all_outputs": results.teacher_accuracy_all_outputs,
            "accuracy_task_outputs": results.teacher_accuracy_task_outputs,
            "balanced_accuracy": _balanced(c.teacher_accuracy for c in results.classes),
            **_costs(teacher_cost),
            # Trained elsewhere
            "curve": None,
        },
        "student": {
            "rate": chosen.rate,
            "widths": chosen.widths,
            **_kind(*convolutions),
            # As in reports of before there were others
            **({} if method == DISTILLATION else {"method": method}),
            "accuracy": results.student_accuracy,
            "balanced_accuracy": _balanced(c.student_accuracy for c in results.classes),
            **_costs(student_cost),
            "curve": chosen.curve,
        },
        "accuracy_loss": paired.accuracy_loss,
        "accuracy_loss_interval": [paired.low, paired.high],
        "accuracy_loss_interval_method": "Tango's score interval for paired data",
        "confidence": paired.confidence,
        "num_only_teacher_correct": paired.num_lost,
        "num_only_student_correct": paired.num_gained,
        "smallest_certifiable_loss": smallest_certifiable_loss(
            paired.num_examples, paired.confidence
        ),
        "meets_threshold": meets_threshold(paired.accuracy_loss, max_accuracy_loss),
        "certified": meets_threshold(paired.high, max_accuracy_loss),
        "control": {
            "accuracy": results.control_accuracy,
            "balanced_accuracy": _balanced(c.control_accuracy for c in results.classes),
            "curve": control_curve,
        },
        "classes": [result._asdict() for result in results.classes],
        "confusion": results.confusion._asdict(),
        "wrong_images": results.wrong_images,
        "search": {
            "seconds": sum(trial.seconds for trial in trials),
            "validation_teacher_accuracy": validation["teacher_accuracy"],
            "validation_floor": validation["floor"],
            "num_over_budget": num_over_budget,
            "trials": [trial._asdict() for trial in trials],
        },
    }


def _balanced(class_accuracies: Iterable[float]) -> float:
    """Mean of the accuracies by class (Brodersen et al. 2010)."""
    return statistics.fmean(class_accuracies)


def _kind(convolutions: str, groups: int | None) -> dict[str, Any]:
    """Nothing for plain convolutions, as in reports of before there were others."""
    if convolutions == PLAIN:
        return {}
    default_groups = convolution_named(convolutions).default_groups
    if default_groups is None:
        return {"convolutions": convolutions}
    return {"convolutions": convolutions, "groups": groups or default_groups}


def _costs(cost: Complexity) -> dict[str, int]:
    return {
        "num_params": cost.num_params,
        "num_macs": cost.num_macs,
        "paper_cost": cost.paper_cost,
        "size_bytes": cost.size_bytes,
    }
