"""The types of the records in `report.json`, described by `report_schema_2.json`.

Accuracies, losses and probabilities are fractions, not percentages.
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
        class_ids: Class ids of the data set, in the task's order; at least two.
        class_names: Names of these classes.
        head: `"full"` or `"task"`.
        output_names: Class names of the student's outputs, in order.
    """

    class_ids: list[int]
    class_names: list[str]
    head: str
    output_names: list[str]


class DataRecord(TypedDict):
    """The images of the task's classes.

    Keys:
        source: Name or path of the data; only in command-line runs.
        num_train: Number of training images, ≥ 1.
        num_validation: Number of validation images, ≥ 1.
        num_test: Number of test images, ≥ 1.
    """

    source: NotRequired[str]
    num_train: int
    num_validation: int
    num_test: int


class Spending(TypedDict):
    """A budget, in its own unit.

    Keys:
        limit: Largest allowed cost, > 0.
        student: Cost of the student, > 0.
    """

    limit: float
    student: float


class Costs(TypedDict):
    """Costs of a network.

    Keys:
        num_params: Number of parameters, ≥ 1.
        num_macs: Multiply-adds of one inference on one image, ≥ 1.
        paper_cost: Number of kernel weights, Eq. 1 and 2 of Shi et al. 2017, ≥ 0.
        size_bytes: Bytes of its float32 weights, ≥ 1.
    """

    num_params: int
    num_macs: int
    paper_cost: int
    size_bytes: int


class Kind(TypedDict):
    """Kind of a student, as far as it differs from the default.

    Keys:
        family: Family, as in `Recipe`; absent for thin students.
        convolutions: Kind of convolutions, as in `Recipe`; absent for plain ones.
        groups: Number of groups of grouped convolutions, ≥ 1.
        method: The method of distillation; absent for Eq. 8.
    """

    family: NotRequired[str]
    convolutions: NotRequired[str]
    groups: NotRequired[int]
    method: NotRequired[str]


class TeacherResult(Costs):
    """Results of the teacher on the task's test images.

    Keys:
        accuracy: Accuracy with the arg-max over the outputs of the task's head, in
            [0, 1].
        accuracy_all_outputs: Accuracy with the arg-max over all its outputs.
        accuracy_task_outputs: Accuracy with the arg-max over the outputs of the task's
            classes.
        balanced_accuracy: Mean of the accuracies by class.
        curve: Learning curve; None for a teacher from a file.
    """

    accuracy: float
    accuracy_all_outputs: float
    accuracy_task_outputs: float
    balanced_accuracy: float
    curve: Curve | None


class StudentResult(Costs, Kind):
    """Results of the chosen student on the task's test images.

    Keys:
        rate: Width rate, above 0; at most 1 for thin students.
        widths: Filters or units of its layers, head included.
        accuracy: Accuracy, in [0, 1].
        balanced_accuracy: Mean of the accuracies by class.
        curve: Learning curve of the training that gave its weights.
    """

    rate: float
    widths: list[int]
    accuracy: float
    balanced_accuracy: float
    curve: Curve


class ControlResult(TypedDict):
    """Results of the student's network trained on hard labels only.

    Keys:
        accuracy: Accuracy on the task's test images, in [0, 1].
        balanced_accuracy: Mean of the accuracies by class.
        curve: Learning curve.
    """

    accuracy: float
    balanced_accuracy: float
    curve: Curve


class ClassResult(TypedDict):
    """Results for one class of the task.

    Keys:
        class_id: Class id of the data set.
        class_name: Name of the class.
        num_train: Number of its training images, ≥ 1.
        num_test: Number of its test images, ≥ 1.
        teacher_accuracy: Teacher's accuracy on these test images, in [0, 1].
        student_accuracy: Student's accuracy on these test images, in [0, 1].
        control_accuracy: Control's accuracy on these test images, in [0, 1].
    """

    class_id: int
    class_name: str
    num_train: int
    num_test: int
    teacher_accuracy: float
    student_accuracy: float
    control_accuracy: float


class Confusion(TypedDict):
    """Confusion matrices on the task's test images, as counts.

    Keys:
        row_names: Names of the task's classes, in the task's order.
        column_names: The row names, and `"another class"` if there are further outputs.
        teacher: Teacher's counts: one row per true class, one column per answer.
        student: Student's counts: one row per true class, one column per answer.
    """

    row_names: list[str]
    column_names: list[str]
    teacher: list[list[int]]
    student: list[list[int]]


class WrongImage(TypedDict):
    """A test image that the student gets wrong and the teacher right.

    Keys:
        index: Position among the task's test images.
        class_name: Name of its true class.
        student_prediction: Name of the class that the student predicts.
        student_probability: The student's softmax probability of it, in [0, 1].
    """

    index: int
    class_name: str
    student_prediction: str
    student_probability: float


class TrialRow(TypedDict):
    """One student of the search; the keys are the fields of `search.evidence.Trial`.

    Keys:
        family: Family, as in `Recipe`; absent for thin students and the user's own.
        rate: Width rate, above 0; at most 1 for thin students.
        widths: Filters or units of its layers, head included.
        num_macs: Multiply-adds of one inference on one image, ≥ 1.
        num_params: Number of parameters, ≥ 1; earlier reports lack it.
        accuracy: Accuracy on the task's validation images, in [0, 1].
        feasible: Whether this accuracy meets Eq. 4.
        epochs: Number of epochs trained, ≥ 1.
        seconds: Wall-clock time, in seconds.
        seed: Seed of initial weights and of the order of examples.
        curve: Learning curve of the training whose student is kept.
    """

    family: NotRequired[str]
    rate: float
    widths: list[int]
    num_macs: int
    num_params: NotRequired[int]
    accuracy: float
    feasible: bool
    epochs: int
    seconds: float
    seed: int
    curve: Curve


class SearchRecord(TypedDict):
    """The search for the width, on the task's validation images.

    Keys:
        seconds: Sum of the wall-clock times of all trials, in seconds.
        validation_teacher_accuracy: Teacher's accuracy, in [0, 1].
        validation_floor: Smallest accuracy that meets Eq. 4, in [-1, 1].
        num_over_budget: Number of candidates that exceed a budget.
        trials: All trials in the order in which they ended, at least one.
    """

    seconds: float
    validation_teacher_accuracy: float
    validation_floor: float
    num_over_budget: int
    trials: list[TrialRow]


class RefinementStep(TypedDict):
    """One step of a refinement: channels removed, then a short training.

    Keys:
        num_removed: Number of sets of tied channels that the step removes; 0 in the
            last step, which trains the student to the end.
        num_macs: Multiply-adds of the student without them, for one image, ≥ 1.
        num_params: Number of its parameters, ≥ 1.
        accuracy: Its accuracy on the task's validation images, in [0, 1]; 0 if the
            training diverged.
        is_kept: Whether the accuracy meets Eq. 4; in the last step, whether it is not
            lower than before. Other steps are undone.
        seconds: Wall-clock time, in seconds.
    """

    num_removed: int
    num_macs: int
    num_params: int
    accuracy: float
    is_kept: bool
    seconds: float


class Refinement(TypedDict):
    """The removal of channels from the student that the search chose.

    Keys:
        num_macs: Multiply-adds of the student before, for one image, ≥ 1.
        num_params: Number of its parameters, ≥ 1.
        max_seconds: Time after which no step begins, in seconds.
        steps: All steps, in order.
    """

    num_macs: int
    num_params: int
    max_seconds: float
    steps: list[RefinementStep]


class Environment(TypedDict):
    """Device, precision and versions of a run.

    Keys:
        precision: Keras dtype policy of the training.
        precision_reason: Reason for this policy; may be empty.
        device: Name of the device.
        num_replicas: Number of devices that share each batch, ≥ 1.
        jit_compile: Whether XLA compiled the training.
        seed: Seed of the run.
        versions: Versions of Python and of packages, by name.
    """

    precision: str
    precision_reason: str
    device: str
    num_replicas: int
    jit_compile: bool
    seed: int
    versions: dict[str, str]


class Seconds(TypedDict):
    """Wall-clock time by stage, in seconds.

    Keys:
        data: Loading the data, and checks.
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

    Only command-line runs have the keys that are not required.

    Keys:
        schema_version: `SCHEMA_VERSION`.
        task: The task θ.
        data: The images of θ.
        max_accuracy_loss: Tacc_loss of Eq. 4, in [0, 1].
        budgets: The budgets that were set, by name, a field of `choices.Budgets`.
        teacher: Results of the teacher on the test images.
        student: Results of the student on the test images.
        accuracy_loss: Teacher's accuracy minus the student's, in [-1, 1].
        accuracy_loss_interval: Low and high end of the interval of `accuracy_loss`.
        accuracy_loss_interval_method: Method of that interval.
        confidence: Confidence level of the intervals, in (0, 1).
        num_only_teacher_correct: Number of test images that only the teacher gets
            right.
        num_only_student_correct: Number of test images that only the student gets
            right.
        smallest_certifiable_loss: High end of the interval if teacher and student
            agreed on all test images.
        meets_threshold: Whether the loss is at most the allowed one (Eq. 4).
        certified: Whether the interval excludes a larger loss than allowed.
        control: Results of the control on the test images.
        classes: Results by class, in the task's order.
        confusion: Confusion matrices on the test images.
        wrong_images: At most 24 test images that only the student gets wrong, by
            descending probability.
        search: The search for the width.
        refinement: The refinement of the student; absent without one. The student's
            rate and curve, and the control, are of the student before it.
        exports: One row per exported file, at least one.
        labels: Name of the file with the names of the outputs.
        environment: Device, precision and versions of the run.
        command: The command line that repeats the run.
        seconds: Wall-clock time by stage.
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
    refinement: NotRequired[Refinement]
    exports: NotRequired[list[ExportRow]]
    labels: NotRequired[str]
    environment: NotRequired[Environment]
    command: NotRequired[str]
    seconds: NotRequired[Seconds]
