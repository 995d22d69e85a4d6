"""Students of the networks that Keras ships, from a step to the device's file."""

import keras
import numpy as np
import pytest
from example_networks import randomize

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.export.litert import open_litert
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.width import scale_width

TASK = Task([3, 0], 5, head="task")
# The smallest images that each takes
IMAGE_SIZES = {
    "VGG16": 32,
    "ResNet50V2": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "EfficientNetV2B0": 32,
    "DenseNet121": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "ConvNeXtTiny": 32,
    "NASNetMobile": 32,
}
RATES = [1.0, 0.5, 0.25, 0.37]


def application(name, size=None):
    size = size or IMAGE_SIZES[name]
    return getattr(keras.applications, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=5,
        classifier_activation=None,
    )


def run_student(teacher, rate, folder):
    """Builds, trains a step, saves, reloads, exports; returns what each file loses."""
    student = scale_width(teacher, rate, TASK, initialize="teacher")
    size = teacher.input_shape[1]
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    labels = np.arange(4) % 2
    before = student.get_weights()
    distiller = Distiller(student, teacher, task=TASK)
    distiller.compile("sgd", metrics=["accuracy"], run_eagerly=True)
    distiller.train_on_batch(images, labels)
    assert any((a != b).any() for a, b in zip(before, student.get_weights()))
    expected = student.predict(images, verbose=0)
    assert expected.shape == (4, 2) and np.isfinite(expected).all()
    student.save(folder / "student.keras")
    student.export(str(folder / "student.tflite"), format="litert", verbose=False)
    loaded = keras.saving.load_model(folder / "student.keras")
    scale = max(1.0, np.abs(expected).max())
    losses = [
        np.abs(got - expected).max() / scale
        for got in (
            loaded.predict(images, verbose=0),
            open_litert(str(folder / "student.tflite")).outputs(images),
        )
    ]
    return student, losses


LONG = [("VGG16", 1.0), ("MobileNetV2", 0.37), ("MobileNetV3Small", 0.5)]
ALL = [(name, rate) for name in IMAGE_SIZES for rate in RATES]
# One plain, and of each kind of mobile block one, with additions
QUICK_NAMES = ("VGG16", "MobileNetV2", "MobileNetV3Small")


@pytest.mark.parametrize(
    "name, rate",
    [
        pytest.param(
            *case, marks=pytest.mark.long if case in LONG else pytest.mark.slow
        )
        for case in ALL
    ],
)
def test_students_train_and_keep_their_predictions_in_files(name, rate, tmp_path):
    student, losses = run_student(randomize(application(name)), rate, tmp_path)
    assert losses[0] == 0 and losses[1] < 1e-4
    assert complexity(student).num_macs > 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK_NAMES else pytest.mark.long)
        for name in IMAGE_SIZES
    ],
)
def test_students_of_every_size(name):
    teacher = randomize(application(name))
    size = IMAGE_SIZES[name]
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3))
    images = images.astype("float32")
    expected = teacher(images).numpy()[:, [3, 0]]
    same = scale_width(teacher, 1.0, TASK, initialize="teacher")
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(same(images) / scale, expected / scale, atol=1e-5)
    student = scale_width(teacher, 0.37, TASK)
    assert student.output_shape == (None, 2)
    ratio = complexity(student).num_macs / complexity(teacher).num_macs
    # 0.37² and what comes from the image, whose channels stay; widths of a few round up
    assert 0.13 < ratio < 0.25
