"""Channels followed through networks drawn at random."""

import keras
import numpy as np
import pytest
from example_networks import random_network, randomize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.channels import Channels
from tskd_tf.networks.graph import head_layer
from tskd_tf.networks.importance import magnitude
from tskd_tf.networks.weight_axes import axes_of_weights
from tskd_tf.networks.width import layer_widths, scale_width, scaled_width

IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 12, 12, 3)).astype("float32")
few_examples = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def draw_network(data, **settings):
    return randomize(
        random_network(lambda some: data.draw(st.sampled_from(some)), **settings)
    )


def assert_same(got, expected, tolerance=1e-5):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(got / scale, expected / scale, atol=tolerance)


@given(st.data())
@few_examples
def test_at_rate_one_a_student_computes_what_its_teacher_does(data):
    model = draw_network(data)
    student = scale_width(model, 1.0, initialize="teacher")
    assert_same(student(IMAGES).numpy(), model(IMAGES).numpy())
    task = Task([2, 0, 3], 4, head="task")
    student = scale_width(model, 1.0, task, initialize="teacher")
    assert_same(student(IMAGES).numpy(), model(IMAGES).numpy()[:, [2, 0, 3]])


@given(st.data(), st.floats(0.05, 0.95))
@few_examples
def test_any_rate_gives_a_network_no_wider(data, rate):
    model = draw_network(data)
    student = scale_width(model, rate, initialize="teacher")
    assert np.isfinite(student(IMAGES).numpy()).all()
    for width, before in zip(layer_widths(student), layer_widths(model), strict=True):
        assert 1 <= width <= before
    wider = scale_width(model, min(1.0, rate + 0.3))
    assert student.count_params() <= wider.count_params()


@given(st.data(), st.floats(0.05, 0.95))
@few_examples
def test_what_goes_is_what_did_nothing(data, rate):
    """A teacher some of whose channels are zero all through is its own student, when
    the student leaves out just these."""
    model = draw_network(data, has_layer_norm=False)
    channels = Channels(model)
    importance = np.random.default_rng(1).uniform(1, 2, channels.num_channels)
    kept = channels.keep(
        lambda count, _: scaled_width(count, rate), range(4), importance
    )
    for use in channels.weighted():
        weights = use.call.layer.get_weights()
        for weight, axes in zip(weights, axes_of_weights(use)):
            goes = ~kept.stays[use.output].any(axis=tuple(range(use.output.ndim - 1)))
            own = [
                i
                for i, axis in enumerate(axes)
                if axis is not None and np.array_equal(axis[0], use.output.ravel())
            ]
            if own:
                np.moveaxis(weight, own[-1], -1)[..., goes] = 0
        use.call.layer.set_weights(weights)
    student = scale_width(model, rate, initialize="teacher", importance=importance)
    assert_same(student(IMAGES).numpy(), model(IMAGES).numpy())


def test_the_strongest_channels_stay_together_with_what_follows():
    """By hand: of four channels the second and fourth have the large weights."""
    stack = [keras.Input((4, 4, 1)), layers.Conv2D(4, 1), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(2)])
    kernel = np.array([1.0, 8.0, -2.0, -5.0]).reshape(1, 1, 1, 4)
    dense = np.arange(128.0).reshape(64, 2)
    model.set_weights([kernel, np.arange(4.0), dense, np.array([7.0, 9.0])])
    task = Task([1, 0], 2, head="task")
    student = scale_width(model, 0.5, task, initialize="teacher")
    got = student.get_weights()
    np.testing.assert_array_equal(got[0].ravel(), [8, -5])
    np.testing.assert_array_equal(got[1], [1, 3])
    np.testing.assert_array_equal(
        got[2], dense.reshape(16, 4, 2)[:, [1, 3], ::-1].reshape(32, 2)
    )
    np.testing.assert_array_equal(got[3], [9, 7])


def test_a_head_of_one_by_one_convolution_keeps_the_tasks_order():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1)(layers.Conv2D(6, 3, activation="relu")(image))
    model = randomize(keras.Model(image, layers.GlobalAveragePooling2D()(x)))
    assert head_layer(model) is model.layers[2]
    student = scale_width(
        model, 1.0, Task([3, 1], 4, head="task"), initialize="teacher"
    )
    images = IMAGES[:, :8, :8]
    assert_same(student(images).numpy(), model(images).numpy()[:, [3, 1]])


def test_a_model_whose_last_layer_is_a_model():
    image = keras.Input((12, 12, 3))
    inner = randomize(random_network(lambda some: some[-1]))
    model = keras.Model(image, inner(layers.Rescaling(0.5)(image)))
    student = scale_width(model, 1.0, initialize="teacher")
    assert_same(student(IMAGES).numpy(), model(IMAGES).numpy())
    twice = keras.Model(image, layers.Average()([inner(image), inner(-image)]))
    student = scale_width(twice, 1.0, initialize="teacher")
    assert_same(student(IMAGES).numpy(), twice(IMAGES).numpy())


def test_layers_that_meet_the_images_keep_their_width_and_are_named(caplog):
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(3, 3, padding="same", name="meets")(image)
    x = layers.Conv2D(8, 3, name="free")(layers.Add()([x, image]))
    model = keras.Model(image, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)))
    assert layer_widths(scale_width(model, 0.25)) == [3, 2, 4]
    assert "'meets' keeps its width" in caplog.text and "'free'" not in caplog.text


def test_importance_of_another_network_is_refused():
    model = randomize(random_network(lambda some: some[0]))
    importance = magnitude(Channels(model))
    with pytest.raises(InputError, match="importance of"):
        scale_width(model, 0.5, importance=importance[1:])
    with pytest.raises(InputError, match="finite importance"):
        scale_width(model, 0.5, importance=importance * np.nan)
    with pytest.raises(InputError, match="initialize out of random, teacher"):
        scale_width(model, 0.5, initialize="best")


@keras.saving.register_keras_serializable("tests")
class Mixing(layers.Layer):
    """A layer with weights that nobody knows."""

    def build(self, input_shape):
        self.mix = self.add_weight(shape=(input_shape[-1], input_shape[-1]))

    def call(self, inputs):
        return inputs @ self.mix


@keras.saving.register_keras_serializable("tests")
class Block(keras.Model):
    """A subclassed model as a part of another."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(4, 3)

    def call(self, inputs):
        return self.convolution(inputs)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Mixing(name="odd"), "'odd' of type Mixing"),
        (lambda: Block(name="odd"), "'odd' of type Block"),
        (lambda: layers.BatchNormalization(axis=1, name="odd"), "'odd' of type Batch"),
        (
            lambda: layers.Conv2D(4, 3, data_format="channels_first", name="odd"),
            "'odd'",
        ),
    ],
)
def test_layers_that_are_not_known_are_named_with_the_way_out(make, message):
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(make()(x)))
    model = keras.Model(image, layers.Dense(2)(x))
    with pytest.raises(InputError, match=message) as caught:
        scale_width(model, 0.5)
    if "channels_first" not in str(caught.value):
        assert "build_student=" in str(caught.value)
        assert "--student_builder" in str(caught.value)


def test_two_heads_that_are_added_keep_the_tasks_order():
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3)(image)
    maps = [layers.Conv2D(4, 1)(branch) for branch in (x, layers.ReLU()(x))]
    pooled = layers.GlobalAveragePooling2D()(layers.Average()(maps))
    direct = layers.Dense(4)(layers.Flatten()(image))
    model = randomize(keras.Model(image, layers.Add()([pooled, direct])))
    for outputs in ([3, 0], [2, 3, 1]):
        task = Task(outputs, 4, head="task")
        student = scale_width(model, 1.0, task, initialize="teacher")
        assert_same(student(IMAGES).numpy(), model(IMAGES).numpy()[:, outputs])


def test_a_head_that_meets_the_images_cannot_be_cut():
    image = keras.Input((12, 12, 3))
    mean = layers.GlobalAveragePooling2D()(image)
    head = layers.Dense(3, name="logits")(layers.Flatten()(image))
    model = keras.Model(image, layers.Add()([mean, head]))
    assert scale_width(model, 0.5, Task([2, 0], 3)).output_shape == (None, 3)
    with pytest.raises(InputError, match="'logits', whose outputs are tied"):
        scale_width(model, 0.5, Task([2, 0], 3, head="task"))


def test_a_channel_shuffle_in_operations():
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(12, 1, groups=3)(layers.Conv2D(12, 3, padding="same")(image))
    x = keras.ops.reshape(x, (-1, 12, 12, 3, 4))
    x = keras.ops.reshape(keras.ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 12, 12, 12))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, groups=3)(x))
    model = randomize(keras.Model(image, layers.Dense(4)(x)))
    student = scale_width(model, 1.0, initialize="teacher")
    assert_same(student(IMAGES).numpy(), model(IMAGES).numpy())
    student = scale_width(model, 0.37, initialize="teacher")
    assert np.isfinite(student(IMAGES).numpy()).all()


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("name", ["flip", "roll", "cumsum"])
def test_operations_that_change_the_order_of_channels_are_refused(name, axis):
    operation = getattr(keras.ops, name)
    arguments = (1,) if name == "roll" else ()
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3)(image)
    x = layers.Add()([x, operation(x, *arguments, axis=axis)])
    model = keras.Model(image, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)))
    if axis == -1:
        with pytest.raises(InputError, match=f"'{name}.*build_student="):
            scale_width(model, 0.5)
    else:
        assert layer_widths(scale_width(model, 0.5)) == [2, 4]


def test_a_rescaling_by_channel_keeps_its_channels():
    image = keras.Input((12, 12, 3))
    x = layers.Rescaling([0.1, 0.2, 0.3])(layers.Conv2D(3, 3)(image))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3)(x))
    model = keras.Model(image, layers.Dense(4)(x))
    student = scale_width(model, 0.25)
    assert layer_widths(student) == [3, 2, 4]
    assert student(IMAGES).shape == (3, 4)


def test_channels_that_differ_from_place_to_place_are_told():
    image = keras.Input((12, 12, 3))
    tokens = layers.Reshape((16, 6))(layers.Conv2D(6, 3, strides=3)(image))
    mixed = layers.Dense(16, name="mixer")(layers.Permute((2, 1))(tokens))
    model = keras.Model(image, layers.Dense(4)(layers.Flatten()(mixed)))
    with pytest.raises(InputError, match="same channels at each place before 'mixer'"):
        scale_width(model, 0.5)


def test_more_channels_than_there_are_keep_ties_and_groups():
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(6, 1, name="first")(image)
    x = layers.Add()([x, layers.Conv2D(6, 1, name="tied")(x)])
    # Three inputs a group: as many of each group; one a group: groups as a whole
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    x = layers.Conv2D(8, 1, groups=8, name="alone")(x)
    x = layers.Flatten()(layers.Concatenate()([x, x]))
    channels = Channels(keras.Model(image, layers.Dense(3)(x)))
    kept = channels.keep(lambda count, _: count + 3, [2, 0])
    made = {use.call.layer.name: use for use in channels.uses if use.call.layer.weights}
    widths = {name: kept.count(use.output) for name, use in made.items()}
    dense = widths.pop(channels.head.name)
    # Three sets of two became six, four became seven
    assert widths == {"first": 12, "tied": 12, "grouped": 14, "alone": 14}
    assert dense == 2 and kept.count(made[channels.head.name].inputs[0]) == 16 * 28
    assert kept.num_groups(made["grouped"].inputs[0], 2) == 2
    assert kept.num_groups(made["alone"].inputs[0], 8) == 14
    assert kept.sizes(made["alone"].output) == {-1: 14}


def test_an_attention_to_places_keeps_its_one_channel():
    """The mean over channels, a gate of one channel, and a product with all of them."""
    images = keras.Input((8, 8, 3))
    maps = layers.Conv2D(8, 3, padding="same", activation="relu")(images)
    mean = keras.ops.mean(maps, axis=-1, keepdims=True)
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(mean)
    maps = layers.Multiply()([maps, gate])
    model = randomize(
        keras.Model(images, layers.Dense(4)(layers.GlobalAveragePooling2D()(maps)))
    )
    inputs = IMAGES[:, :8, :8]
    whole = scale_width(model, 1.0, initialize="teacher")
    assert_same(whole(inputs).numpy(), model(inputs).numpy())
    student = scale_width(model, 0.5)
    assert layer_widths(student) == [4, 1, 4]
    assert np.isfinite(student(inputs).numpy()).all()
