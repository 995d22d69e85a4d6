"""Keras's callbacks with the Distiller, on real digits."""

import csv
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import train_with_backup
from digits import mnist_data

import tskd_tf

TASK = tskd_tf.Task([3, 5, 8], 10, head="task")


@pytest.fixture(scope="module")
def digits():
    """600 and 300 images of all digits, in turn."""
    pixels, class_ids = mnist_data()
    order = np.arange(5000).reshape(10, 500).T.ravel()
    images = pixels[order].reshape(-1, 28, 28, 1).astype(np.uint8)
    class_ids = class_ids[order]
    return (images[:600], class_ids[:600]), (images[600:900], class_ids[600:900])


@pytest.fixture(scope="module")
def digits_teacher(digits):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(12, 5, strides=2, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    model.fit(*digits[0], epochs=5, verbose=0)
    return model


@pytest.fixture
def fit(digits, digits_teacher):
    """Fits a fresh Distiller with callbacks; returns it and its history."""
    data = tskd_tf.transfer_set(digits[0], digits_teacher, TASK, batch_size=30)

    def fit_distiller(*callbacks, epochs=4, dtype_policy=None, **settings):
        student = tskd_tf.scale_width(
            digits_teacher, 0.25, TASK, dtype_policy=dtype_policy
        )
        distiller = tskd_tf.Distiller(student, task=TASK)
        optimizer = keras.optimizers.Adam(settings.pop("learning_rate", 0.02))
        distiller.compile(optimizer, metrics=["accuracy"], **settings)
        history = distiller.fit(
            data,
            validation_data=TASK.filter(digits[1]),
            epochs=epochs,
            callbacks=list(callbacks),
            shuffle=False,
            verbose=0,
        )
        return distiller, history

    return fit_distiller


class KeepWeights(keras.callbacks.Callback):
    """The student's weights after each epoch."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.student.get_weights())


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def scalars(folder):
    """Tag → values of a TensorBoard run."""
    values = {}
    for events in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(events)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = tf.make_ndarray(value.tensor).item()
                    values.setdefault(value.tag, []).append(number)
    return values


def test_tensorboard_shows_what_the_history_does(fit, tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq="epoch")
    _, history = fit(board)
    shown = scalars(tmp_path / "train")
    for name in ("loss", "hard_loss", "soft_loss", "accuracy"):
        expected = pytest.approx(history.history[name], rel=1e-5)
        assert shown[f"epoch_{name}"] == expected
    shown = scalars(tmp_path / "validation")
    for name in ("loss", "accuracy"):
        expected = pytest.approx(history.history[f"val_{name}"], rel=1e-5)
        assert shown[f"epoch_{name}"] == expected


def test_checkpoints_of_the_whole_distiller(fit, digits, tmp_path):
    path = tmp_path / "best.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="val_accuracy", save_best_only=True
    )
    kept = KeepWeights()
    _, history = fit(checkpoint, kept)
    best = int(np.argmax(history.history["val_accuracy"]))
    loaded = keras.saving.load_model(path)
    assert_same(loaded.student.get_weights(), kept.weights[best])
    images, labels = TASK.filter(digits[1])
    got = loaded.evaluate(images, labels, verbose=0, return_dict=True)
    assert got["accuracy"] == pytest.approx(history.history["val_accuracy"][best])


def test_checkpoints_of_weights(fit, digits, tmp_path):
    path = tmp_path / "{epoch}.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    distiller, _ = fit(checkpoint)
    assert len(list(tmp_path.iterdir())) == 4
    fresh, _ = fit(epochs=1)
    fresh.load_weights(tmp_path / "4.weights.h5")
    images = digits[1][0]
    np.testing.assert_array_equal(
        fresh.predict(images, verbose=0), distiller.predict(images, verbose=0)
    )
    # The optimiser's memory is in them
    for a, b in zip(fresh.optimizer.variables, distiller.optimizer.variables):
        np.testing.assert_array_equal(a, b)


def test_early_stopping_restores_the_best_weights(fit):
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=1, min_delta=10.0, restore_best_weights=True
    )
    kept = KeepWeights()
    distiller, history = fit(kept, stopping)
    assert history.epoch == [0, 1]
    assert_same(distiller.student.get_weights(), kept.weights[0])


@pytest.mark.parametrize("dtype_policy", ["float32", "mixed_float16"])
def test_the_learning_rate_falls_on_a_plateau(fit, dtype_policy):
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.5, patience=1, min_delta=10.0
    )
    distiller, history = fit(plateau, dtype_policy=dtype_policy)
    # In the order of Keras: the rate that the epoch was trained with
    expected = [0.02, 0.02, 0.01, 0.005]
    assert history.history["learning_rate"] == pytest.approx(expected)
    rate = keras.ops.convert_to_numpy(distiller.optimizer.learning_rate)
    assert rate == pytest.approx(0.0025)


def test_csv_logger(fit, tmp_path):
    path = tmp_path / "log.csv"
    _, history = fit(keras.callbacks.CSVLogger(path))
    with open(path) as file:
        rows = list(csv.DictReader(file))
    losses = ["accuracy", "hard_loss", "loss", "soft_loss", "val_accuracy", "val_loss"]
    assert list(rows[0]) == ["epoch", *losses]
    for name in losses:
        got = [float(row[name]) for row in rows]
        assert got == pytest.approx(history.history[name]), name


def test_nan_ends_the_training(fit):
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["loss"])
    )
    stop = keras.callbacks.TerminateOnNaN()
    _, history = fit(count, stop, learning_rate=1e38, jit_compile=False)
    assert history.epoch == [0]
    assert not np.isfinite(seen[-1]) and np.isfinite(seen[:-1]).all()
    assert len(seen) < 6


@pytest.mark.long
def test_a_killed_training_goes_on_where_it_was(tmp_path):
    """SIGKILL in the third epoch; in the end the weights of an undisturbed run."""
    script = str(pathlib.Path(train_with_backup.__file__))
    step = 2 * train_with_backup.STEPS_PER_EPOCH + 2
    arguments = [sys.executable, script, str(tmp_path / "backup")]
    arguments.append(str(tmp_path / "weights.npz"))
    killed = subprocess.run([*arguments, str(step)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights.npz").exists()
    subprocess.run(arguments, check=True, capture_output=True)
    with np.load(tmp_path / "weights.npz") as stored:
        assert stored["epochs"].tolist() == [2, 3]
        weights = [stored[f"arr_{i}"] for i in range(len(stored.files) - 1)]
    expected, epochs = train_with_backup.train(str(tmp_path / "other"))
    assert epochs == [0, 1, 2, 3]
    for got, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
