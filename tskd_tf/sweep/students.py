"""The paper's experiment: students at several rates on tasks of several sizes.

Shi et al. 2017, section 4, train students on the tasks θ2 ⊂ θ3 ⊂ … ⊂ D, where θk has
the classes 0 to k − 1. Each rate and task has a student distilled by Eq. 8, and one
trained on hard labels only. The paper trains each once; here, once per seed.
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
        num_classes: Number of classes k of its task, the classes 0 to k − 1.
        rate: Width rate, in (0, 1].
        seed: Seed of initial weights and of the order of images.
        method: `"distilled"` or `"hard_labels"`.
    """

    num_classes: int
    rate: float
    seed: int
    method: str

    @property
    def name(self) -> str:
        """Name of the student's file, without its suffix."""
        method, rate = self.method, f"{self.rate:g}"
        return f"{self.num_classes:03d}_classes_rate_{rate}_seed_{self.seed}_{method}"


class SweptStudent(NamedTuple):
    """A trained student of a sweep, with its results on the task's test images.

    Attributes:
        num_classes: Number of classes k of its task, the classes 0 to k − 1.
        rate: Width rate, in (0, 1].
        seed: Seed of initial weights and of the order of images.
        method: `"distilled"` or `"hard_labels"`.
        widths: Filters or units of its layers, head included.
        num_params: Number of parameters.
        num_macs: Multiply-adds of one inference on one image.
        num_right: Test images right with the arg-max over all outputs.
        num_right_of_task: Test images right with the arg-max over the task's outputs.
        epochs: Number of epochs trained.
        seconds: Wall-clock time of the training, in seconds.
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
    """Data and settings of all trainings of a sweep.

    Attributes:
        teacher: The trained teacher; some methods run it while training.
        soft_targets: Training images of all classes, with all logits of the teacher.
        validation: Validation images of all classes, only for learning curves.
        test: Test images of all classes.
        recipe: Recipe of all students.
        head: Head of the tasks, `"full"` or `"task"`.
        class_names: Class names of the data set.
    """

    teacher: keras.Model
    soft_targets: TransferSet
    validation: Split
    test: Split
    recipe: Recipe
    head: str
    class_names: list[str]

    def task(self, num_classes: int) -> Task:
        """The task θk with the classes 0 to k − 1, where k is `num_classes`."""
        return Task(range(num_classes), head=self.head, class_names=self.class_names)

    def images(self) -> dict[str, Any]:
        """The images of all splits, by name."""
        return {
            "train": self.soft_targets.images,
            "validation": self.validation.images,
            "test": self.test.images,
        }

    def with_images(self, images: dict[str, Any]) -> "Materials":
        """A copy with other images, in the form of `images`."""
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
    """All students of a sweep, ordered so that an interrupted sweep is still useful.

    The order is by seed, then number of classes, then rate. The distilled student and
    that on hard labels follow each other.

    Args:
        task_sizes: Numbers of classes of the tasks.
        rates: Width rates, each in (0, 1].
        seeds: Seeds, each ≥ 0.
    """
    return [
        Cell(num_classes, rate, seed, method)
        for seed in seeds
        for num_classes in sorted(task_sizes)
        for rate in sorted(rates)
        for method in (DISTILLED, HARD_LABELS)
    ]


def count_right(logits: np.ndarray, labels: np.ndarray, task: Task) -> tuple[int, int]:
    """Numbers of images right with the arg-max over all outputs, and over the task's.

    Args:
        logits: Logits of the student, shape `(n, task.num_outputs)`.
        labels: Integers of shape `(n,)`, in the student's label space.
        task: θ.
    """
    of_task = task.to_labels(np.asarray(task.class_ids))
    among_task = of_task[logits[:, of_task].argmax(axis=-1)]
    all_right = int(is_correct(logits, labels).sum())
    return all_right, int((among_task == labels).sum())


def teacher_rows(materials: Materials, task_sizes: Sequence[int]) -> list[TeacherRow]:
    """Results of the teacher on each task: test images, and how many are right."""
    logits = predict_logits(materials.teacher, materials.test.images)
    rows: list[TeacherRow] = []
    for num_classes in sorted(task_sizes):
        # The teacher has the full head, even if students have the task's
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
    """Trains cells in sequence in this process.

    Args:
        cells: The cells to train.
        materials: Data and settings of all trainings.
        folder: Folder of the students.

    Yields:
        The students in order, each after its file is written.
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
    """Trains the students that the folder lacks; each is written when it ends.

    Args:
        cells: All cells of the sweep.
        folder: Folder of the students, one file per student.
        materials: Data and settings of all trainings.
        on_end: Called with each student, and whether an earlier run trained it.
        train: Trains the remaining cells, here or in other processes. Default: here.

    Returns:
        All students, in the order of the cells.

    Raises:
        InputError: If a student's file is damaged.
        WorkerError: If a worker failed or was killed.
    """
    found: dict[Cell, SweptStudent] = {}
    for cell in cells:
        path = folder / f"{cell.name}.json"
        if path.exists():
            found[cell] = read_student(path, cell)
            on_end(found[cell], True)
    todo = [cell for cell in cells if cell not in found]
    # The generator is always closed, so that all processes end
    with contextlib.closing(train(todo, materials, folder)) as trained:
        for student in trained:
            found[Cell(*student[:4])] = student
            on_end(student, False)
    return [found[cell] for cell in cells]


def keep_student(student: SweptStudent, folder: pathlib.Path) -> None:
    """Writes a student's file, atomically."""
    cell = Cell(*student[:4])
    write_json(folder / f"{cell.name}.json", student._asdict())


def read_student(path: pathlib.Path, cell: Cell) -> SweptStudent:
    """Reads a student's file.

    Raises:
        InputError: If the file is damaged, or of another cell.
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
