"""What does not fit, given to each door of the Python API: an InputError, one line.

Each door is tried in the way that users run it: traced, not eagerly.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_network
from keras import layers

import tskd_tf
from tskd_tf.errors import InputError

RECIPE = tskd_tf.Recipe(epochs=1)


def find(teacher, data, task=None):
    return tskd_tf.find_smallest_student(
        teacher, data, data, data, task, rates=[0.5], recipe=RECIPE, verbose=0
    )


def fit_live(teacher, data, task=None):
    distiller = tskd_tf.Distiller(make_network(), teacher, task=task)
    distiller.compile()
    distiller.fit(*data, shuffle=False, verbose=0)


DOORS_OF_DATA = {
    "transfer_set": lambda teacher, data: tskd_tf.transfer_set(data, teacher),
    "find_smallest_student": find,
    "Distiller.fit": fit_live,
}
DOORS_OF_MODELS = {
    "scale_width": lambda model, data: tskd_tf.scale_width(model, 0.5),
    "as_logits": lambda model, data: tskd_tf.as_logits(model),
    "transfer_set": lambda model, data: tskd_tf.transfer_set(data, model),
    "find_smallest_student": find,
    "Distiller, teacher": fit_live,
    "Distiller, student": lambda model, data: tskd_tf.Distiller(model),
}


def assert_refused(message, door, *arguments):
    with pytest.raises(InputError, match=message) as caught:
        door(*arguments)
    assert "\n" not in str(caught.value)


def models():
    def logits_of(value):
        return layers.Dense(4)(layers.Flatten()(value))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = make_network()

        def call(self, inputs):
            return self.inner(inputs)

    image, other = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    subclassed = Subclassed()
    subclassed(np.zeros((1, 8, 8, 1)))
    return {
        "two inputs": (
            keras.Model([image, other], logits_of(layers.Add()([image, other]))),
            "one input and one output.*2 inputs and 1 outputs",
        ),
        "two outputs": (
            keras.Model(image, [logits_of(image), logits_of(image)]),
            "one input and one output.*1 inputs and 2 outputs",
        ),
        "named outputs": (
            keras.Model(image, {"a": logits_of(image), "b": logits_of(image)}),
            "one input and one output.*1 inputs and 2 outputs",
        ),
        "subclassed": (subclassed, "Functional or Sequential.*Subclassed"),
        "a sigmoid": (make_network(4, "sigmoid"), "decides each class separately"),
    }


# The width rule knows of no activations: it makes a student that Distiller refuses
PAIRS = sorted({*itertools.product(DOORS_OF_MODELS, models())})
PAIRS.remove(("scale_width", "a sigmoid"))


@pytest.mark.parametrize(("door", "name"), PAIRS)
def test_models(door, name, arrays):
    model, message = models()[name]
    assert_refused(message, DOORS_OF_MODELS[door], model, arrays)


def labels(kind, class_ids):
    return {
        "one-hot": np.eye(4)[class_ids],
        "float": class_ids.astype("float32"),
        "too large": np.where(class_ids == 3, 4, class_ids),
        "negative": np.where(class_ids == 3, -1, class_ids),
    }[kind]


@pytest.mark.parametrize("as_dataset", [False, True], ids=["arrays", "dataset"])
@pytest.mark.parametrize("kind", ["one-hot", "float", "too large", "negative"])
@pytest.mark.parametrize("door", DOORS_OF_DATA)
def test_labels(arrays, teacher, door, kind, as_dataset):
    images, class_ids = arrays
    data = (images, labels(kind, class_ids))
    if as_dataset:
        data = tf.data.Dataset.from_tensor_slices(data).batch(16)
        data = (data,) if door == "Distiller.fit" else data
    if kind in ("one-hot", "float"):
        message = "one integer"
        message += ".*argmax" if kind == "one-hot" else ".*float32"
    else:
        message = "from 0 to 3.*" + ("4" if kind == "too large" else "-1")
    assert_refused(message, DOORS_OF_DATA[door], teacher, data)


def test_labels_of_validation(arrays, teacher):
    distiller = tskd_tf.Distiller(make_network(), teacher)
    distiller.compile(metrics=["accuracy"])
    images, class_ids = arrays
    for kind, message in (("one-hot", "argmax"), ("too large", "from 0 to 3.*: 4")):
        wrong = (images, labels(kind, class_ids))
        assert_refused(message, distiller.evaluate, *wrong)


@pytest.mark.parametrize("channels", [3, 2])
@pytest.mark.parametrize("door", DOORS_OF_DATA)
def test_channels(arrays, teacher, door, channels):
    images, class_ids = arrays
    data = (np.repeat(images, channels, axis=-1), class_ids)
    message = rf"8, 8, 1\).*8, 8, {channels}\)"
    assert_refused(message, DOORS_OF_DATA[door], teacher, data)


@pytest.mark.parametrize("door", DOORS_OF_DATA)
def test_images_without_a_channel_axis(arrays, teacher, door):
    images, class_ids = arrays
    data = (images[..., 0], class_ids)
    assert_refused(r"8, 8, 1\)", DOORS_OF_DATA[door], teacher, data)


def test_tasks_outside_the_teachers_outputs(arrays, teacher):
    assert_refused(r"from 0 to 3. Received: \[4\]", tskd_tf.Task, [0, 4], 4)
    assert_refused(r"from 0 to 3. Received: \[-1\]", tskd_tf.Task, [0, -1], 4)
    task = tskd_tf.Task([0, 4], 5, head="task")
    for door in (
        lambda: tskd_tf.scale_width(teacher, 0.5, task),
        lambda: tskd_tf.transfer_set(arrays, teacher, task),
        lambda: find(teacher, arrays, task),
        lambda: tskd_tf.Distiller(make_network(2), teacher, task=task),
    ):
        assert_refused("5.*4", door)


def test_a_list_is_no_task(arrays, teacher):
    images, class_ids = arrays
    for door in (
        lambda: tskd_tf.scale_width(teacher, 0.5, [0, 1]),
        lambda: tskd_tf.transfer_set(arrays, teacher, [0, 1]),
        lambda: find(teacher, arrays, [0, 1]),
        lambda: tskd_tf.Distiller(make_network(2), teacher, task=[0, 1]),
        lambda: tskd_tf.channel_importance(teacher, [0, 1], images, class_ids),
    ):
        assert_refused(r"tskd_tf\.Task.*Received: \[0, 1\]", door)
