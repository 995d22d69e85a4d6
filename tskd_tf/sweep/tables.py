"""The results of a sweep: means over seeds, and the rate that each task needs."""

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tskd_tf.sweep.record import Counts, StudentRow, Sweep, TeacherRow
from tskd_tf.sweep.students import DISTILLED, HARD_LABELS

_Key = TypeVar("_Key", int, tuple[int, str], tuple[int, float, str])


def method_names(sweep: Sweep) -> dict[str, str]:
    """Names of the students' methods for tables and figures, by `StudentRow.method`.

    Sweeps of the first versions have no `method`: they used Eq. 8.
    """
    learnt_by = sweep.get("method") or "distillation"
    if learnt_by == "distillation":
        learnt_by = "Eq. 8, τ²" if sweep.get("scale_soft_loss") else "Eq. 8"
    return {DISTILLED: f"distilled ({learnt_by})", HARD_LABELS: "hard labels only"}


class Mean(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: The mean.
        low: Lower end of Student's t interval; None for one seed.
        high: Upper end of the interval; None for one seed.
        num_seeds: Number of seeds, ≥ 1.
    """

    mean: float
    low: float | None
    high: float | None
    num_seeds: int


class CellSummary(NamedTuple):
    """The students of one task, rate and method, over all seeds.

    Attributes:
        num_classes: Number of classes of the task.
        rate: Width rate, in (0, 1].
        method: `"distilled"` or `"hard_labels"`.
        num_params: Number of parameters of a student.
        num_macs: Multiply-adds of a student for one image.
        accuracy: Accuracy on the task's test images, in [0, 1].
        accuracy_loss: Teacher's accuracy minus the student's, in [-1, 1].
    """

    num_classes: int
    rate: float
    method: str
    num_params: int
    num_macs: int
    accuracy: Mean
    accuracy_loss: Mean


class RateNeeded(NamedTuple):
    """The smallest rate that keeps a share of the teacher's accuracy.

    Attributes:
        num_classes: Number of classes of the task.
        method: `"distilled"` or `"hard_labels"`.
        normalized_accuracy: The share, in (0, 1].
        by_seed: The rate of each seed; None if no rate of the sweep is enough.
        mean: Mean of the rates; None if one of them is None.
    """

    num_classes: int
    method: str
    normalized_accuracy: float
    by_seed: list[float | None]
    mean: float | None


def mean_of(values: Sequence[float], confidence: float) -> Mean:
    """Mean and Student's t interval of independent values.

    Args:
        values: One value per seed, at least one.
        confidence: Two-sided confidence level, in (0, 1).
    """
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return Mean(mean, None, None, count)
    # SciPy takes a second to load
    from scipy.stats import t

    quantile = float(t.ppf((1 + confidence) / 2, count - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    return Mean(mean, mean - half, mean + half, count)


def rate_needed(
    rates: Sequence[float], normalized: Sequence[float], enough: float
) -> float | None:
    """The rate at which an accuracy curve first reaches a share, by interpolation.

    Args:
        rates: Rates, ascending.
        normalized: For each rate, the student's accuracy divided by the teacher's.
        enough: The share to reach, in (0, 1].

    Returns:
        The linearly interpolated rate. The smallest rate if it is enough; smaller ones
        might also be. None if no rate is enough.
    """
    if normalized[0] >= enough:
        return rates[0]
    points = list(zip(rates, normalized, strict=True))
    for (rate, below), (next_rate, above) in zip(points, points[1:]):
        if above >= enough:
            return rate + (next_rate - rate) * (enough - below) / (above - below)
    return None


def summarise_cells(sweep: Sweep) -> list[CellSummary]:
    """One summary per task, rate and method, in ascending order.

    Args:
        sweep: A sweep, as in `sweep.json`.
    """
    confidence = sweep["confidence"]
    found = []
    for (num_classes, rate, method), students in _by(sweep["students"], _cell):
        teacher = _teacher(sweep, num_classes)
        accuracies = [_accuracy(sweep, student) for student in students]
        losses = [teacher - accuracy for accuracy in accuracies]
        found.append(
            CellSummary(
                num_classes,
                rate,
                method,
                students[0]["num_params"],
                students[0]["num_macs"],
                mean_of(accuracies, confidence),
                mean_of(losses, confidence),
            )
        )
    return found


def rates_needed(sweep: Sweep) -> list[RateNeeded]:
    """The rate needed by task, method and share: the paper's figures 2(c) and 3(c)."""
    found = []
    for (num_classes, method), students in _by(sweep["students"], _task_and_method):
        teacher = _teacher(sweep, num_classes)
        curves = []
        for _, of_seed in _by(students, lambda student: student["seed"]):
            of_seed = sorted(of_seed, key=lambda student: student["rate"])
            rates = [student["rate"] for student in of_seed]
            curves.append((rates, [_accuracy(sweep, s) / teacher for s in of_seed]))
        for enough in sweep["normalized_accuracies"]:
            needed = [rate_needed(*curve, enough) for curve in curves]
            known = [rate for rate in needed if rate is not None]
            mean = statistics.fmean(known) if len(known) == len(needed) else None
            found.append(RateNeeded(num_classes, method, enough, needed, mean))
    return found


def as_csv(sweep: Sweep) -> str:
    """A CSV table with one row per student, with its and the teacher's accuracy."""
    stream = io.StringIO()
    students = sweep["students"]
    names = [name for name in students[0] if name != "widths"]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, "widths", "num_test", "accuracy", "teacher_accuracy"])
    for student in students:
        cells: Mapping[str, object] = student
        writer.writerow(
            [
                *(cells[name] for name in names),
                "-".join(map(str, student["widths"])),
                _num_test(sweep, student["num_classes"]),
                _accuracy(sweep, student),
                _teacher(sweep, student["num_classes"]),
            ]
        )
    return stream.getvalue()


def as_markdown(sweep: Sweep) -> str:
    """Markdown tables of the loss in points by task and rate, and of rates needed."""
    cells = {(c.num_classes, c.rate, c.method): c for c in summarise_cells(sweep)}
    sizes = sorted({key[0] for key in cells})
    rates = sorted({key[1] for key in cells})
    parts = []
    names = method_names(sweep)
    for method, name in names.items():
        header = ["classes", "teacher", *(f"rate {rate:g}" for rate in rates)]
        rows = [
            [
                str(size),
                f"{100 * _teacher(sweep, size):.2f} %",
                *(in_points(cells[size, rate, method].accuracy_loss) for rate in rates),
            ]
            for size in sizes
        ]
        parts.append(f"Points lost, {name}:\n\n{_table(header, rows)}")
    needed = {
        (found.num_classes, found.method, found.normalized_accuracy): found
        for found in rates_needed(sweep)
    }
    shares = sweep["normalized_accuracies"]
    columns = [(method, share) for method in names for share in shares]
    header = ["classes", *(f"{names[m]}, {100 * share:g} %" for m, share in columns)]
    rows = [
        [str(size), *(_needed_text(needed[size, m, share]) for m, share in columns)]
        for size in sizes
    ]
    title = "Rate needed to keep a share of the teacher's accuracy:"
    parts.append(f"{title}\n\n{_table(header, rows)}")
    return "\n".join(parts)


def in_points(loss: Mean) -> str:
    """A loss of accuracy in points, with half the width of its interval if known."""
    if loss.low is None or loss.high is None:
        return f"{100 * loss.mean:.2f}"
    return f"{100 * loss.mean:.2f} ± {50 * (loss.high - loss.low):.2f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _needed_text(found: RateNeeded) -> str:
    known = [rate for rate in found.by_seed if rate is not None]
    if found.mean is not None:
        return f"{found.mean:.2f} ({min(known):.2f} to {max(known):.2f})"
    if not known:
        return "not reached"
    return f"reached by {len(known)} of {len(found.by_seed)} seeds"


def _by(
    students: Iterable[StudentRow], key: Callable[[StudentRow], _Key]
) -> list[tuple[_Key, list[StudentRow]]]:
    """Groups students by a key; groups are in ascending order of the key."""
    found: dict[_Key, list[StudentRow]] = {}
    for student in students:
        found.setdefault(key(student), []).append(student)
    return sorted(found.items(), key=lambda item: item[0])


def _cell(student: StudentRow) -> tuple[int, float, str]:
    return student["num_classes"], student["rate"], student["method"]


def _task_and_method(student: StudentRow) -> tuple[int, str]:
    return student["num_classes"], student["method"]


def num_right(head: str, counts: Counts) -> int:
    """Number of test images right: over all outputs for a full head, else the task's.

    Args:
        head: Head of the tasks, `"full"` or `"task"`.
        counts: Counts of a classifier.
    """
    return counts["num_right" if head == "full" else "num_right_of_task"]


def _row(sweep: Sweep, num_classes: int) -> TeacherRow:
    rows = {row["num_classes"]: row for row in sweep["teacher"]["tasks"]}
    return rows[num_classes]


def _num_test(sweep: Sweep, num_classes: int) -> int:
    return _row(sweep, num_classes)["num_test"]


def _teacher(sweep: Sweep, num_classes: int) -> float:
    row = _row(sweep, num_classes)
    return num_right(sweep["head"], row) / row["num_test"]


def _accuracy(sweep: Sweep, student: StudentRow) -> float:
    right = num_right(sweep["head"], student)
    return right / _num_test(sweep, student["num_classes"])
