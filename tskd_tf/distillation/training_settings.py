"""How a teacher and its students are trained: the settings, without TensorFlow.

Each field is a setting of `Recipe` and a flag of the command line. To add one, write it
here and use it where it acts.
"""

import dataclasses

from tskd_tf.choices import (
    ABOVE_0,
    CLASS_WEIGHTS,
    CONVOLUTIONS,
    DISTRIBUTIONS,
    FROM_0_ON,
    FROM_0_TO_1,
    FROM_0_TO_BELOW_1,
    INITIALIZATIONS,
    METHODS,
    PRECISIONS,
    SEEDS,
    SOLVERS,
    at_least,
    help_of,
    setting,
)
from tskd_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training that Python and the command line write alike.

    A field marked `felt_by_teacher` changes the weights of a teacher that is trained
    with it: a run that goes on with its teacher must have the same.
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
        "With --method=online and mutual: students trained at once, at least 2.",
        within=at_least(2),
    )
    temperature: float = setting(
        3.0, "Temperature tau of the soft loss, above 0.", within=ABOVE_0
    )
    soft_loss_weight: float = setting(
        0.9,
        "lambda of Eq. 8, from 0 to 1; the hard loss gets the rest.",
        within=FROM_0_TO_1,
    )
    scale_soft_loss: bool = setting(
        False, "Multiply the soft loss by tau squared, as Hinton does and Eq. 8 not."
    )
    class_weights: str = setting(
        "none",
        "balanced: in training, rare classes count as much as others; the losses of "
        "each image of class c are weighed by n/(k n_c). Eq. 4 stays about all images.",
        CLASS_WEIGHTS,
        felt_by_teacher=True,
    )
    epochs: int | None = setting(
        None,
        "Passes over the transfer set, for each student; by default as many as make "
        "1,500 steps, at least 10.",
        within=at_least(1),
    )
    batch_size: int = setting(
        128, "Images a training step.", within=at_least(1), felt_by_teacher=True
    )
    learning_rate: float = setting(
        2e-3,
        "Learning rate at the first step; Adam's falls to 0 by a cosine.",
        within=ABOVE_0,
        felt_by_teacher=True,
    )
    solver: str = setting(
        "adam",
        "Optimiser of teacher and students: adam, or that of a Caffe example with its "
        "schedule, momentum and weight decay.",
        SOLVERS,
        felt_by_teacher=True,
    )
    precision: str = setting(
        "float32",
        "Precision of training. auto: mixed_float16 on a GPU with tensor cores, "
        "mixed_bfloat16 on a CPU with bfloat16 instructions, else float32. What is "
        "saved is float32.",
        PRECISIONS,
        felt_by_teacher=True,
    )
    num_views: int = setting(
        8,
        "With --augmentation: views of an image whose soft targets are stored; 0 runs "
        "the teacher on new views in every step.",
        within=FROM_0_ON,
    )
    initialize: str = setting(
        "random",
        "Where students start: from random weights, as in the paper, or from those of "
        "the teacher's channels that matter most for the task.",
        INITIALIZATIONS,
    )
    convolutions: str = setting(
        "plain",
        "What students have in the place of convolutions larger than 1x1, but the "
        f"first, besides being thinner. {help_of(CONVOLUTIONS)}",
        CONVOLUTIONS,
    )
    groups: int | None = setting(
        None,
        "Of --convolutions=grouped, 4 by default. Where they do not divide a layer's "
        "channels, the next larger number that does is taken.",
        within=at_least(1),
    )
    steps_per_execution: int | None = setting(
        None,
        "Training steps in one call of TensorFlow; by default 50 on a CPU, 200 on a "
        "GPU, no more than an epoch has.",
        within=at_least(1),
    )
    distribute: str = setting(
        "auto",
        "mirrored: share each batch among all GPUs, or without any among the logical "
        "CPUs. auto: mirrored where there is more than one GPU.",
        DISTRIBUTIONS,
    )
    seed: int = setting(
        1,
        "Of initial weights, order of examples, views and validation split, from 0 on.",
        within=SEEDS,
        felt_by_teacher=True,
    )


def check_own_students(settings: TrainingSettings, prefix: str = "") -> None:
    """Checks that nothing is asked of students that the user builds.

    Args:
        settings: The training's.
        prefix: What stands before a setting's name in the message, e.g. `"--"`.

    Raises:
        InputError: If `initialize` or `convolutions` is not the default.
    """
    names = ("initialize", "convolutions")
    given = {name: getattr(settings, name) for name in names}
    if any(value != getattr(TrainingSettings, name) for name, value in given.items()):
        received = " ".join(f"{prefix}{name}={value}" for name, value in given.items())
        raise InputError(
            f"Expected {prefix}initialize and {prefix}convolutions at their defaults "
            "with students of your own, which are and start as you build them. "
            f"Received: {received}"
        )
