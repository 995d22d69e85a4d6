import keras
import numpy as np
import pytest
from conftest import make_network
from keras import layers

from tskd_tf.errors import InputError
from tskd_tf.graph import (
    as_logits,
    check_model,
    head_layer,
    layer_calls,
    output_activation,
    with_policy,
)


def softmax_heads():
    image = keras.Input((8, 8, 1))
    logits = layers.Dense(4)(layers.Flatten()(image))
    softmax = layers.Dense(4, activation="softmax")(layers.Flatten()(image))
    # Keras's own advice for mixed precision
    cast = layers.Activation("linear", dtype="float32")(layers.Dropout(0.1)(softmax))
    nested = keras.Sequential([keras.Input((8, 8, 1)), make_network(4, "softmax")])
    return {
        "activation of the head": make_network(4, "softmax"),
        "softmax layer": keras.Model(image, layers.Softmax()(logits)),
        "activation layer": keras.Model(image, layers.Activation("softmax")(logits)),
        "nested": nested,
        "passed through": keras.Model(image, cast),
    }


@pytest.mark.parametrize("name", softmax_heads())
def test_a_softmax_head_becomes_logits_without_changing_predictions(name, arrays):
    model = softmax_heads()[name]
    logits = as_logits(model)
    assert output_activation(model) == "softmax"
    assert output_activation(logits) == "linear"
    images = arrays[0]
    got = keras.ops.softmax(logits(images))
    np.testing.assert_allclose(got, model(images), atol=1e-6)


def test_logits_are_left_alone_and_other_heads_refused():
    model = make_network()
    assert as_logits(model) is model
    with pytest.raises(InputError, match="sigmoid"):
        as_logits(make_network(4, "sigmoid"))
    image = keras.Input((8, 8, 1))
    logits = layers.Dense(4)(layers.Flatten()(image))
    with pytest.raises(InputError, match="softmax"):
        as_logits(keras.Model(image, keras.ops.softmax(logits)))


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
