"""Where the stages of a network end: the same maps in a teacher and its thin copy."""

import keras
import numpy as np
import pytest
from keras import layers

from tskd_tf.distillation.methods.stages import with_stages
from tskd_tf.errors import InputError
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.width import scale_width
from tskd_tf.networks.zoo.models import cifar10_full, lenet


def residual(is_pre_activated):
    """Three stages of one block; strides shrink, gates come between."""

    def normal(x):
        return layers.ReLU()(layers.BatchNormalization()(x))

    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255)(image))
    for width, strides in ((4, 1), (8, 2), (16, 2)):
        before = normal(x) if is_pre_activated else x
        shortcut = layers.Conv2D(width, 1, strides=strides)(before)
        x = layers.ZeroPadding2D(1)(before)
        x = layers.Conv2D(width, 3, strides=strides)(x)
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = x * layers.Conv2D(width, 1, activation="sigmoid")(gate)
        x = layers.Add()([x, shortcut])
        x = x if is_pre_activated else normal(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(x)))


def nested():
    body = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 3, padding="same"),
        ]
    )
    image = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(body(image))
    return keras.Model(image, layers.Dense(5)(x))


THREE = [(32, 32, 4), (16, 16, 8), (8, 8, 16)]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: lenet((28, 28, 1), 10), [(24, 24, 20), (8, 8, 50)]),
        (
            lambda: cifar10_full((32, 32, 3), 10, np.zeros((32, 32, 3))),
            [(32, 32, 32), (16, 16, 32), (8, 8, 64)],
        ),
        (lambda: residual(False), THREE),
        (lambda: residual(True), THREE),
        (nested, [(16, 16, 4), (8, 8, 8)]),
    ],
    ids=["lenet", "cifar10_full", "residual", "pre-activated", "nested"],
)
def test_stages_end_where_maps_shrink(tmp_path, build, expected):
    teacher = build()
    student = scale_width(teacher, 0.5)
    view = with_stages(teacher, "the teacher")
    assert [tensor.shape[1:] for tensor in view.outputs[1:]] == expected
    thin = with_stages(student, "the student").outputs[1:]
    assert [tensor.shape[1:3] for tensor in thin] == [shape[:2] for shape in expected]
    mixed = with_stages(with_policy(student, "mixed_bfloat16"), "the student")
    assert [t.shape for t in mixed.outputs[1:]] == [t.shape for t in thin]
    # It is the network itself, and leaves it as it was
    images = np.random.default_rng(0).uniform(0, 255, (2, *teacher.input_shape[1:]))
    np.testing.assert_allclose(view(images)[0], teacher(images), atol=1e-4)
    assert view.count_params() == teacher.count_params()
    teacher.save(tmp_path / "teacher.keras")
    loaded = keras.models.load_model(tmp_path / "teacher.keras")
    np.testing.assert_allclose(loaded(images), teacher(images), atol=1e-4)


def test_a_stage_ends_with_its_last_layer():
    model = residual(False)
    view = with_stages(model, "the teacher")
    last = [x for x in model.layers if isinstance(x, layers.ReLU)]
    outputs = keras.Model(model.input, [layer.output for layer in last])
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    for a, b in zip(view(images)[1:], outputs(images), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8, 1), (None, None, 1)])
def test_a_network_without_maps_is_refused(size):
    image = keras.Input(size)
    is_free = size[0] is None
    x = layers.Conv2D(3, 3)(image) if is_free else image
    x = layers.GlobalAveragePooling2D()(x) if is_free else layers.Flatten()(x)
    model = keras.Model(image, layers.Dense(2)(x))
    with pytest.raises(InputError, match="the student to have feature maps"):
        with_stages(model, "the student")
