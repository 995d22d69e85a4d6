"""A sweep as it stands in `sweep.json`."""

from typing import NotRequired, TypedDict

from tskd_tf.report.record import Environment

SCHEMA_VERSION = 1


class Counts(TypedDict):
    """Images that a classifier gets right, of a task's test images.

    Keys:
        num_classes: k of the task, the classes 0 to k − 1.
        num_right: By arg-max over all of its outputs.
        num_right_of_task: By arg-max over the task's outputs.
    """

    num_classes: int
    num_right: int
    num_right_of_task: int


class TeacherRow(Counts):
    """The teacher on a task.

    Keys:
        num_test: The task's test images, ≥ 1.
    """

    num_test: int


class StudentRow(Counts):
    """One student; the keys are the fields of `students.SweptStudent`.

    Keys:
        rate: Of its width, in (0, 1].
        seed: Of its weights and order.
        method: `"distilled"` or `"hard_labels"`.
        widths: Of its layers, head included.
        num_params: Parameters.
        num_macs: Multiply-adds of an inference.
        epochs: Trained.
        seconds: Wall clock.
    """

    rate: float
    seed: int
    method: str
    widths: list[int]
    num_params: int
    num_macs: int
    epochs: int
    seconds: float


class SweepData(TypedDict):
    """The data of a sweep.

    Keys:
        source: Where they come from.
        num_train: Training images of all classes.
    """

    source: str
    num_train: int


class SweepTeacher(TypedDict):
    """The teacher of a sweep.

    Keys:
        name: Of its model.
        num_params: Parameters.
        num_macs: Multiply-adds of an inference.
        tasks: A row a task.
    """

    name: str
    num_params: int
    num_macs: int
    tasks: list[TeacherRow]


class SweepSeconds(TypedDict):
    """Wall clock, in seconds.

    Keys:
        this_run: Of the run that ended the sweep.
        students: Of all trainings, added up.
    """

    this_run: float
    students: float


class Sweep(TypedDict):
    """A finished sweep; early versions did not write what is not required.

    Keys:
        schema_version: `SCHEMA_VERSION`.
        protocol: As in --protocol.
        data: The data.
        head: Of the tasks, `"full"` or `"task"`.
        method: As in --method; Eq. 8 where it is absent.
        temperature: τ.
        soft_loss_weight: Of Eq. 8, in [0, 1].
        scale_soft_loss: Whether the soft loss is multiplied by τ².
        convolutions: Of the students.
        groups: Of grouped convolutions, or None.
        confidence: Of the intervals, in (0, 1).
        normalized_accuracies: Shares of the teacher's accuracy, each in (0, 1].
        teacher: Its costs, and a row a task.
        students: A row a student.
        environment: Where and how it ran.
        command: The command line that repeats it.
        seconds: Wall clock.
    """

    schema_version: int
    protocol: str
    data: SweepData
    head: str
    method: NotRequired[str]
    temperature: float
    soft_loss_weight: float
    scale_soft_loss: NotRequired[bool]
    convolutions: NotRequired[str]
    groups: NotRequired[int | None]
    confidence: float
    normalized_accuracies: list[float]
    teacher: SweepTeacher
    students: list[StudentRow]
    environment: Environment
    command: str
    seconds: SweepSeconds
