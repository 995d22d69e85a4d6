"""What holds for every method that learns from more than logits."""

import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from conftest import make_network

from tskd_tf.choices import METHODS
from tskd_tf.distillation.methods.method import Parts, method_named
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.networks.width import scale_width

OF_FEATURES = ("hint", "pre_regression", "online", "mutual")


def make(method, teacher, task, policy=None, **settings):
    """A compiled distiller of students of rate 0.5, the same for the same seed."""
    keras.utils.set_random_seed(3)
    parts = Parts(
        lambda: scale_width(teacher, 0.5, task, dtype_policy=policy),
        teacher,
        task,
        num_students=2,
    )
    distiller = method_named(method).build(parts)
    # Hints of four steps: one of two epochs of eight images each
    distiller.compile(
        **{"optimizer": keras.optimizers.Adam(0.01), "jit_compile": False, **settings},
        **({"hint_steps": 4} if method == "hint" else {}),
    )
    return distiller


def fit(distiller, arrays, task, epochs=2):
    images, labels = task.filter(arrays)
    history = distiller.fit(
        images, labels, batch_size=8, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history


def assert_same(first, second, atol):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize("method", OF_FEATURES)
def test_a_graph_does_what_python_does(trained_teacher, arrays, small_task, method):
    frozen = trained_teacher.get_weights()
    eager, graph = (
        make(method, trained_teacher, small_task, run_eagerly=is_eager)
        for is_eager in (True, False)
    )
    expected = fit(eager, arrays, small_task)
    got = fit(graph, arrays, small_task)
    for name in expected:
        assert got[name] == pytest.approx(expected[name], rel=1e-3), name
    assert_same(graph, eager, 1e-4)
    for a, b in zip(trained_teacher.get_weights(), frozen, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", OF_FEATURES)
def test_a_training_goes_on_from_its_file(
    tmp_path, trained_teacher, arrays, small_task, method
):
    """Saved in the middle of the hints, of an epoch each in the first half."""
    whole, half = (make(method, trained_teacher, small_task) for _ in range(2))
    arrays = tuple(part[:32] for part in arrays)
    fit(whole, arrays, small_task, epochs=3)
    fit(half, arrays, small_task, epochs=1)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    if method in ("hint", "pre_regression"):
        with pytest.raises(InputError, match="set_teacher"):
            fit(loaded, arrays, small_task)
    loaded.set_teacher(trained_teacher)
    fit(loaded, arrays, small_task, epochs=2)
    assert_same(loaded, whole, 1e-5)


@pytest.mark.parametrize("method", OF_FEATURES)
def test_losses_are_of_float32(trained_teacher, arrays, small_task, method):
    """Low precision rounds the maps, and nothing behind them."""
    mixed, plain = (
        make(method, trained_teacher, small_task, dtype, run_eagerly=True)
        for dtype in ("mixed_float16", "float32")
    )
    plain.set_weights(mixed.get_weights())
    images, labels = small_task.filter(arrays)
    dtypes = []
    compute_losses = mixed.compute_losses

    def spy(batch):
        losses, logits = compute_losses(batch)
        dtypes.extend(loss.dtype for loss in losses.values())
        return losses, logits

    mixed.compute_losses = spy
    logs = [d.train_on_batch(images, labels, return_dict=True) for d in (mixed, plain)]
    assert all(dtype == "float32" for dtype in dtypes)
    for name in logs[1]:
        assert logs[0][name] == pytest.approx(logs[1][name], rel=0.05, abs=0.01), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "telepathy"}, "method out of distillation, hint"),
        ({"num_students": 1}, "num_students of at least 2"),
        ({"hint_share": 1.0}, "hint_share from 0 to below 1"),
        ({"method": "mutual", "initialize": "teacher"}, "another initialize; leave"),
        ({"method": "online", "soft_loss_weight": 0.5}, "another soft_loss_weight;"),
    ],
)
def test_wrong_recipes_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings).check()


def test_every_method_has_its_distiller(teacher, full_task):
    names = set()
    for method in METHODS:
        parts = Parts(make_network, teacher, full_task)
        distiller = method_named(method).build(parts)
        names.add(
            (type(distiller).__name__, getattr(distiller, "fused_head", 0) is None)
        )
    assert len(names) == len(METHODS)


# Two CPUs must be asked for before TensorFlow starts them, so in a process of its own
TWO_CPUS = """
    import json
    import sys
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )

    import contextlib
    import keras
    import numpy as np
    from conftest import make_data, make_network
    from tskd_tf.distillation.methods.method import Parts, method_named
    from tskd_tf.data.task import Task

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images, labels = make_data(30)
    moved = {}
    for method in sys.argv[1:]:
        moved[method] = []
        for scope in (contextlib.nullcontext(), strategy.scope()):
            keras.utils.set_random_seed(1)
            with scope:
                parts = Parts(make_network, make_network(), Task(range(4), 4), 2)
                distiller = method_named(method).build(parts)
                distiller.compile(
                    keras.optimizers.SGD(0.1),
                    jit_compile=False,
                    **({"hint_steps": 2} if method == "hint" else {}),
                )
            before = distiller.get_weights()
            # The last batch of fourteen is shared as seven and seven, as the first
            distiller.fit(
                images, labels, batch_size=16, epochs=2, shuffle=False, verbose=0
            )
            pairs = zip(distiller.get_weights(), before)
            moved[method].append(np.concatenate([(a - b).ravel() for a, b in pairs]))
    print(json.dumps({k: [m.tolist() for m in v] for k, v in moved.items()}))
"""


@pytest.mark.long
def test_two_devices_move_all_networks_as_one_does():
    """The batch normalisation of the fused head sees the whole batch, too."""
    completed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_CPUS), *OF_FEATURES],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert completed.returncode == 0, completed.stderr
    moved = json.loads(completed.stdout.splitlines()[-1])
    assert set(moved) == set(OF_FEATURES)
    for method, (one, two) in moved.items():
        assert np.abs(one).max() > 1e-3
        np.testing.assert_allclose(two, one, atol=1e-5, err_msg=method)
