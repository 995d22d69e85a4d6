"""The width rule: the paper's table, and networks it has not seen."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.width import (
    distinct_rates,
    layer_widths,
    scale_width,
    scaled_width,
    spaced_rates,
)
from tskd_tf.networks.zoo.models import build_teacher

# rate: (widths, parameters, multiply-adds), from the design document's table
LENET = {
    1.0: ([20, 50, 500, 10], 431_080, 2_293_000),
    0.9: ([18, 45, 450, 10], 349_723, 1_883_700),
    0.8: ([16, 40, 400, 10], 276_866, 1_514_400),
    0.7: ([14, 35, 350, 10], 212_509, 1_185_100),
    0.6: ([12, 30, 300, 10], 156_652, 895_800),
    0.5: ([10, 25, 250, 10], 109_295, 646_500),
    0.4: ([8, 20, 200, 10], 70_438, 437_200),
    0.3: ([6, 15, 150, 10], 40_081, 267_900),
    0.2: ([4, 10, 100, 10], 18_224, 138_600),
    0.1: ([2, 5, 50, 10], 4_867, 49_300),
}
CIFAR10_FULL = {
    1.0: ([32, 32, 64, 10], 89_578, 12_298_240),
    0.9: ([29, 29, 58, 10], 74_656, 10_310_080),
    0.8: ([26, 26, 51, 10], 60_273, 8_452_960),
    0.7: ([22, 22, 45, 10], 45_799, 6_378_400),
    0.6: ([19, 19, 38, 10], 34_666, 4_930_880),
    0.5: ([16, 16, 32, 10], 25_594, 3_691_520),
    0.4: ([13, 13, 26, 10], 17_872, 2_624_960),
    0.3: ([10, 10, 19, 10], 11_089, 1_715_040),
    0.2: ([6, 6, 13, 10], 5_415, 818_080),
    0.1: ([3, 3, 6, 10], 1_882, 317_760),
}


@pytest.fixture(scope="module")
def lenet():
    return build_teacher("lenet", np.zeros((1, 28, 28, 1), np.uint8), 10)


@pytest.mark.parametrize("rate", LENET)
def test_lenet_table(lenet, rate):
    student = scale_width(lenet, rate)
    cost = complexity(student)
    got = (layer_widths(student), cost.num_params, cost.num_macs)
    assert got == LENET[rate]


@pytest.mark.parametrize("rate", CIFAR10_FULL)
@pytest.mark.parametrize("use_lrn", [True, False])
def test_cifar10_full_table(rate, use_lrn):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    teacher = build_teacher("cifar10_full", images, 10, use_lrn)
    student = scale_width(teacher, rate)
    cost = complexity(student)
    got = (layer_widths(student), cost.num_params, cost.num_macs)
    assert got == CIFAR10_FULL[rate]


def test_cifar10_quick_cost():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    cost = complexity(build_teacher("cifar10_quick", images, 10))
    assert (cost.num_params, cost.num_macs) == (145_578, 12_354_176)


@given(st.integers(1, 5000), st.floats(0.001, 1.0))
def test_scaled_widths_are_whole_positive_and_near(width, rate):
    got = scaled_width(width, rate)
    assert isinstance(got, int) and 1 <= got <= width
    assert got == 1 or abs(got - rate * width) <= 0.5 + 1e-6
    assert scaled_width(width, 1.0) == width


def test_halves_round_up_whatever_binary_fractions_say():
    assert scaled_width(50, 0.35) == 18
    assert scaled_width(25, 0.7) == 18
    assert scaled_width(5, 0.5) == 3
    assert scaled_width(32, 0.01) == 1


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.1, float("nan"), float("inf"), "0.5"])
def test_rates_out_of_range_are_refused(lenet, rate):
    with pytest.raises(InputError, match="above 0 and up to 1"):
        scale_width(lenet, rate)


@pytest.mark.parametrize("rate", [0.5, np.float32(0.5), np.float64(0.5)])
def test_rates_of_any_type_of_number(lenet, rate):
    assert layer_widths(scale_width(lenet, rate)) == [10, 25, 250, 10]


@pytest.mark.parametrize("round_to", [0, -8, 2.5, "8"])
def test_multiples_that_are_none_are_refused(lenet, round_to):
    with pytest.raises(InputError, match="round_to to be an integer of at least 1"):
        scale_width(lenet, 0.5, round_to=round_to)


def test_task_head_has_the_tasks_outputs(lenet):
    student = scale_width(lenet, 0.5, Task([3, 8], 10, head="task"))
    assert student.output_shape == (None, 2)
    assert layer_widths(student) == [10, 25, 250, 2]
    assert scale_width(lenet, 0.5, Task([3, 8], 10)).output_shape == (None, 10)
    with pytest.raises(InputError, match="each of the 7 classes"):
        scale_width(lenet, 0.5, Task([3, 5], 7))


def test_student_is_new_and_the_teacher_untouched(lenet):
    before = [weight.copy() for weight in lenet.get_weights()]
    student = scale_width(lenet, 1.0)
    assert not {id(v) for v in student.variables} & {id(v) for v in lenet.variables}
    student.set_weights([weight + 1 for weight in before])
    for weight, expected in zip(lenet.get_weights(), before):
        np.testing.assert_array_equal(weight, expected)


def test_precision_of_a_student_and_its_head(lenet):
    student = scale_width(lenet, 0.5, dtype_policy="mixed_bfloat16")
    policies = {layer.name: layer.dtype_policy.name for layer in student.layers}
    assert policies["conv1"] == "mixed_bfloat16"
    assert policies["ip2"] == "float32"


def residual_network():
    """Branches that are added, multiplied and concatenated; a layer used twice."""
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    shared = layers.Conv2D(12, 3, padding="same", use_bias=False)
    branch = layers.BatchNormalization()(shared(layers.ReLU()(shared(x))))
    x = layers.Add()([x, branch])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(12, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.SeparableConv2D(20, 3, depth_multiplier=2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5)(x))


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.37, 0.1])
def test_branches_scale_together(rate):
    student = scale_width(residual_network(), rate)
    images = np.zeros((2, 16, 16, 3), np.uint8)
    assert student(images).shape == (2, 5)


def test_nested_models_scale_inside():
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(10, 3)])
    image = keras.Input((8, 8, 1))
    outer = keras.Model(image, layers.Dense(3)(layers.Flatten()(inner(image))))
    student = scale_width(outer, 0.5)
    assert layer_widths(student) == [5, 3]
    assert student(np.zeros((1, 8, 8, 1))).shape == (1, 3)


@pytest.mark.parametrize(
    "channels, groups, filters, rate, expected",
    [
        # Two groups: as many of each, for there are more channels than groups
        (24, 2, 48, 0.25, (6, 2, 12)),
        # As many groups as channels: a depthwise convolution stays one
        (24, 24, 48, 0.25, (6, 6, 12)),
        # Whole groups of four go, for there are fewer channels in each than groups
        (32, 8, 16, 0.5, (16, 4, 8)),
        (32, 8, 16, 0.01, (4, 1, 2)),
    ],
)
def test_groups_stay_equal(channels, groups, filters, rate, expected):
    grouped = layers.Conv2D(filters, 3, groups=groups)
    stack = [layers.Conv2D(channels, 1), grouped, layers.Flatten(), layers.Dense(3)]
    student = scale_width(keras.Sequential([keras.Input((8, 8, 4)), *stack]), rate)
    first, second = student.layers[:2]
    assert (first.filters, second.groups, second.filters) == expected


def test_groups_of_the_image_stay_as_many():
    grouped = layers.Conv2D(8, 3, groups=4)
    stack = [keras.Input((8, 8, 4)), grouped, layers.Flatten(), layers.Dense(3)]
    student = scale_width(keras.Sequential(stack), 0.3)
    assert (student.layers[0].groups, student.layers[0].filters) == (4, 4)


@pytest.mark.parametrize("freeze", ["all", "some"])
def test_a_frozen_teacher_gives_students_that_learn(freeze):
    model = residual_network()
    if freeze == "all":
        model.trainable = False
    else:
        for layer in model.layers[:-1]:
            layer.trainable = False
    student = scale_width(model, 0.5)
    fresh = scale_width(residual_network(), 0.5)
    assert len(student.trainable_variables) == len(fresh.trainable_variables)


def test_adapted_preprocessing_is_kept():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (32, 8, 8, 2)).astype(np.float32)
    images[..., 1] = images[..., 1] / 100 + 7
    normalization = layers.Normalization()
    normalization.adapt(images)
    stack = [normalization, layers.Flatten(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((8, 8, 2)), *stack])
    student = scale_width(model, 0.5)
    np.testing.assert_allclose(
        student.layers[0](images), normalization(images), atol=1e-5
    )
    student.set_weights(model.get_weights()[3:])
    np.testing.assert_allclose(student(images), model(images), atol=1e-4)
    # and so it is in copies of the whole model
    copy = with_policy(model, "float32")
    np.testing.assert_allclose(copy(images), model(images), atol=1e-6)


def test_a_whole_is_scaled_as_its_parts():
    """Two halves of 8 are concatenated to 16 and added to 16: at 0.3 that is 2 and 2 to
    4, at 0.05 1 and 1 to 2, which a whole rounded by itself would not fit."""
    image = keras.Input((8, 8, 3))
    halves = [layers.Conv2D(8, 1)(image) for _ in range(2)]
    whole = layers.Add()([layers.Concatenate()(halves), layers.Conv2D(16, 1)(image)])
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(whole)))
    for rate, part in ((0.3, 2), (0.05, 1)):
        widths = layer_widths(scale_width(model, rate))
        assert sorted(widths[:-1]) == [part, part, 2 * part]


def test_models_whose_graph_cannot_be_followed_are_refused():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Subclassed()
    with pytest.raises(InputError, match="give it an Input"):
        scale_width(model, 0.5)
    model(np.zeros((1, 4)))
    with pytest.raises(InputError, match="subclassed"):
        scale_width(model, 0.5)
    with pytest.raises(InputError, match="Keras model.*str"):
        scale_width("lenet", 0.5)
    first, second = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    two_inputs = keras.Model([first, second], layers.Add()([first, second]))
    with pytest.raises(InputError, match="2 inputs"):
        scale_width(two_inputs, 0.5)
    no_head = keras.Sequential([keras.Input((8, 8, 1)), layers.GlobalMaxPooling2D()])
    with pytest.raises(InputError, match="no such layer"):
        scale_width(no_head, 0.5)


def test_candidates_are_distinct_and_ordered(lenet):
    rates = spaced_rates(0.05)
    assert rates == [round(0.05 * i, 2) for i in range(1, 21)]
    assert distinct_rates(lenet, rates) == rates
    assert spaced_rates(0.3) == [0.3, 0.6, 0.9, 1.0]
    assert spaced_rates(1.0) == [1.0]
    assert len(spaced_rates(1e-4)) == 10_000
    # A billion rates would take minutes to write down
    for rate_step in (0.0, 1e-9, 1.1, float("nan")):
        with pytest.raises(InputError, match="rate_step from 0.0001 to 1"):
            spaced_rates(rate_step)


def test_of_rates_with_the_same_widths_the_largest_stands():
    stack = [keras.Input((8, 8, 1)), layers.Conv2D(8, 3), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(10, "relu"), layers.Dense(3)])
    rates = distinct_rates(model, spaced_rates(0.01))
    widths = [layer_widths(scale_width(model, rate)) for rate in rates]
    everything = [layer_widths(scale_width(model, r)) for r in spaced_rates(0.01)]
    assert widths == sorted(widths) and rates[-1] == 1.0
    assert {tuple(w) for w in widths} == {tuple(w) for w in everything}
    assert len(set(map(tuple, widths))) == len(widths)
