import keras
import numpy as np
import pytest
from conftest import make_network
from keras import layers

import tskd_tf
from tskd_tf.errors import InputError
from tskd_tf.networks.graph import (
    check_logits,
    check_model,
    head_layer,
    layer_calls,
    output_activation,
)
from tskd_tf.networks.rebuild import as_logits, with_policy
from tskd_tf.networks.width import scale_width


def of_logits(finish):
    """A model that ends in what `finish` makes of four logits."""
    image = keras.Input((8, 8, 1))
    return keras.Model(image, finish(layers.Dense(4)(layers.Flatten()(image))))


def softmax_heads():
    image = keras.Input((8, 8, 1))
    softmax = layers.Dense(4, activation="softmax")(layers.Flatten()(image))
    # Keras's own advice for mixed precision
    cast = layers.Activation("linear", dtype="float32")(layers.Dropout(0.1)(softmax))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(image))
    by_place = layers.GlobalAveragePooling2D(keepdims=True)(image)
    by_place = layers.Conv2D(4, 1, activation="softmax")(by_place)
    inner = of_logits(keras.ops.softmax)
    return {
        "activation of the head": make_network(4, "softmax"),
        "softmax layer": of_logits(layers.Softmax()),
        "activation layer": of_logits(layers.Activation("softmax")),
        "operation": of_logits(keras.ops.softmax),
        "log-softmax": of_logits(layers.Activation("log_softmax")),
        "nested": keras.Sequential(
            [keras.Input((8, 8, 1)), make_network(4, "softmax")]
        ),
        "nested operation": keras.Model(image, inner(layers.ReLU()(image))),
        "passed through": keras.Model(image, cast),
        "convolution and pooling": keras.Model(image, layers.Softmax()(pooled)),
        "convolution of one place": keras.Model(image, layers.Flatten()(by_place)),
    }


@pytest.mark.parametrize("name", softmax_heads())
def test_a_softmax_head_becomes_logits_without_changing_predictions(name, arrays):
    model = softmax_heads()[name]
    assert output_activation(model) == (
        "log_softmax" if name == "log-softmax" else "softmax"
    )
    with pytest.raises(InputError, match=r"tskd_tf\.as_logits\(model\)"):
        check_logits(model, "the teacher")
    before = model.get_weights()
    logits = tskd_tf.as_logits(model)
    check_logits(logits, "the teacher")
    assert tskd_tf.as_logits(logits) is logits
    images = arrays[0]
    expected, got = model(images).numpy(), logits(images).numpy()
    np.testing.assert_array_equal(got.argmax(-1), expected.argmax(-1))
    if name == "log-softmax":
        expected = np.exp(expected)
    np.testing.assert_allclose(keras.ops.softmax(got), expected, atol=1e-6)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_logits_are_left_alone():
    for model in (make_network(), make_network(4, "relu")):
        assert as_logits(model) is model


@pytest.mark.parametrize(
    "finish",
    [
        layers.Activation("sigmoid"),
        keras.ops.sigmoid,
        layers.Activation("hard_sigmoid"),
    ],
)
def test_a_sigmoid_head_is_refused_with_the_reason(finish):
    model = of_logits(finish)
    with pytest.raises(InputError, match="decides each class separately"):
        as_logits(model)
    with pytest.raises(InputError, match="the teacher.*sigmoid.*softmax cross entropy"):
        check_logits(model, "the teacher")


def test_a_softmax_that_cannot_be_taken_off_is_refused():
    image = keras.Input((8, 8, 1))
    by_place = layers.Conv2D(4, 1, activation="softmax")(image)
    mean = keras.Model(image, layers.GlobalAveragePooling2D()(by_place))
    with pytest.raises(InputError, match="train a head with the pooling before"):
        as_logits(mean)
    softmax = layers.Softmax()
    gate = layers.Multiply()([softmax(layers.Conv2D(4, 1)(image)), by_place])
    logits = layers.GlobalAveragePooling2D()(gate)
    with pytest.raises(InputError, match="elsewhere; add a separate"):
        as_logits(keras.Model(image, softmax(logits)))


def test_policy_changes_the_arithmetic_not_the_weights(arrays):
    model = make_network()
    low = with_policy(model, "mixed_bfloat16")
    for got, expected in zip(low.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(got, expected)
    images = arrays[0]
    rounded, exact = low(images).numpy(), model(images).numpy()
    assert rounded.dtype == np.float32 and (rounded != exact).any()
    np.testing.assert_allclose(rounded, exact, atol=0.05)
    np.testing.assert_array_equal(with_policy(low, "float32")(images), exact)


def test_a_head_that_is_pooled_is_not_rounded():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 1)(layers.Conv2D(3, 3)(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    low = with_policy(model, "mixed_bfloat16")
    dtypes = [layer.compute_dtype for layer in low.layers[1:]]
    assert dtypes == ["bfloat16", "float32", "float32"]


def test_copies_are_not_compiled():
    model = make_network(4, "softmax")
    model.compile("adam", "sparse_categorical_crossentropy")
    assert not as_logits(model).compiled
    assert model.compiled


def test_the_head_is_the_last_layer_with_a_width():
    assert head_layer(make_network()).units == 4
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(5, 1)(layers.Conv2D(3, 3)(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    assert head_layer(model).filters == 5


def test_calls_know_their_input_shapes():
    calls = [
        (call.layer.name, call.input_shapes[0]) for call in layer_calls(make_network())
    ]
    shapes = [shape for _, shape in calls]
    assert shapes[1:4] == [(None, 8, 8, 1), (None, 6, 6, 8), (None, 3, 3, 8)]


def test_models_that_are_no_image_classifiers_are_refused():
    flat = keras.Sequential([keras.Input((10,)), layers.Dense(3)])
    with pytest.raises(InputError, match="images.*logits"):
        check_model(flat, "the teacher")
    maps = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3)])
    with pytest.raises(InputError, match="images.*logits"):
        check_model(maps, "the teacher")


def test_a_model_that_gives_a_dictionary_is_refused_with_the_way_out(arrays):
    image = keras.Input((8, 8, 1), name="image")
    logits = layers.Dense(4)(layers.Flatten()(image))
    model = keras.Model(image, {"logits": logits})
    with pytest.raises(InputError, match=r"keras\.Model\(model\.inputs\[0\], "):
        as_logits(model)
    plain = as_logits(keras.Model(model.inputs[0], model.outputs[0]))
    assert plain(arrays[0]).shape == (64, 4)
    listed = keras.Model(image, [logits])
    np.testing.assert_array_equal(as_logits(listed)(arrays[0]), plain(arrays[0]))


def test_a_layer_that_cannot_be_copied_is_named():
    image = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Lambda(lambda pixels: pixels / 255, name="odd")(image))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(x))
    for copy in (as_logits, lambda model: scale_width(model, 0.5)):
        with pytest.raises(InputError, match="'odd' of type Lambda; put layers of"):
            copy(model)


class Doubled(layers.Layer):
    """A layer of the user's own that leaves its output's shape to Keras."""

    def call(self, inputs):
        return keras.ops.concatenate([inputs, inputs], axis=-1)


def test_a_layer_need_not_know_the_shape_of_its_output():
    stack = [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3), Doubled()]
    calls = layer_calls(keras.Sequential([*stack, layers.Dense(4)]))
    shapes = [call.output_shape for call in calls]
    assert shapes == [(None, 64), (None, 3), (None, 6), (None, 4)]
