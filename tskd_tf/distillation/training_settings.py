"""Settings of the training of a teacher and its students, without TensorFlow.

Each field is a setting of `Recipe` and a flag of the command line. To add a setting,
write it here, and use it in the code that it changes.
"""

import dataclasses

from tskd_tf.choices import (
    ABOVE_0,
    ABOVE_0_OR_AUTO,
    ALL_FAMILIES,
    CLASS_WEIGHTS,
    CONVOLUTIONS,
    DISTRIBUTIONS,
    FAMILIES,
    FROM_0_ON,
    FROM_0_TO_1,
    FROM_0_TO_BELOW_1,
    INITIALIZATIONS,
    METHODS,
    PLAIN,
    PRECISIONS,
    SEEDS,
    SOLVERS,
    THIN,
    at_least,
    help_of,
    setting,
)
from tskd_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training that have one form in Python and on the command line.

    A field marked `felt_by_teacher` changes the weights of a trained teacher. A run
    that keeps its teacher must keep the values of these fields.
    """

    method: str = setting(
        "distillation", f"How students learn. {help_of(METHODS)}", METHODS
    )
    hint_share: float = setting(
        0.2,
        "With --method=hint: share of the steps on hints, from 0 to below 1.",
        within=FROM_0_TO_BELOW_1,
    )
    num_students: int = setting(
        4,
        "With --method=online or mutual: number of students trained together, at least "
        "2.",
        within=at_least(2),
    )
    temperature: float = setting(
        3.0, "Temperature tau of the soft loss, above 0.", within=ABOVE_0
    )
    soft_loss_weight: float = setting(
        0.9,
        "Weight lambda of the soft loss in Eq. 8, from 0 to 1. The hard loss has "
        "weight 1 - lambda.",
        within=FROM_0_TO_1,
    )
    scale_soft_loss: bool = setting(
        False,
        "Multiply the soft loss by tau squared, as in Hinton et al. 2015. Eq. 8 does "
        "not.",
    )
    class_weights: str = setting(
        "none",
        "balanced: in training, each class counts the same. The losses of an image of "
        "class c have weight n/(k n_c), for n images, k classes and n_c images of "
        "class c. Accuracy in Eq. 4 is unweighted.",
        CLASS_WEIGHTS,
        felt_by_teacher=True,
    )
    epochs: int | None = setting(
        None,
        "Passes of each student over the transfer set, at least 1. Default: as many "
        "as make 1,500 steps, at least 10.",
        within=at_least(1),
    )
    batch_size: int = setting(
        128,
        "Images per training step, at least 1.",
        within=at_least(1),
        felt_by_teacher=True,
    )
    learning_rate: float | str = setting(
        2e-3,
        "Adam's learning rate at the first step, above 0; it falls to 0 by a cosine. "
        "auto: by the width rate and batch normalisation of the network, with a "
        "warm-up over the first tenth of the steps; Caffe's own with its solvers.",
        within=ABOVE_0_OR_AUTO,
        felt_by_teacher=True,
    )
    solver: str = setting(
        "adam",
        "Optimiser of teacher and students: adam, or the solver of a Caffe example "
        "with its schedule, momentum and weight decay.",
        SOLVERS,
        felt_by_teacher=True,
    )
    precision: str = setting(
        "float32",
        "Precision of training. auto: mixed_float16 on a GPU with tensor cores, "
        "mixed_bfloat16 on a CPU with bfloat16 instructions, else float32. Saved "
        "networks are float32.",
        PRECISIONS,
        felt_by_teacher=True,
    )
    num_views: int = setting(
        8,
        "With --augmentation: number of augmented views of an image whose soft "
        "targets are stored. 0: the teacher runs on new views in every step.",
        within=FROM_0_ON,
    )
    initialize: str = setting(
        "random",
        "Initial weights of students. random: as in the paper. teacher: the weights "
        "of the teacher's channels that matter most for the task. auto: teacher where "
        "students have the teacher's shape, else random.",
        INITIALIZATIONS,
    )
    family: str = setting(
        THIN,
        "Network of the students. auto: the search looks for the smallest student of "
        f"all families. {help_of(FAMILIES)}",
        (ALL_FAMILIES, *FAMILIES),
    )
    convolutions: str = setting(
        "plain",
        "Layers that replace a student's convolutions larger than 1x1, except for the "
        f"first. {help_of(CONVOLUTIONS)}",
        CONVOLUTIONS,
    )
    groups: int | None = setting(
        None,
        "With --convolutions=grouped: number of groups, at least 1. Default: 4. If it "
        "does not divide a layer's channels, the next larger divisor is used.",
        within=at_least(1),
    )
    steps_per_execution: int | None = setting(
        None,
        "Training steps per call of TensorFlow, at least 1. Default: 50 on a CPU, 200 "
        "on a GPU, at most one epoch.",
        within=at_least(1),
    )
    distribute: str = setting(
        "auto",
        "mirrored: split each batch across all GPUs, or across the logical CPUs if "
        "there is no GPU. auto: mirrored with more than one GPU, else none.",
        DISTRIBUTIONS,
    )
    seed: int = setting(
        1,
        "Seed of initial weights, order of examples, augmentation and validation "
        "split, from 0 to 4294967295.",
        within=SEEDS,
        felt_by_teacher=True,
    )


def check_own_students(settings: TrainingSettings, prefix: str = "") -> None:
    """Checks that no setting changes students that the user builds.

    Args:
        settings: The training's.
        prefix: What stands before a setting's name in the message, e.g. `"--"`.

    Raises:
        InputError: If `family` or `convolutions` is not the default, or `initialize`
            is `"teacher"`.
    """
    names = ("family", "initialize", "convolutions")
    given = {name: getattr(settings, name) for name in names}
    kind = settings.family, settings.convolutions
    if settings.initialize == "teacher" or kind != (THIN, PLAIN):
        received = " ".join(f"{prefix}{name}={value}" for name, value in given.items())
        raise InputError(
            f"Expected {prefix}{f', {prefix}'.join(names)} at their defaults with "
            "students of your own: your function decides their layers and weights. "
            f"Received: {received}"
        )
