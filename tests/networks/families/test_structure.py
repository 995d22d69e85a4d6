"""The rules that make a network compact, each by small networks."""

import keras
import numpy as np
import pytest
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.structure import (
    first_stride,
    stems,
    with_normalization,
    with_separable_convolutions,
    with_strided_stem,
)
from tskd_tf.networks.graph import layer_calls


def chain(*stack, image_shape=(12, 12, 1)):
    """A classifier of four classes: the stack, then a dense head."""
    end = [layers.Flatten(name="flatten"), layers.Dense(4, name="head")]
    return keras.Sequential([keras.Input(image_shape), *stack, *end])


def graph(tensors, image_shape=(12, 12, 3)):
    """A classifier of four classes, from a function of the image."""
    image = keras.Input(image_shape)
    pooled = layers.GlobalAveragePooling2D(name="mean")(tensors(image))
    return keras.Model(image, layers.Dense(4, name="head")(pooled))


def conv(filters, size, name, **settings):
    return layers.Conv2D(filters, size, name=name, **settings)


def residual(image):
    """Two stages of residual blocks, the second of half the size."""
    x = conv(4, 3, "stem", padding="same", activation="relu")(image)
    x = layers.Add()([x, conv(4, 3, "first", padding="same")(x)])
    branch = conv(6, 3, "branch", strides=2, padding="same")(layers.ReLU()(x))
    shortcut = conv(6, 1, "shortcut", strides=2)(x)
    return conv(6, 3, "last", padding="same")(layers.Add()([branch, shortcut]))


def shapes(model):
    return {call.layer.name: call.output_shape[1:] for call in layer_calls(model)}


def names(model):
    return [call.layer.name for call in layer_calls(model)]


def test_the_stem_takes_the_stride_of_the_pooling_behind_it():
    model = chain(
        layers.Rescaling(1 / 255),
        conv(4, 5, "stem"),
        layers.ReLU(name="relu"),
        layers.MaxPooling2D(2, name="pool"),
        conv(6, 3, "second"),
        layers.MaxPooling2D(2, name="pool2"),
    )
    strided = with_strided_stem(model)
    assert strided.get_layer("stem").strides == (2, 2)
    assert type(strided.get_layer("pool")) is layers.Identity
    # Only the first: the maps behind are as they were
    assert type(strided.get_layer("pool2")) is layers.MaxPooling2D
    before, after = shapes(model), shapes(strided)
    assert before.pop("stem") == (8, 8, 4) and after.pop("stem") == (4, 4, 4)
    assert before.pop("relu") == (8, 8, 4) and after.pop("relu") == (4, 4, 4)
    assert after == before
    assert strided(np.zeros((2, 12, 12, 1))).shape == (2, 4)


def test_what_lies_between_the_stem_and_the_first_stride_becomes_smaller():
    model = graph(residual)
    found = first_stride(model)
    assert [layer.name for layer in found.stems] == ["stem"]
    assert {layer.name for layer in found.strided} == {"branch", "shortcut"}
    assert found.strides == (2, 2)
    strided = with_strided_stem(model)
    after = shapes(strided)
    assert after["stem"] == after["first"] == (6, 6, 4)
    assert after["branch"] == after["last"] == shapes(model)["last"] == (6, 6, 6)
    assert strided.get_layer("branch").strides == (1, 1)
    assert complexity(strided).num_macs < complexity(model).num_macs


def test_nested_models_are_entered():
    inner_image = keras.Input((12, 12, 3))
    inner = keras.Model(inner_image, residual(inner_image), name="inner")
    strided = with_strided_stem(graph(inner))
    assert shapes(strided)["stem"] == (6, 6, 4)
    assert shapes(strided)["last"] == (6, 6, 6)


def shared_across_sizes(image):
    shared = layers.MaxPooling2D(2)
    return shared(shared(conv(4, 3, "stem", padding="same")(image)))


def of_two_sizes(image):
    x = conv(4, 3, "stem", padding="same")(image)
    small = layers.UpSampling2D(2)(layers.MaxPooling2D(2)(x))
    return layers.Add()([x, small])


def of_two_strides(image):
    x = conv(4, 3, "stem", padding="same")(image)
    wide = layers.AveragePooling2D(3, name="wide")(x)
    small = layers.ZeroPadding2D(((0, 2), (0, 2)))(wide)
    return layers.Concatenate()([layers.MaxPooling2D(2)(x), small])


@pytest.mark.parametrize(
    "tensors",
    [
        lambda image: conv(4, 3, "stem")(image),
        lambda image: layers.MaxPooling2D(2)(conv(4, 3, "stem", strides=2)(image)),
        lambda image: layers.MaxPooling2D(4)(conv(4, 3, "stem")(image)),
        lambda image: layers.MaxPooling2D(2)(conv(4, 1, "stem")(image)),
        lambda image: layers.Conv2DTranspose(4, 2, strides=2)(conv(4, 3, "s")(image)),
        shared_across_sizes,
        of_two_sizes,
        of_two_strides,
    ],
)
def test_what_cannot_be_moved_stays(tensors):
    model = graph(tensors)
    assert first_stride(model) is None
    assert with_strided_stem(model) is model


def test_maps_that_would_be_smaller_than_a_kernel_leave_the_stem_as_it_is():
    model = chain(
        conv(4, 5, "stem"), conv(4, 3, "b"), conv(4, 5, "c"), layers.MaxPooling2D(2)
    )
    assert first_stride(model) is not None
    assert with_strided_stem(model) is model


def test_normalization_and_relu_stand_where_the_teacher_has_none():
    model = graph(
        lambda image: conv(6, 1, "b", activation="tanh")(
            layers.Dense(5, name="a", activation="relu")(conv(4, 3, "stem")(image))
        )
    )
    changed = with_normalization(model)
    assert names(changed) == [
        "stem",
        "stem_norm",
        "stem_relu",
        "a",
        "a_norm",
        "a_relu",
        "b",
        "b_norm",
        "b_tanh",
        "mean",
        "head",
    ]
    for name in ("stem", "a", "b"):
        layer = changed.get_layer(name)
        assert not layer.use_bias and layer.activation.__name__ == "linear"
    assert changed.get_layer("head").use_bias


def test_no_second_activation_follows():
    def tensors(image):
        x = layers.MaxPooling2D(2)(conv(4, 3, "stem", padding="same")(image))
        x = layers.ReLU()(x)
        branch = conv(4, 3, "branch", padding="same")(x)
        x = keras.ops.relu(layers.Add(name="add")([x, branch]))
        return layers.Concatenate()([x, conv(2, 1, "last")(x)])

    changed = with_normalization(graph(tensors))
    added = [name for name in names(changed) if name.endswith(("_norm", "_relu"))]
    # An activation follows the first, a sum the second, nothing but a mean the last
    assert added == ["stem_norm", "branch_norm", "last_norm", "last_relu"]


def test_a_teacher_that_normalizes_keeps_its_order():
    model = graph(
        lambda image: conv(3, 3, "b")(
            layers.BatchNormalization()(conv(4, 3, "stem")(image))
        )
    )
    assert with_normalization(model) is model
    # What normalises the images only does not count
    images = chain(
        layers.Normalization(mean=3.0, variance=2.0), conv(4, 3, "stem"), layers.PReLU()
    )
    assert "stem_norm" in names(with_normalization(images))


def test_convolutions_behind_the_stem_become_separable():
    model = chain(
        conv(4, 3, "stem"),
        conv(8, 3, "plain", strides=2, activation="relu"),
        conv(8, 1, "pointwise"),
        conv(8, 3, "grouped", groups=2, padding="same"),
        layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
        layers.SeparableConv2D(8, 3, padding="same", name="separable"),
    )
    changed = with_separable_convolutions(model)
    expected = ["stem", "plain_depthwise", "plain_pointwise", "pointwise", "grouped"]
    assert names(changed) == expected + ["depthwise", "separable", "flatten", "head"]
    assert changed.get_layer("plain_depthwise").strides == (2, 2)
    assert changed.get_layer("plain_pointwise").activation.__name__ == "relu"
    assert shapes(changed)["head"] == (4,)


def test_a_network_without_such_convolutions_stays():
    model = chain(conv(4, 3, "stem"), conv(8, 1, "pointwise"))
    assert with_separable_convolutions(model) is model


def test_unequal_strides_are_refused():
    model = chain(conv(4, 3, "stem"), conv(8, 3, "uneven", strides=(1, 2)))
    with pytest.raises(InputError, match="same stride in both.*'uneven'"):
        with_separable_convolutions(model)


def test_stems_are_all_that_see_the_images():
    def tensors(image):
        image = layers.Rescaling(1 / 255)(image)
        ways = [conv(4, size, f"stem{size}", padding="same")(image) for size in (3, 5)]
        return conv(4, 3, "behind")(layers.Concatenate()(ways))

    assert [layer.name for layer in stems(graph(tensors))] == ["stem3", "stem5"]


def test_adapted_preprocessing_stays():
    preprocessing = layers.Normalization(axis=-1)
    images = np.random.default_rng(0).uniform(0, 255, (20, 12, 12, 1))
    preprocessing.adapt(images)
    model = chain(
        preprocessing, conv(4, 3, "stem"), layers.MaxPooling2D(2), conv(4, 3, "b")
    )
    changed = with_separable_convolutions(with_normalization(with_strided_stem(model)))
    expected = preprocessing(images).numpy()
    assert abs(expected.std() - 1) < 0.01
    np.testing.assert_allclose(changed.layers[0](images), expected, atol=1e-5)
