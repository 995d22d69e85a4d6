"""Caffe's solvers against NumPy, and in Keras."""

import keras
import numpy as np
import pytest

from tskd_tf.choices import SOLVERS
from tskd_tf.distillation.solvers import ADAM, CAFFE_SOLVERS, build_optimizer
from tskd_tf.networks.zoo.models import cifar10_full, cifar10_quick, lenet

IMAGE_SHAPES = {"lenet": (16, 16, 1), "cifar10_full": (8, 8, 3)}
NUM_STEPS = 20


def caffe_learning_rate(solver, step):
    """As in sgd_solver.cpp, for trainings of Caffe's own length."""
    if solver == "caffe_lenet":
        return 0.01 * (1 + 1e-4 * step) ** -0.75
    ends = {
        "caffe_cifar10_full": (60_000, 65_000),
        "caffe_cifar10_quick": (4_000,),
    }[solver]
    return 0.001 * 0.1 ** sum(step >= end for end in ends)


@pytest.mark.parametrize("solver", CAFFE_SOLVERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.79, 0.81, 0.9, 0.99])
def test_learning_rates_are_caffes(solver, share):
    found = CAFFE_SOLVERS[solver]
    step = round(share * found.num_steps)
    schedule = found.schedule(found.learning_rate, found.num_steps)
    expected = caffe_learning_rate(solver, step)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    # A training of another length goes the same way
    shorter = found.schedule(found.learning_rate, found.num_steps // 10)
    assert float(shorter(step // 10)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("solver", "learning_rates", "decays"),
    [
        ("caffe_lenet", [1, 2] * 4, [5e-4] * 8),
        # conv3 has no multipliers; ip1 has 250 for its weights, none for its bias
        (
            "caffe_cifar10_full",
            [1, 2, 1, 2, 1, 1, 1, 2],
            [0.004] * 6 + [1.0, 0.0],
        ),
    ],
)
def test_steps_are_caffes(solver, learning_rates, decays):
    name = solver.removeprefix("caffe_")
    shape = IMAGE_SHAPES[name]
    model = (
        lenet(shape, 4)
        if name == "lenet"
        else cifar10_full(shape, 4, np.zeros(shape), use_lrn=False)
    )
    found = CAFFE_SOLVERS[solver]
    optimizer = build_optimizer(solver, found.learning_rate, found.num_steps)
    generator = np.random.default_rng(1)
    variables = model.trainable_variables
    weights = [np.asarray(v, np.float64) for v in variables]
    velocities = [np.zeros_like(w) for w in weights]
    for step in range(3):
        gradients = [generator.standard_normal(w.shape) for w in weights]
        optimizer.apply(
            [keras.ops.convert_to_tensor(g, "float32") for g in gradients], variables
        )
        rate = caffe_learning_rate(solver, step)
        for i, gradient in enumerate(gradients):
            change = gradient + decays[i] * weights[i]
            velocities[i] = 0.9 * velocities[i] + rate * learning_rates[i] * change
            weights[i] -= velocities[i]
    for variable, expected in zip(variables, weights, strict=True):
        np.testing.assert_allclose(np.asarray(variable), expected, atol=1e-6)


@pytest.mark.parametrize("solver", CAFFE_SOLVERS)
def test_multipliers_name_weights_of_their_network(solver):
    build = {
        "caffe_lenet": lambda: lenet((16, 16, 1), 3),
        "caffe_cifar10_full": lambda: cifar10_full((8, 8, 3), 3, np.zeros((8, 8, 3))),
        "caffe_cifar10_quick": lambda: cifar10_quick((8, 8, 3), 3, np.zeros((8, 8, 3))),
    }
    paths = [variable.path for variable in build[solver]().trainable_variables]
    for end in CAFFE_SOLVERS[solver].multipliers:
        assert any(path.endswith(end) for path in paths), (end, paths)


def test_the_inverse_decay_is_caffes_in_longer_trainings_and_whole_in_shorter_ones():
    solver = CAFFE_SOLVERS["caffe_lenet"]
    caffes = solver.schedule(0.01, 10_000)
    longer, shorter = (solver.schedule(0.01, n) for n in (40_000, 500))
    for step in (0, 1_000, 10_000):
        assert float(longer(step)) == pytest.approx(float(caffes(step)))
    assert float(longer(40_000)) == pytest.approx(0.01 * 5**-0.75)
    assert float(shorter(500)) == pytest.approx(float(caffes(10_000)))


def test_caffes_epochs():
    assert CAFFE_SOLVERS["caffe_lenet"].num_epochs(60_000) == 11
    assert CAFFE_SOLVERS["caffe_cifar10_full"].num_epochs(50_000) == 140
    assert CAFFE_SOLVERS["caffe_cifar10_quick"].num_epochs(50_000) == 10


def test_the_setting_names_every_solver():
    assert SOLVERS == (ADAM, *CAFFE_SOLVERS)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_saved_training_goes_on_as_if_it_had_not_stopped(solver, policy, tmp_path):
    def network():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(7, name="ip1", dtype=policy),
                keras.layers.Dense(2, name="ip2", dtype=policy),
            ]
        )
        model.compile(build_optimizer(solver, 0.01, NUM_STEPS), "mse")
        return model

    generator = np.random.default_rng(2)
    inputs, targets = generator.random((8, 5)), generator.random((8, 2))
    whole = network()
    for _ in range(4):
        expected = whole.train_on_batch(inputs, targets)
    first = network()
    for _ in range(2):
        first.train_on_batch(inputs, targets)
    first.save(tmp_path / "training.keras")
    second = keras.saving.load_model(tmp_path / "training.keras")
    for _ in range(2):
        got = second.train_on_batch(inputs, targets)
    assert got == pytest.approx(expected, rel=1e-5)
