"""The paper's experiment: students of many rates on tasks of more and more classes.

Shi et al. 2017, section 4: tasks θ2 ⊂ θ3 ⊂ … ⊂ D of the classes 0 to k − 1, widths by
rate, each student distilled by Eq. 8; besides, the same students on hard labels only.
The paper has one training each; here there is one for each seed.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe, student_builder
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.distillation.training import train_student
from tskd_tf.errors import InputError
from tskd_tf.files import read_json, write_json
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.evaluate import is_correct, predict_logits
from tskd_tf.networks.width import layer_widths
from tskd_tf.sweep.record import TeacherRow

DISTILLED, HARD_LABELS = "distilled", "hard_labels"


class Cell(NamedTuple):
    """One student of a sweep.

    Attributes:
        num_classes: k of its task, the classes 0 to k − 1.
        rate: Of its width.
        seed: Of its weights and order.
        method: `"distilled"` or `"hard_labels"`.
    """

    num_classes: int
    rate: float
    seed: int
    method: str

    @property
    def name(self) -> str:
        """Of its file."""
        method, rate = self.method, f"{self.rate:g}"
        return f"{self.num_classes:03d}_classes_rate_{rate}_seed_{self.seed}_{method}"


class SweptStudent(NamedTuple):
    """What became of a cell: counts on the task's test images.

    Attributes:
        num_classes: k of its task, the classes 0 to k − 1.
        rate: Its width rate, in (0, 1].
        seed: The seed of its weights and of the order of images.
        method: `"distilled"` or `"hard_labels"`.
        widths: The widths of its layers, head included.
        num_params: Its parameters.
        num_macs: Multiply-adds of one inference.
        num_right: Test images right, by arg-max over its outputs.
        num_right_of_task: The same, over the task's outputs only.
        epochs: Trained.
        seconds: Wall clock.
    """

    num_classes: int
    rate: float
    seed: int
    method: str
    widths: list[int]
    num_params: int
    num_macs: int
    num_right: int
    num_right_of_task: int
    epochs: int
    seconds: float


class Materials(NamedTuple):
    """What every training of a sweep needs.

    Attributes:
        teacher: Gives the architecture and, for a live teacher, logits.
        soft_targets: Of all classes, with the teacher's logits for all.
        validation: All classes; watched only.
        test: All classes.
        recipe: Of all students.
        head: Of the tasks.
        class_names: Of the data set.
    """

    teacher: keras.Model
    soft_targets: TransferSet
    validation: Split
    test: Split
    recipe: Recipe
    head: str
    class_names: list[str]

    def task(self, num_classes: int) -> Task:
        """θk, the classes 0 to k − 1."""
        return Task(range(num_classes), head=self.head, class_names=self.class_names)

    def images(self) -> dict[str, Any]:
        """The images of all splits, by name."""
        return {
            "train": self.soft_targets.images,
            "validation": self.validation.images,
            "test": self.test.images,
        }

    def with_images(self, images: dict[str, Any]) -> "Materials":
        """The same with other images; see `images`."""
        return self._replace(
            soft_targets=self.soft_targets._replace(images=images["train"]),
            validation=self.validation._replace(images=images["validation"]),
            test=self.test._replace(images=images["test"]),
        )

    def train(self, cell: Cell) -> SweptStudent:
        """Trains and tests a student."""
        task = self.task(cell.num_classes)
        is_distilled = cell.method == DISTILLED
        recipe = self.recipe if is_distilled else self.recipe.on_hard_labels()
        recipe = dataclasses.replace(recipe, seed=cell.seed)
        transfer = self.soft_targets.for_task(task)
        trained = train_student(
            self.teacher,
            cell.rate,
            transfer,
            Split(*task.filter(tuple(self.validation))),
            task,
            recipe,
            verbose=0,
            build_student=student_builder(self.teacher, transfer, task, recipe),
        )
        images, labels = task.filter(tuple(self.test))
        num_right, num_right_of_task = count_right(
            predict_logits(trained.student, images), labels, task
        )
        cost = complexity(trained.student)
        return SweptStudent(
            *cell,
            layer_widths(trained.student),
            cost.num_params,
            cost.num_macs,
            num_right,
            num_right_of_task,
            trained.epochs,
            trained.seconds,
        )


def plan_cells(
    task_sizes: Sequence[int], rates: Sequence[float], seeds: Sequence[int]
) -> list[Cell]:
    """All students, in an order that leaves whole experiments behind when cut short.

    Seed by seed; in a seed the smaller tasks first, distilled beside hard labels.

    Args:
        task_sizes: Numbers of classes.
        rates: Each in (0, 1].
        seeds: From 0 on.
    """
    return [
        Cell(num_classes, rate, seed, method)
        for seed in seeds
        for num_classes in sorted(task_sizes)
        for rate in sorted(rates)
        for method in (DISTILLED, HARD_LABELS)
    ]


def count_right(logits: np.ndarray, labels: np.ndarray, task: Task) -> tuple[int, int]:
    """Images right by arg-max over all of a student's outputs, and over the task's.

    Args:
        logits: Shape `(n, task.num_outputs)`.
        labels: Shape `(n,)`, in the student's label space.
        task: θ.
    """
    of_task = task.to_labels(np.asarray(task.class_ids))
    among_task = of_task[logits[:, of_task].argmax(axis=-1)]
    all_right = int(is_correct(logits, labels).sum())
    return all_right, int((among_task == labels).sum())


def teacher_rows(materials: Materials, task_sizes: Sequence[int]) -> list[TeacherRow]:
    """The teacher on each task: test images, and how many it gets right."""
    logits = predict_logits(materials.teacher, materials.test.images)
    rows: list[TeacherRow] = []
    for num_classes in sorted(task_sizes):
        # Its own head is the full one, whatever the students'
        task = Task(range(num_classes), class_names=materials.class_names)
        chosen = task.indices(materials.test.class_ids)
        labels = task.to_labels(materials.test.class_ids[chosen])
        num_right, num_right_of_task = count_right(logits[chosen], labels, task)
        rows.append(
            {
                "num_classes": num_classes,
                "num_test": len(chosen),
                "num_right": num_right,
                "num_right_of_task": num_right_of_task,
            }
        )
    return rows


def train_here(
    cells: Sequence[Cell], materials: Materials, folder: pathlib.Path
) -> Generator[SweptStudent, None, None]:
    """Trains cells one after the other in this process.

    Args:
        cells: Those to train.
        materials: Of all trainings.
        folder: Of the students.

    Yields:
        The students as they end; each is in its file then.
    """
    for cell in cells:
        student = materials.train(cell)
        keep_student(student, folder)
        yield student


def run_cells(
    cells: Sequence[Cell],
    folder: pathlib.Path,
    materials: Materials,
    on_end: Callable[[SweptStudent, bool], None],
    train: Callable[..., Generator[SweptStudent, None, None]] = train_here,
) -> list[SweptStudent]:
    """Trains what is not in the folder yet, and stores each student as it ends.

    Args:
        cells: All of the sweep.
        folder: A file a student.
        materials: Of all trainings.
        on_end: Called with each student, and whether it was trained by an earlier run.
        train: Trains what is left to train, here or by other processes.

    Returns:
        All students, in the order of the cells.

    Raises:
        InputError: If a stored student is damaged.
        WorkerError: If a worker was killed, or failed.
    """
    found: dict[Cell, SweptStudent] = {}
    for cell in cells:
        path = folder / f"{cell.name}.json"
        if path.exists():
            found[cell] = read_student(path, cell)
            on_end(found[cell], True)
    todo = [cell for cell in cells if cell not in found]
    # Closed however the block ends, so that no process is left behind
    with contextlib.closing(train(todo, materials, folder)) as trained:
        for student in trained:
            found[Cell(*student[:4])] = student
            on_end(student, False)
    return [found[cell] for cell in cells]


def keep_student(student: SweptStudent, folder: pathlib.Path) -> None:
    """Writes a student's file, all or nothing."""
    cell = Cell(*student[:4])
    write_json(folder / f"{cell.name}.json", student._asdict())


def read_student(path: pathlib.Path, cell: Cell) -> SweptStudent:
    """Reads a student's file.

    Raises:
        InputError: If it is damaged, or of another cell.
    """
    stored = read_json(path)
    if not isinstance(stored, dict) or set(stored) != set(SweptStudent._fields):
        raise InputError(
            f"Expected {path} to be a student of a sweep. Received: another file; "
            "delete it to train that student again"
        )
    student = SweptStudent(**stored)
    if Cell(*student[:4]) != cell:
        raise InputError(
            f"Expected {path} to be of {cell}. Received: {Cell(*student[:4])}"
        )
    return student
