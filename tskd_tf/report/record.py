"""The report as it stands in `report.json`, described by `report_schema_2.json`.

Accuracies, losses and probabilities are fractions, not percent.
"""

from typing import Literal, NotRequired, TypedDict

from tskd_tf.distillation.curves import Curve
from tskd_tf.export.record import ExportRow

SCHEMA_VERSION = 2

Classifier = Literal["teacher", "student", "control"]
CLASSIFIERS: tuple[Classifier, ...] = ("teacher", "student", "control")
CostName = Literal["num_params", "num_macs", "size_bytes"]


class TaskRecord(TypedDict):
    """θ, the classes of interest.

    Keys:
        class_ids: In the data set's numbering, in the task's order; at least two.
        class_names: Of these classes.
        head: `"full"` or `"task"`.
        output_names: Classes of the student's outputs, in their order.
    """

    class_ids: list[int]
    class_names: list[str]
    head: str
    output_names: list[str]


class DataRecord(TypedDict):
    """The images of the task's classes.

    Keys:
        source: Where they come from; only a run of the command line knows it.
        num_train: Training images, ≥ 1.
        num_validation: Validation images, ≥ 1.
        num_test: Test images, ≥ 1.
    """

    source: NotRequired[str]
    num_train: int
    num_validation: int
    num_test: int


class Spending(TypedDict):
    """A budget, in its own unit.

    Keys:
        limit: What the student may cost, > 0.
        student: What it costs, > 0.
    """

    limit: float
    student: float


class Costs(TypedDict):
    """What a network costs.

    Keys:
        num_params: Parameters, ≥ 1.
        num_macs: Multiply-adds of one inference, ≥ 1.
        paper_cost: Eq. 1 and 2 of Shi et al. 2017, ≥ 0.
        size_bytes: Bytes of its float32 weights, ≥ 1.
    """

    num_params: int
    num_macs: int
    paper_cost: int
    size_bytes: int


class Kind(TypedDict):
    """What a student is, where it is not what students usually are.

    Keys:
        family: As in `Recipe`; absent for thin students.
        convolutions: As in `Recipe`; absent for plain ones.
        groups: Of grouped convolutions, ≥ 1.
        method: The method of distillation; absent for Eq. 8.
    """

    family: NotRequired[str]
    convolutions: NotRequired[str]
    groups: NotRequired[int]
    method: NotRequired[str]


class TeacherResult(Costs):
    """The teacher, on the task's test images.

    Keys:
        accuracy: Arg-max over the outputs of the task's head, in [0, 1].
        accuracy_all_outputs: Arg-max over all its outputs.
        accuracy_task_outputs: Arg-max over the task's outputs.
        balanced_accuracy: Mean of the accuracies by class.
        curve: Of its training; None where it came from a file.
    """

    accuracy: float
    accuracy_all_outputs: float
    accuracy_task_outputs: float
    balanced_accuracy: float
    curve: Curve | None


class StudentResult(Costs, Kind):
    """The student that is handed over, on the task's test images.

    Keys:
        rate: Of its width, in (0, 1].
        widths: Of its layers, head included.
        accuracy: In [0, 1].
        balanced_accuracy: Mean of the accuracies by class.
        curve: Of the training whose weights it has.
    """

    rate: float
    widths: list[int]
    accuracy: float
    balanced_accuracy: float
    curve: Curve


class ControlResult(TypedDict):
    """The student's network trained on hard labels only.

    Keys:
        accuracy: On the task's test images, in [0, 1].
        balanced_accuracy: Mean of the accuracies by class.
        curve: Of its training.
    """

    accuracy: float
    balanced_accuracy: float
    curve: Curve


class ClassResult(TypedDict):
    """One class of the task.

    Keys:
        class_id: In the data set's numbering.
        class_name: Its name.
        num_train: Its training images, ≥ 1.
        num_test: Its test images, ≥ 1.
        teacher_accuracy: Share of these that the teacher gets right, in [0, 1].
        student_accuracy: The same share of the student.
        control_accuracy: The same share of the control.
    """

    class_id: int
    class_name: str
    num_train: int
    num_test: int
    teacher_accuracy: float
    student_accuracy: float
    control_accuracy: float


class Confusion(TypedDict):
    """What the task's test images are taken for, as counts.

    Keys:
        row_names: The task's classes, in its order.
        column_names: The same and, where there are further outputs, `"another class"`.
        teacher: A row a class, a column an answer.
        student: A row a class, a column an answer.
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


class TrialRow(TypedDict):
    """One student of the search; the keys are the fields of `search.evidence.Trial`.

    Keys:
        rate: Of its width, in (0, 1].
        widths: Of its layers, head included.
        num_macs: Multiply-adds of one inference, ≥ 1.
        accuracy: On the task's validation images, in [0, 1].
        feasible: Whether that is enough for Eq. 4.
        epochs: Trained, ≥ 1.
        seconds: Wall clock.
        seed: Of initial weights and order of examples.
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


class SearchRecord(TypedDict):
    """How the width was found, on the task's validation images.

    Keys:
        seconds: Wall clock of all trials, added up.
        validation_teacher_accuracy: In [0, 1].
        validation_floor: The least accuracy that Eq. 4 allows, in [-1, 1].
        num_over_budget: Candidates that do not fit the budgets.
        trials: As they ended, at least one.
    """

    seconds: float
    validation_teacher_accuracy: float
    validation_floor: float
    num_over_budget: int
    trials: list[TrialRow]


class Environment(TypedDict):
    """Where and how a run trained.

    Keys:
        precision: Keras dtype policy.
        precision_reason: Why this one; may be empty.
        device: Its name.
        num_replicas: Devices that share each batch, ≥ 1.
        jit_compile: Whether XLA compiled the training.
        seed: Of the run.
        versions: Of Python and of packages, by name.
    """

    precision: str
    precision_reason: str
    device: str
    num_replicas: int
    jit_compile: bool
    seed: int
    versions: dict[str, str]


class Seconds(TypedDict):
    """Wall clock by stage, in seconds.

    Keys:
        data: Data and checks.
        teacher: Training the teacher.
        search: Soft targets, trials, control and test.
        exports: Writing and measuring the files.
    """

    data: float
    teacher: float
    search: float
    exports: float


class Report(TypedDict):
    """The evidence of a run.

    The keys that are not required are those of a run of the command line.

    Keys:
        schema_version: `SCHEMA_VERSION`.
        task: θ.
        data: The images of θ.
        max_accuracy_loss: Tacc_loss of Eq. 4, in [0, 1].
        budgets: By name, a field of `search.budgets.Budgets`, those that were set.
        teacher: On the test images.
        student: On the test images.
        accuracy_loss: The teacher's accuracy less the student's, in [-1, 1].
        accuracy_loss_interval: Low and high end of its interval.
        accuracy_loss_interval_method: Of that interval.
        confidence: Of the intervals, in (0, 1).
        num_only_teacher_correct: Test images that only the teacher gets right.
        num_only_student_correct: Test images that only the student gets right.
        smallest_certifiable_loss: The interval's high end if the two always agreed.
        meets_threshold: Whether the loss is at most the one allowed, Eq. 4.
        certified: Whether the interval rules out a larger loss than allowed.
        control: On the test images.
        classes: In the task's order.
        confusion: What the test images are taken for.
        wrong_images: At most 24, those first of which the student is surest.
        search: How the width was found.
        exports: One a file, at least one.
        labels: The file with the names of the outputs.
        environment: Where and how it ran.
        command: The command line that repeats the run.
        seconds: By stage.
    """

    schema_version: int
    task: TaskRecord
    data: DataRecord
    max_accuracy_loss: float
    budgets: dict[str, Spending]
    teacher: TeacherResult
    student: StudentResult
    accuracy_loss: float
    accuracy_loss_interval: list[float]
    accuracy_loss_interval_method: str
    confidence: float
    num_only_teacher_correct: int
    num_only_student_correct: int
    smallest_certifiable_loss: float
    meets_threshold: bool
    certified: bool
    control: ControlResult
    classes: list[ClassResult]
    confusion: Confusion
    wrong_images: list[WrongImage]
    search: SearchRecord
    exports: NotRequired[list[ExportRow]]
    labels: NotRequired[str]
    environment: NotRequired[Environment]
    command: NotRequired[str]
    seconds: NotRequired[Seconds]
