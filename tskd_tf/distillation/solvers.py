"""Optimisers of a training: Adam with a cosine, or those of Caffe's examples.

Caffe's are what its networks were published with (BVLC/caffe, commit 9b891540,
`examples/mnist/lenet_solver.prototxt` and the solvers of `examples/cifar10`): SGD with
momentum, a weight decay that is added to the gradient, and multipliers of learning rate
and decay for single weights. Shi et al. 2017 name no solver; they use these networks.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tskd_tf.distillation.learning_rate import (
    automatic_learning_rate,
    has_batch_normalization,
    warm_cosine,
)

ADAM = "adam"


class Multipliers(NamedTuple):
    """Factors of one weight's learning rate and decay, relative to the solver's.

    Attributes:
        learning_rate: Caffe's `lr_mult`, ≥ 0.
        decay: Caffe's `decay_mult`, ≥ 0.
    """

    learning_rate: float = 1.0
    decay: float = 1.0


class CaffeSolver(NamedTuple):
    """One of Caffe's solvers.

    Attributes:
        learning_rate: Learning rate at the first step.
        weight_decay: Factor of the weight that is added to its gradient.
        batch_size: Examples per step.
        num_steps: Steps of the whole training on all classes.
        steps_at: Shares of the training after which the learning rate falls to a tenth.
        inverse: γ times `num_steps`, and power. Without `steps_at` the learning rate
            falls as (1 + γ·step)^−power.
        multipliers: Factors by the end of a weight's path, such as `"ip1/bias"`.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    num_steps: int
    steps_at: tuple[float, ...] = ()
    inverse: tuple[float, float] = (0.0, 0.0)
    multipliers: Mapping[str, Multipliers] = {}

    def num_epochs(self, num_examples: int) -> int:
        """Passes over all of the data set's training examples, rounded up."""
        return math.ceil(self.num_steps * self.batch_size / num_examples)

    def schedule(
        self, learning_rate: float, num_steps: int
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """The learning rate by step, in a training of `num_steps`.

        Steps down come at their shares of it. A shorter training than Caffe's gets the
        whole of the inverse decay, a longer one goes on along Caffe's curve.
        """
        if self.steps_at:
            boundaries = [round(share * num_steps) for share in self.steps_at]
            values = [learning_rate / 10**i for i in range(len(boundaries) + 1)]
            return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
        gamma, power = self.inverse
        gamma /= min(num_steps, self.num_steps)
        return InverseDecay(learning_rate, gamma, power)


_DOUBLE = Multipliers(learning_rate=2.0)
CAFFE_SOLVERS = {
    "caffe_lenet": CaffeSolver(
        learning_rate=0.01,
        weight_decay=5e-4,
        batch_size=64,
        num_steps=10_000,
        inverse=(1.0, 0.75),
        multipliers={
            f"{layer}/bias": _DOUBLE for layer in ("conv1", "conv2", "ip1", "ip2")
        },
    ),
    "caffe_cifar10_full": CaffeSolver(
        learning_rate=1e-3,
        weight_decay=0.004,
        batch_size=100,
        num_steps=70_000,
        steps_at=(60 / 70, 65 / 70),
        multipliers={
            "conv1/bias": _DOUBLE,
            "conv2/bias": _DOUBLE,
            "ip1/kernel": Multipliers(decay=250.0),
            "ip1/bias": Multipliers(learning_rate=2.0, decay=0.0),
        },
    ),
    "caffe_cifar10_quick": CaffeSolver(
        learning_rate=1e-3,
        weight_decay=0.004,
        batch_size=100,
        num_steps=5_000,
        steps_at=(0.8,),
        multipliers={
            f"{layer}/bias": _DOUBLE
            for layer in ("conv1", "conv2", "conv3", "ip1", "ip2")
        },
    ),
}


@keras.saving.register_keras_serializable("tskd_tf")
class InverseDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Caffe's policy "inv": learning_rate · (1 + γ·step)^−power.

    Args:
        learning_rate: At step 0.
        gamma: γ, a step, ≥ 0.
        power: ≥ 0.
    """

    def __init__(self, learning_rate: float, gamma: float, power: float) -> None:
        super().__init__()
        self.learning_rate, self.gamma, self.power = learning_rate, gamma, power

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step, counted from 0; float32."""
        step = keras.ops.cast(step, "float32")
        return self.learning_rate * (1.0 + self.gamma * step) ** -self.power

    def get_config(self) -> dict[str, float]:
        """What makes another one like it."""
        return {
            "learning_rate": self.learning_rate,
            "gamma": self.gamma,
            "power": self.power,
        }


class _OneReplica:
    """Sums no gradients over replicas where there is only one.

    TensorFlow notes that sum's own gradient in a registry of the process, and with it
    the whole graph of the training step: megabytes a student that are never freed.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)  # type: ignore[misc]


@keras.saving.register_keras_serializable("tskd_tf")
class _Adam(_OneReplica, keras.optimizers.Adam):
    pass


@keras.saving.register_keras_serializable("tskd_tf")
class CaffeSGD(_OneReplica, keras.optimizers.SGD):
    """SGD with momentum as Caffe does it.

    A step adds decay · weight to the gradient, both with their multipliers, then

        velocity ← momentum · velocity − learning rate · gradient;
        weight ← weight + velocity.

    Keras's own `weight_decay` goes by the velocity, and knows no multipliers.

    Args:
        solver: One of `CAFFE_SOLVERS`.
        learning_rate: A number or a schedule.
        momentum: In [0, 1); Caffe's examples have 0.9.
        **kwargs: As for any Keras optimiser.
    """

    def __init__(
        self,
        solver: str,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        self.solver = solver

    def build(self, variables: Any) -> None:
        """Makes a velocity for each weight; called by Keras."""
        if not self.built:
            multipliers = CAFFE_SOLVERS[self.solver].multipliers
            ends = ["/".join(v.path.split("/")[-2:]) for v in variables]
            self._multipliers = [multipliers.get(end, Multipliers()) for end in ends]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one weight; called by Keras."""
        multipliers = self._multipliers[self._get_variable_index(variable)]
        decay = CAFFE_SOLVERS[self.solver].weight_decay * multipliers.decay
        gradient = keras.ops.cast(gradient, variable.dtype) + decay * variable
        super().update_step(
            multipliers.learning_rate * gradient, variable, learning_rate
        )

    def get_config(self) -> dict[str, Any]:
        """What makes another one like it."""
        return {**super().get_config(), "solver": self.solver}


def build_optimizer(
    solver: str, learning_rate: float, num_steps: int, warms_up: bool = False
) -> keras.optimizers.Optimizer:
    """A fresh optimiser for a training.

    Args:
        solver: One of `choices.SOLVERS`.
        learning_rate: At the first step, above 0; with `"adam"` it falls to 0 by a
            cosine, with Caffe's as theirs does.
        num_steps: Number of steps of the whole training.
        warms_up: Whether Adam's rate rises first, see `learning_rate.warm_cosine`.
    """
    if solver == ADAM and warms_up:
        return _Adam(warm_cosine(learning_rate, num_steps), name="adam")
    if solver == ADAM:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
        return _Adam(schedule, name="adam")
    schedule = CAFFE_SOLVERS[solver].schedule(learning_rate, num_steps)
    return CaffeSGD(solver, schedule)


def default_learning_rate(solver: str, model: keras.Model, rate: float) -> float:
    """What `learning_rate="auto"` means.

    Args:
        solver: One of `choices.SOLVERS`. Caffe's have a learning rate of their own.
        model: The network to train.
        rate: Its width rate, above 0; 1 for a teacher.
    """
    if solver != ADAM:
        return CAFFE_SOLVERS[solver].learning_rate
    return automatic_learning_rate(rate, has_batch_normalization(model))
