"""Task-specified knowledge distillation as a Keras model with its own training step."""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tskd_tf.choices import ABOVE_0, FROM_0_TO_1, check_within
from tskd_tf.data.task import Task, check_task
from tskd_tf.distillation.batch import Batch, images_of, input_errors, unpack
from tskd_tf.distillation.device import choose_jit_compile, uses_float16
from tskd_tf.distillation.losses import (
    check_soft_loss,
    distillation_loss,
    hard_loss,
    soft_loss,
)
from tskd_tf.errors import InputError
from tskd_tf.networks.graph import check_logits, check_model, random_view_layers

_DEFAULT_TEMPERATURE = 3.0
# Losses by name, each of shape (batch,). The student minimises "loss"
Losses = dict[str, tf.Tensor]


class Update(NamedTuple):
    """One optimiser step within a training step.

    Attributes:
        optimizer: Optimiser that updates the variables.
        variables: Variables to update.
        compute_losses: Function of a `Batch` that gives its losses, each of shape
            `(batch,)`, and the student's logits.
        objective: Name of the loss that this step minimises. The student's
            regularisation losses are added to `"loss"`.
    """

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    compute_losses: Callable[[Batch], tuple[Losses, tf.Tensor]]
    objective: str = "loss"


@keras.saving.register_keras_serializable("tskd_tf")
class Distiller(keras.Model):
    """Trains a student on the loss of Eq. 8 of Shi et al. 2017.

    L = (1−λ)·H(Y, P_S) + λ·H(P_T^τ, P_S^τ), mean over the batch, plus the student's
    regularisation losses. `fit` takes `transfer_set(...)`, whose batches carry the
    teacher's logits, or `task.filter(...)`. The batches of the latter have no logits,
    so the teacher is run on each. Validation does not run the teacher: `val_loss` is
    the student's cross entropy with the true labels.

    The distiller does not own the teacher. The teacher is neither trained nor saved,
    its `trainable` does not change, and no summary counts it. So a distiller loaded
    from a file has no teacher: call `set_teacher`, or fit on a transfer set.

    `temperature`, `soft_loss_weight` and `soft_loss_scale` are variables. A callback
    may `assign` them between batches or epochs without a new trace. They are saved with
    the weights, and `load_weights` restores them.

    A method with several optimiser steps per batch overrides `updates`; one with other
    losses overrides `compute_losses`. The training step stays the same.
    `training_losses` names the losses besides `"loss"` that are reported in training
    and left out in validation. `needs_teacher_logits` says whether batches must have
    teacher logits.

    Args:
        student: Gives logits for the outputs of the task. It is trained in place.
        teacher: Gives logits for all classes of the data set; None if every batch
            carries them.
        task: Which teacher outputs the student learns; by default all of them.
        **kwargs: For `keras.Model`, e.g. `name`.

    Raises:
        InputError: If student, teacher and task do not fit each other, or a model
            gives probabilities instead of logits (see `as_logits`).

    Example:

    >>> distiller = Distiller(student, teacher, task=task)
    >>> distiller.compile("adam", temperature=3.0, soft_loss_weight=0.9)
    >>> distiller.fit(transfer_set(train, teacher, task), epochs=10)
    >>> distiller.student.save("student.keras")
    """

    training_losses: tuple[str, ...] = ("hard_loss", "soft_loss")
    needs_teacher_logits = True

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        task: Task | None = None,
        **kwargs: Any,
    ) -> None:
        if task is not None:
            check_task(task)
        check_student(student, task)
        super().__init__(**kwargs)
        self.student = student
        self.task = task
        self.temperature = self._add_scalar("temperature", 3.0)
        self.soft_loss_weight = self._add_scalar("soft_loss_weight", 0.9)
        self.soft_loss_scale = self._add_scalar("soft_loss_scale", 0.0)
        for name in self.training_losses:
            setattr(self, f"_{name}_tracker", keras.metrics.Mean(name=name))
        self._is_evaluating = False
        self._soft_loss = None
        self.set_teacher(teacher)
        self.built = True

    def _add_scalar(self, name: str, value: float) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(value),
            trainable=False,
        )

    def set_teacher(self, teacher: keras.Model | None) -> None:
        """Sets or removes the live teacher.

        Args:
            teacher: Gives logits for all classes of the data set; None removes it.

        Raises:
            InputError: If it does not fit the student and the task.
        """
        if teacher is not None:
            _check_pair(self.student, teacher, self.task)
        # Keras trains, counts and saves every model in an attribute, but it does not
        # look into a plain object
        self._borrowed = types.SimpleNamespace(teacher=teacher)

    def compile(
        self,
        optimizer: Any = "adam",
        temperature: float = _DEFAULT_TEMPERATURE,
        soft_loss_weight: float = 0.9,
        scale_soft_loss: bool = False,
        soft_loss: Any = None,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        """Sets the optimiser, the loss's parameters and the metrics.

        Args:
            optimizer: A Keras optimiser, or its name.
            temperature: τ > 0 of the soft loss. Default: 3.
            soft_loss_weight: λ in [0, 1]. Default: 0.9. The weight of the hard
                loss is 1 − λ. 0 means training on hard labels only.
            scale_soft_loss: Whether to multiply the soft loss by τ², as Hinton does and
                the paper does not. Default: False.
            soft_loss: A `keras.distillation.DistillationLoss` of logits with its own
                temperature that replaces H(P_T^τ, P_S^τ), e.g.
                `LogitsDistillation(3.0, loss=keras.losses.KLDivergence())`. It gives
                one number per batch. So sample weights, class weights and several
                devices are refused with it.
            jit_compile: Whether to use XLA; `"auto"` means on a GPU only.
            auto_scale_loss: Whether to wrap the optimiser in a `LossScaleOptimizer` if
                any layer of the student computes in float16. Default: True.
            **kwargs: `metrics`, `weighted_metrics`, `run_eagerly` and
                `steps_per_execution`, as in `keras.Model.compile`. Metrics compare
                labels with the student's logits.

        Raises:
            InputError: If a value is out of range, a `loss` is given, or `soft_loss`
                does not fit the other arguments.
        """
        if kwargs.pop("loss", None) is not None or kwargs.pop("loss_weights", None):
            raise InputError(
                "Expected no loss: the distillation loss of Eq. 8 is built in. Set it "
                "with temperature and soft_loss_weight"
            )
        check_within("temperature", temperature, ABOVE_0)
        check_within("soft_loss_weight", soft_loss_weight, FROM_0_TO_1)
        if soft_loss is not None:
            check_soft_loss(soft_loss)
            if temperature != _DEFAULT_TEMPERATURE or scale_soft_loss:
                raise InputError(
                    "Expected no temperature and scale_soft_loss beside a soft_loss, "
                    "which has its own. Received both"
                )
            if (num_replicas := self.distribute_strategy.num_replicas_in_sync) > 1:
                raise InputError(
                    "Expected one device with a soft_loss, as only some of Keras's "
                    "losses divide by the number of devices. Received: "
                    f"{num_replicas}"
                )
        self._soft_loss = soft_loss
        is_eager = kwargs.get("run_eagerly", False)
        use_xla = choose_jit_compile(jit_compile) and not (
            is_eager and jit_compile == "auto"
        )
        optimizer = keras.optimizers.get(optimizer)
        is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if auto_scale_loss and uses_float16(self.student) and not is_scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        super().compile(
            optimizer=optimizer,
            jit_compile=use_xla,
            auto_scale_loss=False,
            **kwargs,
        )
        self.temperature.assign(temperature)
        self.soft_loss_weight.assign(soft_loss_weight)
        self.soft_loss_scale.assign(float(scale_soft_loss))
        self._loss_config = {
            "temperature": temperature,
            "soft_loss_weight": soft_loss_weight,
            "scale_soft_loss": scale_soft_loss,
            "soft_loss": keras.saving.serialize_keras_object(soft_loss),
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        # A saved optimiser state can only be loaded into existing variables
        for update in self.updates():
            update.optimizer.build(update.variables)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """The student's logits, shape `(batch, num_outputs)`.

        Args:
            inputs: Images, or a dictionary with them under `"images"`.
            training: As for any Keras model.
        """
        return self.student(images_of(inputs), training=training)

    def best_student(self) -> keras.Model:
        """The student to keep, as a method may train several."""
        return self.student

    def updates(self) -> list[Update]:
        """The optimiser steps of one training step, in order."""
        return [
            Update(self.optimizer, self.trainable_variables, self.compute_losses),
        ]

    def compute_losses(self, batch: Batch) -> tuple[Losses, tf.Tensor]:
        """The losses of one batch, in training mode.

        Args:
            batch: One batch with teacher logits.

        Returns:
            The losses, each of shape `(batch,)`, and the student's logits. `hard_loss`
            is H(Y, P_S), `soft_loss` is H(P_T^τ, P_S^τ), times τ² with
            `scale_soft_loss`. `loss` is their sum, weighted by 1 − λ and λ.
        """
        logits = self.student(batch.images, training=True)
        return self.losses_of_logits(batch, logits), logits

    def losses_of_logits(self, batch: Batch, logits: tf.Tensor) -> Losses:
        """The losses of Eq. 8 for given student logits; see `compute_losses`."""
        hard = hard_loss(batch.labels, logits)
        if self._soft_loss is None:
            scale = 1.0 + self.soft_loss_scale * (tf.square(self.temperature) - 1.0)
            soft = scale * soft_loss(batch.teacher_logits, logits, self.temperature)
        else:
            soft = _shares_of(self._soft_loss, batch, logits)
        loss = distillation_loss(hard, soft, self.soft_loss_weight)
        return {"loss": loss, "hard_loss": hard, "soft_loss": soft}

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Trains as `keras.Model.fit`, on `transfer_set(...)` or `task.filter(...)`.

        Raises:
            InputError: If the batches do not fit the student or the stored logits.
        """
        with input_errors():
            return super().fit(*args, **kwargs)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Trains on one batch: computes the teacher's logits, then runs each update."""
        batch = unpack(data, self.student)
        if self.needs_teacher_logits:
            batch = self._with_teacher_logits(batch)
        for update in self.updates():
            with tf.GradientTape() as tape:
                losses, logits = update.compute_losses(batch)
                weighted = {
                    name: _weigh(loss, batch.sample_weight)
                    for name, loss in losses.items()
                }
                # Weights belong to examples, regularisation to the variables
                for regularisation in self.losses if "loss" in losses else ():
                    weighted["loss"] += tf.cast(regularisation, tf.float32)
                objective = _mean_over_replicas(weighted[update.objective])
                scaled = update.optimizer.scale_loss(objective)
            gradients = tape.gradient(scaled, update.variables)
            update.optimizer.apply_gradients(zip(gradients, update.variables))
            self._track(weighted)
        inputs, labels, weight = batch.images, batch.labels, batch.sample_weight
        return self.compute_metrics(inputs, labels, logits, sample_weight=weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measures the student on one batch of validation data, without the teacher."""
        batch = unpack(data, self.student)
        logits = self.call(batch.images, training=False)
        loss = _weigh(hard_loss(batch.labels, logits), batch.sample_weight)
        self._track({"loss": loss})
        inputs, labels, weight = batch.images, batch.labels, batch.sample_weight
        results = self.compute_metrics(inputs, labels, logits, sample_weight=weight)
        return self._without_training_losses(results)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Measures the student on the task, as `keras.Model.evaluate`."""
        self._is_evaluating = True
        try:
            with input_errors():
                return super().evaluate(*args, **kwargs)
        finally:
            self._is_evaluating = False

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """Values of the metrics; in validation without `training_losses`.

        Keras computes metrics over all replicas only if they have the same names as
        those that the step returned. Otherwise it averages the values of the replicas.
        """
        results = super().get_metrics_result()
        return (
            self._without_training_losses(results) if self._is_evaluating else results
        )

    def _without_training_losses(self, results: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in results.items() if k not in self.training_losses}

    def _maybe_symbolic_build(self, *_: Any, **__: Any) -> None:
        """Builds the metrics; everything else is already built.

        On several devices, Keras takes a batch from the data here, which all devices
        must share equally. A data set that is shuffled in each epoch would thereby lose
        the order of its first epoch.
        """
        if self._compile_metrics is not None and not self._compile_metrics.built:
            logits = tf.zeros((1, self.student.outputs[0].shape[-1]))
            with self.distribute_strategy.scope():
                self._compile_metrics.build(tf.zeros(1, tf.int32), logits)

    def _track(self, losses: Losses) -> None:
        for metric in self.metrics:
            if metric.name in losses:
                metric.update_state(losses[metric.name])

    def _with_teacher_logits(self, batch: Batch) -> Batch:
        if batch.teacher_logits is not None:
            return batch
        teacher = self._borrowed.teacher
        if teacher is None:
            raise InputError(
                "Expected batches with stored teacher logits, as transfer_set gives "
                "them, or a live teacher. Received neither: a Distiller loaded from a "
                "file has no teacher until distiller.set_teacher(teacher)"
            )
        logits = teacher(batch.images, training=False)
        if self.task is not None:
            logits = self.task.select_logits(logits)
        return batch._replace(teacher_logits=tf.stop_gradient(logits))

    def get_config(self) -> dict[str, Any]:
        """The student and the task; the teacher is not part of a saved distiller."""
        return {
            "name": self.name,
            "student": keras.saving.serialize_keras_object(self.student),
            "task": None if self.task is None else self.task.get_config(),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "Distiller":
        """A distiller without a teacher, from `get_config`."""
        student = keras.saving.deserialize_keras_object(
            config["student"], custom_objects=custom_objects
        )
        task = None if config["task"] is None else Task(**config["task"])
        settings = {k: v for k, v in config.items() if k not in ("student", "task")}
        return cls(student, task=task, **settings)

    def get_compile_config(self) -> dict[str, Any] | None:
        """The serialised arguments of `compile`; None before `compile`."""
        config = super().get_compile_config()
        if not config:
            return config
        without = {k: v for k, v in config.items() if not k.startswith("loss")}
        return {**without, **self._loss_config}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with the arguments from `get_compile_config`."""
        self.compile(**keras.saving.deserialize_keras_object(config))


def check_student(student: keras.Model, task: Task | None) -> None:
    """Checks that a model can be a task's student.

    Raises:
        InputError: If it gives no logits, has another number of outputs than the task,
            makes random views of its images, or has no trainable variables.
    """
    check_model(student, "the student")
    check_logits(student, "the student")
    num_outputs = student.outputs[0].shape[-1]
    if task is not None and num_outputs != task.num_outputs:
        raise InputError(
            f"Expected a student with {task.num_outputs} outputs, as the task's "
            f"{task.head} head has. Received: {student.name!r} with {num_outputs}"
        )
    if names := random_view_layers(student):
        raise InputError(
            "Expected a student that sees what its teacher sees. Received: "
            f"{student.name!r}, which makes its own views in {', '.join(names)}; "
            "leave these layers out and pass an augmentation to transfer_set, or map "
            "it over the data set for a live teacher"
        )
    if not student.trainable_variables:
        raise InputError(
            f"Expected a student that can learn. Received: {student.name!r}, all of "
            "whose variables are frozen"
        )


def _check_pair(student: keras.Model, teacher: keras.Model, task: Task | None) -> None:
    check_model(teacher, "the teacher")
    check_logits(teacher, "the teacher")
    num_outputs = teacher.outputs[0].shape[-1]
    expected = task.num_classes if task is not None else student.outputs[0].shape[-1]
    if num_outputs != expected:
        raise InputError(
            f"Expected a teacher with {expected} outputs. Received: {teacher.name!r} "
            f"with {num_outputs}; pass the task when the student has other outputs "
            "than the teacher"
        )


def _shares_of(loss: Any, batch: Batch, logits: tf.Tensor) -> tf.Tensor:
    """The loss of a batch, repeated for each example, shape `(batch,)`."""
    if batch.sample_weight is not None:
        raise InputError(
            f"Expected no sample or class weights with {type(loss).__name__}, which "
            "gives one number per batch. Received: weights; leave soft_loss out, as "
            "the built-in loss has a value per example"
        )
    teacher_logits = tf.stop_gradient(tf.cast(batch.teacher_logits, tf.float32))
    outputs = (teacher_logits, tf.cast(logits, tf.float32))
    loss.validate_outputs(*outputs)
    return tf.fill(tf.shape(logits)[:1], loss.compute_loss(*outputs))


def _weigh(loss: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    if sample_weight is None:
        return loss
    return loss * tf.reshape(tf.cast(sample_weight, loss.dtype), tf.shape(loss))


def _mean_over_replicas(loss: tf.Tensor) -> tf.Tensor:
    """This replica's share of the mean of `loss (batch,)` over the global batch.

    Optimisers add up the gradients of all replicas. So the sum of the shares must be
    the mean, for any number of replicas and for batches of different sizes.
    """
    count = tf.cast(tf.size(loss), loss.dtype)
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.reduce_sum(loss) / count
