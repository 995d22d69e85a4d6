"""Cheap convolutions in the place of plain ones."""

import keras
import numpy as np
import pytest
from conftest import make_data
from example_networks import random_network, randomize
from keras import layers

from tskd_tf.choices import CONVOLUTIONS
from tskd_tf.errors import InputError
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.litert import open_litert, write_litert, write_litert_int8
from tskd_tf.export.onnx import open_onnx, write_onnx
from tskd_tf.export.saved_model import open_saved_model, write_saved_model
from tskd_tf.networks.cheap_convolutions import replace_convolutions
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.layers.dominant import DominantConv2D
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.networks.width import scale_width

KINDS = [name for name in CONVOLUTIONS if name != "plain"]


def network(num_channels=12, num_classes=4, **settings):
    """A stem, a convolution of 5x5 and one of 3x3, and one of 1x1."""
    image = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(num_channels, 3, padding="same", name="stem")(x)
    x = layers.Conv2D(10, 5, padding="same", activation="relu", name="large")(x)
    x = layers.BatchNormalization(name="norm")(x)
    settings = {"strides": 2, "padding": "same", "use_bias": False, **settings}
    x = layers.Conv2D(16, 3, activation="tanh", name="small", **settings)(x)
    x = layers.Conv2D(6, 1, name="narrow")(x)
    x = layers.Dense(num_classes, name="head")(layers.GlobalAveragePooling2D()(x))
    return randomize(keras.Model(image, x))


def cost_of(model, name):
    return sum(
        row.num_macs for row in complexity(model).layers if row.name.startswith(name)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"padding": "valid"}, {"strides": 1, "dilation_rate": 2, "padding": "valid"}],
)
def test_shapes_stay_and_all_else_does(kind, settings):
    model = network(**settings)
    cheap = replace_convolutions(model, kind)
    for name in ("stem", "norm", "narrow", "head"):
        weights = cheap.get_layer(name).get_weights()
        for weight, expected in zip(
            weights, model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(weight, expected)
    for name in ("large", "small"):
        *_, last = (n for n in cheap.layers if n.name.startswith(f"{name}_"))
        old = model.get_layer(name)
        assert last.output.shape == old.output.shape
        assert (last.activation, last.use_bias) == (old.activation, old.use_bias)
        assert name not in [layer.name for layer in cheap.layers]
        assert cost_of(cheap, name) < cost_of(model, name)
    assert cheap(make_data(2)[0]).shape == (2, 4)


def test_what_each_kind_multiplies():
    model = network()
    # 12 channels to 10 filters of 5x5 at 8x8 places
    kernels = {
        "shift": 12 * 10,
        "grouped": 25 * 12 * 12 / 4 + 12 * 10,
        "depthwise": 25 * 12 + 12 * 10,
        "dominant": 25 * 12 + 12 * 10,
    }
    for kind in KINDS:
        assert cost_of(replace_convolutions(model, kind), "large") == 64 * kernels[kind]
    by_rank = replace_convolutions(model, "dominant", rank=3)
    assert cost_of(by_rank, "large") == 64 * (25 * 12 * 3 + 3 * 10)
    by_two = replace_convolutions(model, "dominant", multiplier=2)
    assert cost_of(by_two, "large") == 64 * 2 * kernels["dominant"]
    # 10 channels to 16 filters of 3x3, at 4x4 places by the stride
    small = {
        kind: cost_of(replace_convolutions(model, kind), "small") for kind in KINDS
    }
    assert small["shift"] == 16 * 10 * 16
    assert small["depthwise"] == small["dominant"] == 16 * (9 * 10 + 10 * 16)
    # 4 does not divide 10 channels, 5 does
    assert small["grouped"] == 16 * (9 * 10 * 10 / 5 + 10 * 16)


@pytest.mark.parametrize(
    "num_channels, groups, expected",
    [(12, 4, 4), (12, 5, 6), (7, 4, 7), (3, 4, 3), (12, 1, 1), (9, 2, 3)],
)
def test_groups_are_as_many_as_asked_or_the_next_that_divide(
    num_channels, groups, expected
):
    cheap = replace_convolutions(network(num_channels), "grouped", groups=groups)
    assert cheap.get_layer("large_grouped").groups == expected


@pytest.mark.parametrize("settings", [{"rank": 99}, {"multiplier": 99}])
def test_dominant_kernels_start_from_the_old_ones(settings):
    """With as many as there are they are the old ones; never more."""
    model, (images, _) = network(), make_data(4)
    full = replace_convolutions(model, "dominant", **settings)
    np.testing.assert_allclose(full(images), model(images), atol=1e-4)
    fresh = replace_convolutions(model, "dominant", from_kernels=False, **settings)
    assert np.abs(fresh(images) - model(images)).max() > 1e-2


def test_the_first_is_replaced_where_that_is_asked():
    names = {layer.name for layer in replace_convolutions(network(), "shift").layers}
    assert "stem" in names
    changed = replace_convolutions(network(), "shift", replace_first=True)
    assert "stem_shift" in {layer.name for layer in changed.layers}


def test_what_is_cheap_already_or_special_stays():
    class Special(layers.Conv2D):
        pass

    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, name="stem")(image)
    x = layers.Conv2D(8, 3, groups=2, name="groups")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = Special(8, 3, padding="same", name="special")(x)
    x = layers.Conv2D(8, 2, name="plain")(x)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    names = [layer.name for layer in replace_convolutions(model, "shift").layers]
    kept = ["stem", "groups", "depthwise", "special"]
    assert names[1:8] == [*kept, "plain_shift", "plain_crop", "plain_pointwise"]


def test_sequential_nested_and_shared_layers_are_followed():
    inner = keras.Sequential([keras.Input((8, 8, 6)), layers.Conv2D(6, 3, name="deep")])
    shared = layers.Conv2D(6, 3, padding="same", name="shared")
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same")(image)
    x = inner(shared(layers.ReLU()(shared(x))))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    for kind in KINDS:
        cheap = replace_convolutions(model, kind)
        assert cheap(np.zeros((2, 8, 8, 3))).shape == (2, 3)
        assert cost_of(cheap, "shared") < cost_of(model, "shared")
        assert cost_of(cheap, "deep") < cost_of(model, "deep")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_random_networks_keep_working(kind, seed):
    generator = np.random.default_rng(seed)
    model = random_network(lambda some: some[generator.integers(len(some))])
    try:
        cheap = replace_convolutions(model, kind)
    except InputError as error:
        assert "which has none" in str(error)
        return
    images = np.zeros((2, 12, 12, 3), "float32")
    assert cheap(images).shape == (2, 4)
    # and can be thinned like any other
    assert scale_width(cheap, 0.4, initialize="teacher")(images).shape == (2, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_adapted_preprocessing_stays(kind):
    images = np.random.default_rng(0).normal(7, 3, (32, 8, 8, 2)).astype("float32")
    adapted = layers.Normalization()
    adapted.adapt(images)
    stack = [adapted, layers.Conv2D(4, 3), layers.Conv2D(4, 3), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 2)), *stack, layers.Dense(3)])
    cheap = replace_convolutions(model, kind)
    np.testing.assert_allclose(cheap.layers[0](images), adapted(images), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "plain"}, "dominant, shift, grouped, depthwise. Received: 'plain'"),
        ({"kind": "grouped", "groups": 0}, "groups=0"),
        ({"kind": "shift", "groups": 2}, "grouped convolutions only.*'shift'"),
        ({"kind": "shift", "rank": 2}, "dominant convolutions only.*rank=2"),
        ({"kind": "dominant", "rank": 0}, "of at least 1. Received: rank=0"),
        ({"kind": "dominant", "multiplier": 0}, "multiplier=0"),
        ({"kind": "dominant", "rank": 2, "multiplier": 2}, "either rank or multiplier"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        replace_convolutions(network(), **arguments)


def test_models_without_such_convolutions_are_refused():
    stack = [layers.Conv2D(4, 3), layers.Conv2D(4, 1), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(3)])
    with pytest.raises(InputError, match="behind the first.*which has none"):
        replace_convolutions(model, "shift")
    with pytest.raises(InputError, match="Keras model. Received: str"):
        replace_convolutions("lenet", "shift")
    for kind in ("depthwise", "dominant"):
        with pytest.raises(InputError, match=r"'small' with strides=\(1, 2\)"):
            replace_convolutions(network(strides=(1, 2)), kind)
    assert replace_convolutions(network(strides=(1, 2)), "grouped")


@pytest.fixture(scope="module", params=[*KINDS, "dominant of full kernels"])
def trained_student(request):
    """A student that has learnt its classes."""
    keras.utils.set_random_seed(1)
    kind, *by_rank = request.param.split(maxsplit=1)
    settings = {"rank": 4} if by_rank else {}
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(18, 3, activation="relu")]
    stack += [layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(2)]
    stack = [keras.Input((8, 8, 1)), *stack, layers.Flatten(), layers.Dense(4)]
    model = replace_convolutions(keras.Sequential(stack), kind, **settings)
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.fit(*make_data(256), batch_size=32, epochs=3, verbose=0)
    return model


def test_files_predict_what_the_student_does(trained_student, tmp_path):
    images, labels = make_data(64, 3)
    expected = trained_student.predict(images, verbose=0)
    assert np.mean(expected.argmax(axis=-1) == labels) > 0.9
    deployment = Deployment("logits", list("abcd"), images)
    for write, open_file, name in (
        (write_litert, open_litert, "student.tflite"),
        (write_litert_int8, open_litert, "student_int8.tflite"),
        (write_onnx, open_onnx, "student.onnx"),
        (write_saved_model, open_saved_model, "student_saved_model"),
    ):
        path = str(tmp_path / name)
        write(trained_student, path, deployment)
        outputs = open_file(path).outputs(images)
        if "int8" not in name:
            np.testing.assert_allclose(outputs, expected, atol=1e-3)
        assert np.mean(outputs.argmax(axis=-1) == expected.argmax(axis=-1)) > 0.95
    trained_student.save(tmp_path / "student.keras")
    reloaded = load_kept_model(tmp_path / "student.keras")
    np.testing.assert_allclose(reloaded.predict(images, verbose=0), expected, atol=1e-6)


def test_a_dominant_student_is_a_network_of_one_layer_each():
    cheap = replace_convolutions(network(), "dominant", rank=2)
    found = [n.name for n in cheap.layers if isinstance(n, DominantConv2D)]
    assert found == ["large_dominant", "small_dominant"]
