"""Training of one network: the teacher on all classes, a student on the task.

Both use one of `solvers` for all steps, by default Adam with cosine decay. The weights
of the last epoch are kept and measured.
"""

import logging
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.choices import AUTO
from tskd_tf.data.batches import batches
from tskd_tf.data.splits import Split, balanced_weights
from tskd_tf.data.task import Task
from tskd_tf.distillation.curves import Curve, curve_of
from tskd_tf.distillation.device import (
    choose_jit_compile,
    choose_steps_per_execution,
    choose_strategy,
)
from tskd_tf.distillation.event_files import CurveWriter
from tskd_tf.distillation.methods.method import Compilation, Parts, method_named
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.distillation.solvers import build_optimizer, default_learning_rate
from tskd_tf.errors import InputError
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.width import StudentBuilder

_VALIDATION_BATCH = 1000


class TrainedStudent(NamedTuple):
    """A trained student and its results.

    Attributes:
        student: The student in float32, for any precision of the training.
        accuracy: Accuracy of `student` on the validation data, in [0, 1].
        epochs: Number of epochs; below the recipe's if training was stopped early.
        seconds: Wall-clock time of building, training and measuring the student.
        curve: Loss and validation accuracy of each epoch. The last accuracy is in the
            precision of the training, so it may differ slightly from `accuracy`.
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
        teacher: Gives the student's architecture. It is run only if the recipe or its
            method needs a live teacher.
        rate: Width rate of the student, in (0, 1].
        transfer: D(θ) with the teacher's logits.
        validation: The task's validation images, with labels in place of class ids.
        task: θ.
        recipe: How to train; a `soft_loss_weight` of 0 is the hard-label control.
        log_dir: Folder for TensorBoard's files; by default none are written.
        verbose: As in `keras.Model.fit`.
        build_student: Function of the rate that builds the student; by default as the
            recipe says.
        early_verdict: Function of the validation accuracies of all epochs so far, in
            [0, 1]. Training stops after the first epoch for which it is not None.
        callbacks: Further callbacks, such as `progress.LiveLine`.

    Raises:
        DivergedError: If the loss or the logits are not finite.
        InputError: If the devices cannot share a batch equally.
    """
    start = time.monotonic()
    num_steps = recipe.num_steps(len(transfer.images))
    num_epochs = recipe.num_epochs(len(transfer.images))
    strategy = choose_strategy(recipe.distribute)
    _check_shares(recipe.batch_size, len(transfer.images), strategy)
    # First, because tf.data's seeds depend on this one, too
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
    method = method_named(recipe.method)
    with strategy.scope():
        is_live = recipe.uses_live_teacher or method.needs_live_teacher
        live = with_policy(teacher, "float32") if is_live else None
        build_student = build_student or recipe.students_of(teacher, task)
        distiller = method.build(
            Parts(
                lambda: with_policy(build_student(rate), recipe.precision),
                live,
                task,
                recipe.num_students,
            )
        )
        compilation = Compilation(
            recipe,
            lambda factor: _optimizer(
                recipe, distiller.student, rate, num_steps * num_epochs, factor
            ),
            num_steps * num_epochs,
        )
        distiller.compile(
            **method.compile_arguments(compilation),
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
        # Otherwise Keras starts the data set a second time per epoch, without using it
        steps_per_epoch=len(examples),
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


def _optimizer(
    recipe: Recipe,
    model: keras.Model,
    rate: float,
    num_steps: int,
    factor: float = 1.0,
) -> keras.optimizers.Optimizer:
    """A new optimiser for a network of this width rate, which is 1 for a teacher."""
    learning_rate = recipe.learning_rate
    is_automatic = learning_rate == AUTO
    if isinstance(learning_rate, str):
        learning_rate = default_learning_rate(recipe.solver, model, rate)
    return build_optimizer(
        recipe.solver, factor * learning_rate, num_steps, warms_up=is_automatic
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
        teacher: A new model that gives logits.
        train: Training images of all classes.
        validation: Validation images; their accuracy is logged, and has no influence.
        recipe: How to train; the settings of the soft loss are not used.
        log_dir: Folder for TensorBoard's files; by default none are written.
        verbose: As in `keras.Model.fit`.
        callbacks: As in `keras.Model.fit`.

    Returns:
        The teacher in float32.

    Raises:
        DivergedError: If the loss or the logits are not finite.
        InputError: If the devices cannot share a batch equally.
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
            optimizer=_optimizer(recipe, model, 1.0, num_steps * num_epochs),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            # An object: a metric given by name makes Keras trace the step twice
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
        steps_per_epoch=len(examples),
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
    """The third part of the batches; empty if all examples have the same weight."""
    return (balanced_weights(labels),) if recipe.class_weights == "balanced" else ()


def _training_batches(
    arrays: Any, recipe: Recipe, strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """Shuffled batches of the recipe's views, with an example or more per replica.

    TensorFlow's max pooling crashes the process on a replica's empty share.
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
    """Batches of all images; all replicas share the first one equally, for Keras."""
    num_replicas = strategy.num_replicas_in_sync
    size = min(_VALIDATION_BATCH, len(validation.images))
    even = max(num_replicas, size - size % num_replicas)
    return batches(tuple(validation), even)


def _check_shares(
    batch_size: int, num_examples: int, strategy: tf.distribute.Strategy
) -> None:
    """Checks that all replicas share the first batch equally, as Keras requires."""
    num_replicas = strategy.num_replicas_in_sync
    if min(batch_size, num_examples) % num_replicas:
        raise InputError(
            f"Expected a batch that {num_replicas} devices share equally. Received: "
            f"batch_size={batch_size}, {num_examples} images; choose another batch "
            "size, or --distribute=none"
        )


def _callbacks(log_dir: str | None) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if log_dir is not None:
        callbacks.append(CurveWriter(pathlib.Path(log_dir)))
    return callbacks


class _StopAtVerdict(keras.callbacks.Callback):
    """Stops training after the first epoch with a known verdict."""

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
