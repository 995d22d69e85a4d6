"""The facts of a report as rows, shared by terminal, TensorBoard and page."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tskd_tf.choices import Budgets, mark_of
from tskd_tf.export.record import ExportRow
from tskd_tf.report.record import (
    CLASSIFIERS,
    ClassResult,
    CostName,
    Costs,
    Report,
)

# Formats a fraction; terminal and page use different spaces
Write = Callable[[float], str]

INT8_METHODS = {
    "int8": "8 bits, as usual",
    "int8_more_examples": "8 bits, ranges from more images",
    "int16x8": "activations of 16 bits, weights of 8",
    "int8_distilled": "8 bits, after a quantisation-aware distillation",
}
_MOST_CLASSES = 10
_COSTS: tuple[tuple[str, CostName], ...] = (
    ("parameters", "num_params"),
    ("multiply-adds", "num_macs"),
    ("bytes of weights", "size_bytes"),
)


class CostRow(NamedTuple):
    """A cost of teacher and student.

    Attributes:
        name: Name of the cost.
        teacher: The teacher's cost.
        student: The cost of the student, and of the control.
        ratio: The larger cost divided by the smaller one, ≥ 1.
        direction: `"fewer"` if the student costs less than the teacher, else `"more"`.
    """

    name: str
    teacher: int
    student: int
    ratio: float
    direction: str

    def compared(self, times: str) -> str:
        """The comparison in words, e.g. `14.8x fewer` for `times` of `x`."""
        return f"{self.ratio:.1f}{times} {self.direction}"


class ClassRow(NamedTuple):
    """Accuracies of a class, or their mean.

    Attributes:
        name: Name of the class.
        accuracies: Formatted accuracies of teacher, student and control.
        num_train: Formatted number of training images; empty for a mean.
        num_test: Formatted number of test images; empty for a mean.
    """

    name: str
    accuracies: list[str]
    num_train: str
    num_test: str


class FileRow(NamedTuple):
    """An exported file.

    Attributes:
        path: Path in the output folder.
        made: How an integer file was made; empty for the usual way.
        size_bytes: Size of the file, in bytes.
        accuracy: Accuracy on the test images, in [0, 1].
        latency_us: Median time per image, in microseconds; None if not measured.
        bargain: `"keeps"` or `"does not keep"`; empty if any loss is allowed.
    """

    path: str
    made: str
    size_bytes: int
    accuracy: float
    latency_us: float | None
    bargain: str

    @property
    def name(self) -> str:
        """Path of the file, and how it was made."""
        return f"{self.path} ({self.made})" if self.made else self.path


def percent(fraction: float) -> str:
    """`0.98914` → `98.91 %`."""
    return f"{100 * fraction:.2f} %"


def allows_any_loss(report: Report) -> bool:
    """Whether only costs were limited, so that any loss of accuracy meets Eq. 4."""
    return report["max_accuracy_loss"] >= 1.0


def ratio_of(teacher: Costs, student: Costs, key: CostName) -> tuple[float, str]:
    """Ratio of a cost, ≥ 1, and whether the student has `"fewer"` or `"more"`."""
    ratio = teacher[key] / student[key]
    return (ratio, "fewer") if ratio >= 1 else (1 / ratio, "more")


def cost_rows(report: Report) -> list[CostRow]:
    """Parameters, multiply-adds and bytes, in this order."""
    teacher, student = report["teacher"], report["student"]
    return [
        CostRow(name, teacher[key], student[key], *ratio_of(teacher, student, key))
        for name, key in _COSTS
    ]


def accuracies(report: Report, write: Write) -> list[str]:
    """Formatted test accuracies of teacher, student and control."""
    return [write(report[who]["accuracy"]) for who in CLASSIFIERS]


def classes_to_show(report: Report) -> list[ClassResult]:
    """The classes for a short table, in the task's order.

    Up to ten classes, all are shown; of more, the ten that lose most.
    """
    classes = report["classes"]
    losses = [c["student_accuracy"] - c["teacher_accuracy"] for c in classes]
    most = sorted(range(len(classes)), key=lambda i: losses[i])[:_MOST_CLASSES]
    return [classes[i] for i in sorted(most)]


def class_rows(classes: Sequence[ClassResult], write: Write) -> list[ClassRow]:
    """One row per class, in the order of `classes`."""
    return [
        ClassRow(
            result["class_name"],
            [
                write(result["teacher_accuracy"]),
                write(result["student_accuracy"]),
                write(result["control_accuracy"]),
            ],
            f"{result['num_train']:,}",
            f"{result['num_test']:,}",
        )
        for result in classes
    ]


def balanced_row(report: Report, write: Write) -> ClassRow:
    """The means of the accuracies by class, of all classes."""
    means = [write(report[who]["balanced_accuracy"]) for who in CLASSIFIERS]
    return ClassRow("balanced accuracy", means, "", "")


def budget_rows(report: Report) -> list[tuple[str, str, str]]:
    """For each budget: title, limit, and the student's cost, as text."""
    rows = []
    for name, budget in report["budgets"].items():
        spec = ",.1f" if mark_of(Budgets, name, "kept_in") else ","
        limit, student = format(budget["limit"], spec), format(budget["student"], spec)
        # A report of another version may have a budget that is unknown here
        title = mark_of(Budgets, name, "title") or name.replace("_", " ")
        rows.append((title, limit, student))
    return rows


def file_rows(report: Report) -> list[FileRow]:
    """One row per exported file; empty for a search from Python."""
    any_loss = allows_any_loss(report)
    rows = []
    for export in report.get("exports", []):
        latency = export["latency_us"]
        kept = "keeps" if export["meets_threshold"] else "does not keep"
        rows.append(
            FileRow(
                export["path"],
                shipped_method(export),
                export["size_bytes"],
                export["accuracy"],
                latency["p50"] if latency else None,
                "" if any_loss else kept,
            )
        )
    return rows


def shipped_method(export: ExportRow) -> str:
    """How an int8 file was made; empty for the usual way and for other files."""
    methods = [a["method"] for a in export["attempts"] if a["is_shipped"]]
    return INT8_METHODS[methods[0]] if methods and methods != ["int8"] else ""


def refinement_text(report: Report) -> str:
    """What a refinement removed, and in how many steps; empty without one."""
    if "refinement" not in report:
        return ""
    refinement, student = report["refinement"], report["student"]
    num_kept = sum(step["is_kept"] for step in refinement["steps"])
    return (
        f"{refinement['num_macs']:,} to {student['num_macs']:,} multiply-adds, "
        f"{refinement['num_params']:,} to {student['num_params']:,} parameters; "
        f"{num_kept} of {len(refinement['steps'])} steps kept"
    )


def task_text(report: Report) -> str:
    """The classes of the task, and the head."""
    task = report["task"]
    return f"{', '.join(task['class_names'])} ({task['head']} head)"


def labels_text(report: Report) -> str:
    """Name and content of the labels file; empty for a search from Python."""
    if "labels" not in report:
        return ""
    num_outputs = len(report["task"]["output_names"])
    content = f"the class of each of the {num_outputs} outputs, one per line"
    return f"{report['labels']}: {content}"
