"""A run makes its checks once: what a user's builder and the teacher are asked for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_data, make_network

from tskd_tf.data.splits import ImageData, Split
from tskd_tf.errors import InputError
from tskd_tf.run import search_job
from tskd_tf.run.config import RunConfig
from tskd_tf.search import trainer

RATES = (0.25, 0.5, 0.75, 1.0)
# Of a pixel, which only test images have
MARK = 255
built: list[float] = []
marked_images_seen: list[int] = []


def _note_marked(images):
    marked_images_seen.append(int((images[:, 0, 0, 0] == MARK).sum()))
    return images


@keras.saving.register_keras_serializable("tests")
class Watched(keras.layers.Layer):
    """Passes images on, and notes how many of them have the mark."""

    def call(self, images):
        noted = tf.numpy_function(_note_marked, [images], images.dtype)
        return tf.ensure_shape(noted, images.shape)

    def compute_output_shape(self, input_shape):
        return input_shape


def build(rate):
    built.append(rate)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Rescaling(1 / 255)(inputs)
    hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.Dense(int(16 * rate), activation="relu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(4)(hidden))


@pytest.fixture
def data():
    splits = []
    for seed, count in enumerate((128, 64, 40)):
        images, class_ids = make_data(count, seed)
        images[:, 0, 0, 0] = MARK if count == 40 else 0
        splits.append(Split(images, class_ids))
    return ImageData("made up", ["a", "b", "c", "d"], *splits)


@pytest.fixture
def teacher_file(tmp_path):
    inputs = keras.Input((8, 8, 1))
    path = tmp_path / "teacher.keras"
    keras.Model(inputs, make_network()(Watched()(inputs))).save(path)
    return str(path)


@pytest.mark.parametrize("method", ["distillation", "mutual"])
def test_students_are_built_once_and_the_teacher_sees_test_images_once(
    data, teacher_file, tmp_path, monkeypatch, method
):
    built.clear()
    built_before_training = []
    train = trainer.train_student

    def note_and_train(*args, **kwargs):
        built_before_training.append(list(built))
        return train(*args, **kwargs)

    monkeypatch.setattr(trainer, "train_student", note_and_train)
    monkeypatch.setattr(search_job, "load_data", lambda config: data)
    marked_images_seen.clear()
    search_job.run(
        RunConfig(
            teacher=teacher_file,
            student_builder="test_prepared_once:build",
            method=method,
            num_students=2,
            rate_step=0.25,
            max_accuracy_loss=0.9,
            max_macs=10_000,
            epochs=1,
            exports=("keras",),
            output_dir=str(tmp_path / "run"),
        )
    )
    first = built_before_training[0]
    assert len(first) == len(set(first)) and set(first) <= set(RATES)
    assert sum(marked_images_seen) == len(np.asarray(data.test.images))


def broken(rate):
    raise ValueError("no such student")


def test_a_teacher_without_students_is_refused_before_it_is_trained(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(search_job, "load_data", lambda config: data)
    monkeypatch.setattr(
        search_job, "build_or_load_teacher", lambda config, data: make_network()
    )
    folder = tmp_path / "run"
    config = RunConfig(
        mode="teacher",
        student_builder="test_prepared_once:broken",
        output_dir=str(folder),
    )
    with pytest.raises(InputError, match="to give a student.*no such student"):
        search_job.run(config)
    assert not folder.exists()
