"""The page's section about classes: accuracies, confusion matrix, wrong images."""

from typing import Literal

import numpy as np

from tskd_tf.report.figures.pictures import as_picture, png_bytes
from tskd_tf.report.figures.results import MOST_CELLS
from tskd_tf.report.page.figures import figures_of
from tskd_tf.report.page.html import (
    Pngs,
    data_address,
    framed_table,
    note,
    percent,
    table,
    text,
)
from tskd_tf.report.record import CLASSIFIERS, Confusion, Report
from tskd_tf.report.rows import ClassRow, balanced_row, class_rows, classes_to_show

_MOST_MISTAKES = 10
_SHORT_NAME = 3


def classes_section(
    report: Report,
    figures: Pngs,
    wrong_images: np.ndarray | None,
) -> str:
    """Accuracy by class, the confusion matrix, and images only the student gets wrong.

    Args:
        report: A report, as in `report.json`.
        figures: PNG files by name, for a light and for a dark page.
        wrong_images: uint8, shape `(n, height, width, channels)`, in the order of the
            report's `wrong_images`; or None.
    """
    body = _by_class(report) + _confusion(report, figures)
    if report["wrong_images"] and wrong_images is not None:
        body += _wrong_images(report, wrong_images)
    return f"<h2>By class</h2>\n{body}"


def _by_class(report: Report) -> str:
    """Accuracies by class; of many classes, those that lose most, then all folded."""
    shown, classes = classes_to_show(report), report["classes"]
    rows = [*class_rows(shown, percent), balanced_row(report, percent)]
    caption = "Accuracy on the test images of each class, and their mean"
    if len(shown) == len(classes):
        return _class_table(caption, rows)
    part = f"{caption}: the {len(shown)} of {len(classes)} classes that lose most"
    everything = _class_table(f"{caption}: all classes", class_rows(classes, percent))
    return (
        f"{_class_table(part, rows)}"
        f"<details><summary>All classes</summary>{everything}</details>\n"
    )


def _class_table(caption: str, rows: list[ClassRow]) -> str:
    header = ["class", *CLASSIFIERS, "training images", "test images"]
    cells = [[row.name, *row.accuracies, row.num_train, row.num_test] for row in rows]
    return table(caption, header, cells, "named")


def _confusion(report: Report, pngs: Pngs) -> str:
    matrix = report["confusion"]
    body = "<h3>Confusion matrix</h3>\n"
    if len(matrix["row_names"]) <= MOST_CELLS:
        body += (
            f"{_matrix(matrix, 'student')}<details><summary>Confusion matrix of the "
            f"teacher</summary>{_matrix(matrix, 'teacher')}</details>\n"
        )
    body += figures_of("classes", report, pngs)
    return body + _mistakes(matrix)


def _matrix(matrix: Confusion, who: Literal["teacher", "student"]) -> str:
    """A table of counts; cells are shaded by share, and right answers have a frame."""
    counts = np.array(matrix[who])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    is_hit = np.eye(*counts.shape) > 0
    most_missed = max(float(shares[~is_hit].max(initial=0.0)), 0.01)
    names = matrix["column_names"]
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    rows = []
    for i, name in enumerate(matrix["row_names"]):
        cells = []
        for j, count in enumerate(counts[i]):
            kind = "hit" if i == j else "miss" if count else "zero"
            shade = shares[i, j] / (1.0 if i == j else most_missed)
            cells.append(
                f'<td class="{kind}" style="--shade:{100 * shade:.0f}%">{count}</td>'
            )
        rows.append(f'<tr><th scope="row">{text(name)}</th>{"".join(cells)}</tr>\n')
    return framed_table(
        f"Test images by their class (rows) and by what the {who} takes them for "
        "(columns); right answers are framed",
        f'<thead><tr><th scope="col">class</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>",
        "matrix spelled" if max(map(len, names)) > _SHORT_NAME else "matrix",
    )


def _mistakes(matrix: Confusion) -> str:
    student, teacher = np.array(matrix["student"]), np.array(matrix["teacher"])
    wrong = np.where(np.eye(*student.shape) > 0, 0, student)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_MISTAKES]
    rows = [
        [
            f"{matrix['row_names'][i]} taken for {matrix['column_names'][j]}",
            f"{student[i, j]:,}",
            f"{teacher[i, j]:,}",
        ]
        for i, j in zip(*np.unravel_index(order, wrong.shape))
        if wrong[i, j]
    ]
    if not rows:
        return note("The student gets every test image right.")
    caption = "The student's most frequent mistakes, in test images"
    return table(caption, ["mistake", "student", "teacher"], rows, "named")


def _wrong_images(report: Report, images: np.ndarray) -> str:
    items = []
    for wrong, image in zip(report["wrong_images"], images):
        words = (
            f"{wrong['class_name']} taken for {wrong['student_prediction']}, "
            f"{_sure(wrong['student_probability'])} sure"
        )
        source = data_address(png_bytes(as_picture(image)))
        items.append(
            f'<li><img alt="{text(words)}" src="{source}">'
            f"<span>{text(words)}</span></li>\n"
        )
    num_shown, num_wrong = len(items), report["num_only_teacher_correct"]
    which = "All" if num_shown == num_wrong else f"{num_shown} of the"
    return (
        "<h3>Images that the student gets wrong and the teacher right</h3>\n"
        + note(f"{which} {num_wrong} images, those of the highest probability first.")
        + f'<ul class="pictures">{"".join(items)}</ul>\n'
    )


def _sure(probability: float) -> str:
    whole = percent(probability, 0)
    return f"over {percent(0.99, 0)}" if probability > 0.995 else whole
