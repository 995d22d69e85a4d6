"""Training one network: the teacher on all classes, a student on the task.

Both use one of `solvers` over all their steps, by default Adam with a cosine, and keep
the weights of the last epoch: what is measured is what is kept.
"""

import functools
import logging
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.augmentation import Augmentation
from tskd_tf.curves import Curve, curve_of
from tskd_tf.data import Split, balanced_weights, batches
from tskd_tf.device import (
    DISTRIBUTIONS,
    choose_jit_compile,
    choose_steps_per_execution,
    choose_strategy,
)
from tskd_tf.errors import InputError
from tskd_tf.evaluate import accuracy, predict_logits
from tskd_tf.event_files import CurveWriter
from tskd_tf.methods import (
    DISTILLATION,
    build_distiller,
    check_method,
    compile_arguments,
    needs_live_teacher,
    unused_settings,
)
from tskd_tf.rebuild import with_policy
from tskd_tf.soft_targets import DEFAULT_NUM_VIEWS, TransferSet
from tskd_tf.solvers import ADAM, SOLVERS, build_optimizer
from tskd_tf.students import PLAIN, check_convolutions, thin_student
from tskd_tf.task import Task
from tskd_tf.width import INITIALIZATIONS, StudentBuilder

CLASS_WEIGHTS = ("none", "balanced")
_VALIDATION_BATCH = 1000
# What a small network needs to settle, whatever the size of the transfer set
_SETTLING_STEPS = 1500
_FEWEST_EPOCHS = 10


class Recipe(NamedTuple):
    """How a student is trained; the defaults of τ and λ are the paper's.

    Attributes:
        method: One of `methods.METHODS`; what means nothing to it, as
            `methods.unused_settings` says, is left at its default.
        num_students: Of the methods that train several at once, ≥ 2.
        hint_share: Of all steps, the share in which `"hint"` trains on hints only, in
            [0, 1).
        epochs: Passes over the transfer set, ≥ 1; None means as many as make 1,500
            steps, at least 10.
        batch_size: Examples a step.
        learning_rate: At the first step; Adam's falls to 0 by a cosine.
        solver: `"adam"`, or one of Caffe's, see `solvers.CAFFE_SOLVERS`.
        temperature: τ.
        soft_loss_weight: λ.
        scale_soft_loss: Whether the soft loss is multiplied by τ².
        class_weights: `"balanced"` weighs the examples of each class by n / (k·n_c),
            on hard and soft loss alike, so that rare classes count as much as others;
            see `data.balanced_weights`. `"none"` weighs all examples alike.
        precision: Keras dtype policy of the student in training.
        seed: Of initial weights, of the order of examples and of views.
        augmentation: Views that teacher and student see.
        num_views: Views of an image whose soft targets are stored; 0 means that the
            live teacher is run on new ones in every step.
        initialize: Where students of `scale_width` start, see there; from the teacher,
            its channels are ranked by their Taylor importance on D(θ).
        convolutions: What such students have in the place of plain convolutions, one of
            `students.CONVOLUTIONS`.
        groups: Of grouped convolutions, see `replace_convolutions`; 4 by default.
        steps_per_execution: Steps in one call of TensorFlow; None means by device and
            data, see `device.choose_steps_per_execution`.
        jit_compile: XLA: `"auto"` (on a GPU only), True or False.
        distribute: One of `device.DISTRIBUTIONS`.
    """

    method: str = DISTILLATION
    num_students: int = 4
    hint_share: float = 0.2
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 2e-3
    solver: str = ADAM
    temperature: float = 3.0
    soft_loss_weight: float = 0.9
    scale_soft_loss: bool = False
    class_weights: str = "none"
    precision: str = "float32"
    seed: int = 1
    augmentation: Augmentation = Augmentation()
    num_views: int = DEFAULT_NUM_VIEWS
    initialize: str = "random"
    convolutions: str = PLAIN
    groups: int | None = None
    steps_per_execution: int | None = None
    jit_compile: Any = "auto"
    distribute: str = "auto"

    def check(self) -> None:
        """Checks the ranges that no later stage checks.

        Raises:
            InputError: If a value is out of range.
        """
        check_method(self.method)
        for name in ("epochs", "batch_size", "steps_per_execution"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"Expected {name} of at least 1. Received: {value}")
        if not 0.0 < self.learning_rate < float("inf"):
            raise InputError(
                f"Expected learning_rate above 0. Received: {self.learning_rate}"
            )
        if not 0.0 < self.temperature < float("inf"):
            raise InputError(
                f"Expected temperature above 0. Received: {self.temperature}"
            )
        if not 0.0 <= self.soft_loss_weight <= 1.0:
            raise InputError(
                f"Expected soft_loss_weight from 0 to 1. Received: "
                f"{self.soft_loss_weight}"
            )
        if self.solver not in SOLVERS:
            raise InputError(
                f"Expected solver out of {', '.join(SOLVERS)}. Received: {self.solver}"
            )
        if self.class_weights not in CLASS_WEIGHTS:
            raise InputError(
                f"Expected class_weights out of {', '.join(CLASS_WEIGHTS)}. Received: "
                f"{self.class_weights}"
            )
        if self.num_views < 0:
            raise InputError(
                f"Expected num_views from 0 on. Received: {self.num_views}"
            )
        if self.jit_compile not in ("auto", True, False):
            raise InputError(
                'Expected jit_compile "auto", True or False. Received: '
                f"{self.jit_compile!r}"
            )
        if self.initialize not in INITIALIZATIONS:
            raise InputError(
                f"Expected initialize out of {', '.join(INITIALIZATIONS)}. Received: "
                f"{self.initialize!r}"
            )
        check_convolutions(self.convolutions, self.groups)
        if self.distribute not in DISTRIBUTIONS:
            raise InputError(
                f"Expected distribute out of {', '.join(DISTRIBUTIONS)}. Received: "
                f"{self.distribute}"
            )
        self.augmentation.check()
        self._check_other_methods()
        if not 0 <= self.seed < 2**32:
            raise InputError(
                f"Expected seed from 0 to 4294967295. Received: {self.seed}"
            )

    def _check_other_methods(self) -> None:
        if self.num_students < 2:
            raise InputError(
                f"Expected num_students of at least 2. Received: {self.num_students}"
            )
        if not 0.0 <= self.hint_share < 1.0:
            raise InputError(
                f"Expected hint_share from 0 to below 1. Received: {self.hint_share}"
            )
        names = unused_settings(self.method)
        changed = [n for n in names if getattr(self, n) != self._field_defaults[n]]
        if changed:
            raise InputError(
                f"Expected {', '.join(names)} at their defaults with "
                f"method={self.method}, to which they mean nothing. Received another "
                f"{' and '.join(changed)}; leave it out"
            )

    @property
    def uses_live_teacher(self) -> bool:
        """Whether the teacher is run in every step, on views without end."""
        return bool(self.augmentation) and self.num_views == 0

    @property
    def stored_views(self) -> Augmentation:
        """The views whose soft targets are stored; none for a live teacher."""
        return Augmentation() if self.uses_live_teacher else self.augmentation

    def on_hard_labels(self) -> "Recipe":
        """The same training without a teacher: the control."""
        return self._replace(method=DISTILLATION, soft_loss_weight=0.0)

    def num_steps(self, num_examples: int) -> int:
        """Steps an epoch; the last batch may be smaller."""
        return -(-num_examples // self.batch_size)

    def num_epochs(self, num_examples: int) -> int:
        """`epochs`, or where it is None as many as the transfer set's size asks for."""
        if self.epochs is not None:
            return self.epochs
        enough = -(-_SETTLING_STEPS // self.num_steps(num_examples))
        return max(_FEWEST_EPOCHS, enough)


class TrainedStudent(NamedTuple):
    """A student and how it did.

    Attributes:
        student: In float32, whatever the precision of its training.
        accuracy: On the validation data, of these very weights, in [0, 1].
        epochs: Trained; fewer than the recipe's if training was stopped.
        seconds: Wall-clock time of building, training and measuring it.
        curve: Its last validation accuracy is in the precision of training, so that
            it may differ from `accuracy` by rounding.
    """

    student: keras.Model
    accuracy: float
    epochs: int
    seconds: float
    curve: Curve


class DivergedError(RuntimeError):
    """Training reached a loss that is not finite."""


def train_student(
    teacher: keras.Model,
    rate: float,
    transfer: TransferSet,
    validation: Split,
    task: Task,
    recipe: Recipe,
    log_dir: str | None = None,
    verbose: Any = "auto",
    build_student: StudentBuilder | None = None,
    early_verdict: Callable[[Sequence[float]], bool | None] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainedStudent:
    """Distils one student from stored soft targets (Algorithm 1, steps 4 and 5).

    Args:
        teacher: Gives the architecture; it is run only if the recipe or its method asks
            for a live teacher.
        rate: Width rate of the student.
        transfer: D(θ) with the teacher's logits.
        validation: The task's validation images, with labels for class ids.
        task: θ.
        recipe: How to train; a `soft_loss_weight` of 0 is the hard-label control.
        log_dir: For TensorBoard; none is written by default.
        verbose: As in `keras.Model.fit`.
        build_student: Function of the rate that builds the student; by default
            `thin_student`, with random weights.
        early_verdict: Function of the validation accuracies after each epoch so far;
            training stops after the epoch at which it gives anything but None.
        callbacks: Called in training besides, such as `progress.LiveLine`.

    Raises:
        DivergedError: If the loss is not finite.
    """
    start = time.monotonic()
    num_steps = recipe.num_steps(len(transfer.images))
    num_epochs = recipe.num_epochs(len(transfer.images))
    strategy = choose_strategy(recipe.distribute)
    _check_shares(recipe.batch_size, len(transfer.images), strategy)
    # First, because tf.data's seeds hang on this one, too
    keras.utils.set_random_seed(recipe.seed)
    weights = _sample_weights(transfer.labels, recipe)
    if recipe.uses_live_teacher:
        examples = _training_batches(
            (transfer.images, transfer.labels, *weights), recipe, strategy
        )
    else:
        transfer = transfer._replace(sample_weights=weights[0] if weights else None)
        examples = transfer.batches(
            recipe.batch_size, recipe.seed, strategy.num_replicas_in_sync
        )
    with strategy.scope():
        is_live = recipe.uses_live_teacher or needs_live_teacher(recipe.method)
        live = with_policy(teacher, "float32") if is_live else None
        build_student = build_student or functools.partial(
            thin_student,
            teacher,
            task=task,
            convolutions=recipe.convolutions,
            groups=recipe.groups,
        )
        distiller = build_distiller(
            recipe.method,
            lambda: with_policy(build_student(rate), recipe.precision),
            live,
            task,
            recipe.num_students,
        )
        distiller.compile(
            **compile_arguments(
                recipe.method,
                lambda factor: build_optimizer(
                    recipe.solver,
                    factor * recipe.learning_rate,
                    num_steps * num_epochs,
                ),
                recipe.solver,
                {
                    "temperature": recipe.temperature,
                    "soft_loss_weight": recipe.soft_loss_weight,
                    "scale_soft_loss": recipe.scale_soft_loss,
                },
                round(recipe.hint_share * num_steps * num_epochs),
            ),
            metrics=["accuracy"],
            steps_per_execution=choose_steps_per_execution(
                num_steps, recipe.steps_per_execution, strategy.num_replicas_in_sync
            ),
            jit_compile=recipe.jit_compile,
        )
    all_callbacks = [*_callbacks(log_dir), *callbacks]
    if early_verdict is not None:
        all_callbacks.append(_StopAtVerdict(early_verdict))
    history = distiller.fit(
        examples,
        validation_data=_validation_batches(validation, strategy),
        epochs=num_epochs,
        callbacks=all_callbacks,
        shuffle=False,
        verbose=verbose,
    )
    student = with_policy(distiller.best_student(), "float32")
    logits = predict_logits(student, validation.images)
    curve = curve_of(history.history)
    _check_finite(np.append(logits, curve["loss"]), f"the student at rate {rate:g}")
    return TrainedStudent(
        student,
        accuracy(logits, validation.class_ids),
        len(curve["loss"]),
        time.monotonic() - start,
        curve,
    )


def train_teacher(
    teacher: keras.Model,
    train: Split,
    validation: Split,
    recipe: Recipe,
    log_dir: str | None = None,
    verbose: Any = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Trains a teacher on all classes with hard labels (Algorithm 1, step 2).

    Args:
        teacher: Freshly built; gives logits.
        train: All training images.
        validation: Watched, not used.
        recipe: Its temperature and weight do not matter here.
        log_dir: For TensorBoard.
        verbose: As in `keras.Model.fit`.
        callbacks: As in `keras.Model.fit`.

    Returns:
        The teacher in float32.

    Raises:
        DivergedError: If the loss is not finite.
    """
    num_steps = recipe.num_steps(len(train.images))
    num_epochs = recipe.num_epochs(len(train.images))
    strategy = choose_strategy(recipe.distribute)
    _check_shares(recipe.batch_size, len(train.images), strategy)
    weights = _sample_weights(train.class_ids, recipe)
    examples = _training_batches((*train, *weights), recipe, strategy)
    with strategy.scope():
        model = with_policy(teacher, recipe.precision)
        model.compile(
            optimizer=build_optimizer(
                recipe.solver, recipe.learning_rate, num_steps * num_epochs
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            # By object: the name's variables would be made in a first trace of two
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            steps_per_execution=choose_steps_per_execution(
                num_steps, recipe.steps_per_execution, strategy.num_replicas_in_sync
            ),
            jit_compile=choose_jit_compile(recipe.jit_compile),
        )
    history = model.fit(
        examples,
        validation_data=_validation_batches(validation, strategy),
        epochs=num_epochs,
        callbacks=[*_callbacks(log_dir), *callbacks],
        shuffle=False,
        verbose=verbose,
    )
    trained = with_policy(model, "float32")
    logits = predict_logits(trained, validation.images[:1])
    _check_finite(np.append(logits, history.history["loss"]), "the teacher")
    logging.getLogger(__name__).info("Teacher trained for %d epochs", num_epochs)
    return trained


def _sample_weights(labels: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, ...]:
    """What batches carry as a third part: nothing where all examples count alike."""
    return (balanced_weights(labels),) if recipe.class_weights == "balanced" else ()


def _training_batches(
    arrays: Any, recipe: Recipe, strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """Shuffled, through the recipe's views, with an example for each replica.

    TensorFlow's max pooling ends the process on the empty share of a replica.
    """
    plain = batches(
        arrays,
        recipe.batch_size,
        recipe.seed,
        smallest_batch=strategy.num_replicas_in_sync,
    )
    return recipe.augmentation.map(plain, recipe.seed) if recipe.augmentation else plain


def _validation_batches(
    validation: Split, strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """All images, the first batch shared equally by all replicas as Keras needs it."""
    num_replicas = strategy.num_replicas_in_sync
    size = min(_VALIDATION_BATCH, len(validation.images))
    even = max(num_replicas, size - size % num_replicas)
    return batches(tuple(validation), even)


def _check_shares(
    batch_size: int, num_examples: int, strategy: tf.distribute.Strategy
) -> None:
    """Keras needs a first batch that all replicas get an equal share of."""
    num_replicas = strategy.num_replicas_in_sync
    if min(batch_size, num_examples) % num_replicas:
        raise InputError(
            f"Expected a batch size, and no fewer images, that {num_replicas} devices "
            f"share equally. Received: batch_size={batch_size}, {num_examples} images; "
            "choose another batch size, or --distribute=none"
        )


def _callbacks(log_dir: str | None) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if log_dir is not None:
        callbacks.append(CurveWriter(pathlib.Path(log_dir)))
    return callbacks


class _StopAtVerdict(keras.callbacks.Callback):
    """Ends training after the epoch at which the verdict is known."""

    def __init__(self, early_verdict: Callable[[Sequence[float]], bool | None]) -> None:
        super().__init__()
        self._early_verdict = early_verdict
        self._accuracies: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._accuracies.append(float(logs["val_accuracy"]))
        if self._early_verdict(self._accuracies) is not None:
            self.model.stop_training = True


def _check_finite(logits_and_losses: np.ndarray, name: str) -> None:
    if not np.isfinite(logits_and_losses).all():
        raise DivergedError(
            f"Training {name} diverged: its loss or logits are not finite. Try a "
            "smaller learning rate, or --precision=float32"
        )
