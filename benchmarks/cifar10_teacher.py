"""A CIFAR-10 teacher for benchmarks that train many students; it trains in minutes.

Caffe's networks start with very small weights, so their thin students learn nothing in
the first thousands of steps. With batch normalisation, short trainings are enough to
compare students.
"""

import json
import pathlib

import keras
import numpy as np
from keras import layers

from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.distillation.training import train_teacher

FILTERS = (24, 48, 96)


def build(num_classes=10):
    """Builds a network of three 3x3 convolutions; 6.0 M multiply-adds."""
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    for number, filters in enumerate(FILTERS, 1):
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=False, name=f"conv{number}"
        )(x)
        # With Keras's 0.99, the first steps still count after a few hundred others
        x = layers.BatchNormalization(momentum=0.9, name=f"normalization{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if number < len(FILTERS):
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(num_classes, name="logits")(x))


def load_or_train(path, epochs=12):
    """Loads the teacher from a file; trains and saves it first if there is no file."""
    if not pathlib.Path(path).exists():
        data = load("cifar10")
        keras.utils.set_random_seed(1)
        recipe = Recipe(
            epochs=epochs, precision=choose_precision("auto"), learning_rate=2e-3
        )
        teacher = train_teacher(build(), data.train, data.validation, recipe, verbose=2)
        teacher.save(path)
    return keras.saving.load_model(path, compile=False)


def some_soft_targets(teacher, train, num_examples):
    """The teacher's soft targets of all classes for `num_examples` training images."""
    chosen = np.random.default_rng(0).permutation(len(train.images))
    chosen = np.sort(chosen[:num_examples])
    some = [np.asarray(part)[chosen] for part in train]
    num_classes = teacher.outputs[0].shape[-1]
    return capture(teacher, *some, Task(range(num_classes), num_classes))


def read(paths):
    """Reads the records of files, one per line; a missing file has none."""
    return [
        json.loads(line)
        for path in paths
        if pathlib.Path(path).exists()
        for line in pathlib.Path(path).read_text().splitlines()
    ]
