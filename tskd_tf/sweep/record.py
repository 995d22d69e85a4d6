"""The types of the records in `sweep.json`."""

from typing import NotRequired, TypedDict

from tskd_tf.report.record import Environment

SCHEMA_VERSION = 1


class Counts(TypedDict):
    """Numbers of a task's test images that a classifier gets right.

    Keys:
        num_classes: Number of classes k of the task, the classes 0 to k − 1.
        num_right: Images right with the arg-max over all outputs.
        num_right_of_task: Images right with the arg-max over the task's outputs.
    """

    num_classes: int
    num_right: int
    num_right_of_task: int


class TeacherRow(Counts):
    """Results of the teacher on a task.

    Keys:
        num_test: Number of the task's test images, ≥ 1.
    """

    num_test: int


class StudentRow(Counts):
    """One student; the keys are the fields of `students.SweptStudent`.

    Keys:
        rate: Width rate, in (0, 1].
        seed: Seed of initial weights and of the order of images.
        method: `"distilled"` or `"hard_labels"`.
        widths: Filters or units of its layers, head included.
        num_params: Number of parameters.
        num_macs: Multiply-adds of one inference on one image.
        epochs: Number of epochs trained.
        seconds: Wall-clock time of the training, in seconds.
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
        source: Name or path of the data.
        num_train: Number of training images of all classes.
    """

    source: str
    num_train: int


class SweepTeacher(TypedDict):
    """The teacher of a sweep.

    Keys:
        name: Name of the model.
        num_params: Number of parameters.
        num_macs: Multiply-adds of one inference on one image.
        tasks: One row per task.
    """

    name: str
    num_params: int
    num_macs: int
    tasks: list[TeacherRow]


class SweepSeconds(TypedDict):
    """Wall-clock times, in seconds.

    Keys:
        this_run: Time of the run that finished the sweep.
        students: Sum of the times of all trainings.
    """

    this_run: float
    students: float


class Sweep(TypedDict):
    """A finished sweep; early versions did not write the keys that are not required.

    Keys:
        schema_version: `SCHEMA_VERSION`.
        protocol: Value of --protocol.
        data: The data.
        head: Head of the tasks, `"full"` or `"task"`.
        method: Value of --method; if absent, distillation by Eq. 8.
        temperature: Temperature τ of the soft targets.
        soft_loss_weight: Weight λ of the soft loss in Eq. 8, in [0, 1].
        scale_soft_loss: Whether the soft loss is multiplied by τ².
        family: Family of the students, as in `Recipe`; thin in earlier records.
        convolutions: Kind of the students' convolutions.
        groups: Number of groups of grouped convolutions, or None.
        confidence: Confidence level of the intervals, in (0, 1).
        normalized_accuracies: Shares of the teacher's accuracy, each in (0, 1].
        teacher: Costs of the teacher, and its results by task.
        students: One row per student.
        environment: Device, precision and versions of the run.
        command: The command line that repeats the sweep.
        seconds: Wall-clock times.
    """

    schema_version: int
    protocol: str
    data: SweepData
    head: str
    method: NotRequired[str]
    temperature: float
    soft_loss_weight: float
    scale_soft_loss: NotRequired[bool]
    family: NotRequired[str]
    convolutions: NotRequired[str]
    groups: NotRequired[int | None]
    confidence: float
    normalized_accuracies: list[float]
    teacher: SweepTeacher
    students: list[StudentRow]
    environment: Environment
    command: str
    seconds: SweepSeconds
