"""Channels removed from networks drawn at random, and the choice of them."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from example_networks import random_network, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tskd_tf.networks.channels import Block, Channels
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.compact import compact_student
from tskd_tf.networks.kept_costs import macs_of_kept, params_of_kept
from tskd_tf.networks.removal import (
    _feeds,
    all_kept,
    kept_without,
    loss_changes,
    removable_blocks,
    without_channels,
)
from tskd_tf.networks.removal_choice import choose_sets, remaining_share
from tskd_tf.networks.width import layer_widths
from tskd_tf.networks.zoo.models import lenet

IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 12, 12, 3)).astype("float32")
SEEDS = pytest.mark.parametrize("seed", [*range(7), 37])


def draw_removal(seed):
    """A network without normalisation over channels, and sets to remove."""
    generator = random.Random(seed)
    model = None
    while model is None:
        try:
            model = random_network(generator.choice, has_layer_norm=False)
        except ValueError:
            # Groups that do not divide the channels
            continue
    blocks = [b.roots.tolist() for b in removable_blocks(Channels(randomize(model)))]
    removed = [
        root
        for roots in blocks
        for root in generator.sample(roots, generator.randrange(len(roots)))
    ]
    return model, removed or blocks[0][:1]


def silence(model, removed):
    """Sets all weights to 0 that the removed sets feed."""
    channels = Channels(model)
    goes = ~kept_without(all_kept(channels), removed).stays
    for use in channels.weighted():
        if id(use.call.layer) not in channels.made:
            continue
        for feed in _feeds(use):
            weight = np.array(feed.weight)
            inputs = np.moveaxis(weight, feed.axis, 0)
            num_outputs = inputs.shape[-1] // len(feed.inputs)
            for group, of_group in enumerate(feed.inputs):
                part = slice(group * num_outputs, (group + 1) * num_outputs)
                inputs[goes[of_group], ..., part] = 0.0
            feed.weight.assign(weight)


@SEEDS
def test_channels_that_feed_nothing_can_be_removed(seed):
    model, removed = draw_removal(seed)
    silence(model, removed)
    thinner = without_channels(model, removed)
    expected = model(IMAGES).numpy()
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(thinner(IMAGES) / scale, expected / scale, atol=1e-5)
    assert complexity(thinner).num_params < complexity(model).num_params
    assert complexity(thinner).num_macs < complexity(model).num_macs


@SEEDS
def test_costs_are_counted_without_building(seed):
    model, removed = draw_removal(seed)
    channels = Channels(model)
    kept = kept_without(all_kept(channels), removed)
    cost = complexity(without_channels(model, removed))
    assert macs_of_kept(channels)(kept) == cost.num_macs
    assert params_of_kept(channels)(kept) == cost.num_params


def test_a_channel_that_feeds_something_is_missed():
    model = residual()
    blocks = removable_blocks(Channels(model))
    thinner = without_channels(model, [int(blocks[0].roots[0])])
    assert layer_widths(thinner) == [5, 5, 5, 4]
    assert np.abs(thinner(IMAGES) - model(IMAGES)).max() > 1e-3


def residual():
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", name="a")(image)
    branch = layers.Conv2D(5, 3, padding="same", activation="relu", name="b")(x)
    branch = layers.Conv2D(6, 3, padding="same", name="c")(branch)
    x = layers.Add()([x, layers.BatchNormalization()(branch)])
    x = layers.GlobalAveragePooling2D()(x)
    return randomize(keras.Model(image, layers.Dense(4, name="d")(x)))


def test_channels_that_are_added_go_together():
    model = residual()
    channels = Channels(model)
    added, inner = removable_blocks(channels)
    assert (len(added.roots), len(inner.roots)) == (6, 5)
    assert layer_widths(without_channels(model, added.roots[:2])) == [4, 5, 4, 4]
    assert layer_widths(without_channels(model, inner.roots[:3])) == [6, 2, 6, 4]
    # What identifies a block stays when it gets narrower
    thinner = removable_blocks(Channels(without_channels(model, added.roots[:2])))
    assert [b.makers for b in thinner] == [added.makers, inner.makers]


def test_in_a_compact_student_normalisation_and_depthwise_kernels_go_along():
    student = randomize(compact_student(lenet((28, 28, 1), 10), 0.2))
    blocks = removable_blocks(Channels(student))
    removed = [int(block.roots[-1]) for block in blocks]
    silence(student, removed)
    thinner = without_channels(student, removed)
    before, after = layer_widths(student), layer_widths(thinner)
    assert after == [*(width - 1 for width in before[:-1]), 10]
    images = np.random.default_rng(0).uniform(0, 255, (4, 28, 28, 1))
    np.testing.assert_allclose(thinner(images), student(images), rtol=1e-3, atol=1e-4)


def test_outputs_and_channels_of_the_images_stay():
    image = keras.Input((12, 12, 3))
    x = layers.Add()([image, layers.Conv2D(3, 1)(image)])
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    assert removable_blocks(Channels(keras.Model(image, x))) == []


def test_loss_changes_against_numpy():
    """4 pixels → 5 hidden units → 3 logits; without a unit: h·∂L/∂h, by hand."""
    stack = [keras.Input((2, 2, 1)), layers.Flatten()]
    stack += [layers.Dense(5, activation="relu"), layers.Dense(3)]
    model = randomize(keras.Sequential(stack))
    first, first_bias, second, second_bias = model.get_weights()
    generator = np.random.default_rng(1)
    images = generator.uniform(-1, 1, (48, 2, 2, 1)).astype("float32")
    targets = generator.uniform(-1, 1, (48, 3)).astype("float32")
    expected = []
    for part in (slice(32), slice(32, None)):
        inputs = images[part].reshape(-1, 4).astype(np.float64)
        hidden = np.maximum(inputs @ first + first_bias, 0)
        error = hidden @ second + second_bias - targets[part]
        gradient = 2 * error / error.size
        expected.append((hidden * (gradient @ second.T)).sum(axis=0))
    examples = tf.data.Dataset.from_tensor_slices((images, targets)).batch(32)
    got = loss_changes(
        model,
        Channels(model),
        examples,
        lambda logits, wanted: tf.reduce_mean((logits - wanted) ** 2),
    )
    rms = np.sqrt(np.mean(np.square(expected), axis=0))
    np.testing.assert_allclose(got[1:6], rms, rtol=1e-4)
    np.testing.assert_array_equal(got[6:], 0)


@SEEDS
def test_loss_changes_are_those_of_a_small_step_towards_zero(seed):
    """Also through groups, ties, shared and transposed layers."""
    model, removed = draw_removal(seed)
    channels = Channels(model)
    root = removed[0]

    def loss(logits):
        return tf.reduce_sum(logits * tf.constant([1.0, -2.0, 0.5, 3.0]))

    got = loss_changes(model, channels, [(tf.constant(IMAGES),)], loss)[root]
    before = [np.array(weight) for weight in model.weights]
    silence(model, [root])
    step, values = 1e-2, []
    after = [np.array(weight) for weight in model.weights]
    for sign in (1, -1):
        for weight, full, zero in zip(model.weights, before, after):
            weight.assign(full + sign * step * (full - zero))
        values.append(float(loss(model(IMAGES, training=False))))
    slope = abs(values[0] - values[1]) / (2 * step)
    assert got == pytest.approx(slope, rel=0.05, abs=0.02 * max(1, abs(values[0])))


def block(*roots, makers=(0,)):
    return Block(np.array(roots), makers)


def share_of(costs):
    total = sum(costs.values())
    return lambda removed: 1 - sum(costs[root] for root in removed) / total


def test_the_least_important_per_cost_go_first():
    blocks = [block(1, 2, 3), block(4, 5, makers=(1,))]
    importance = np.array([0.0, 5.0, 1.0, 9.0, 3.0, 8.0])
    costs = share_of({1: 1, 2: 1, 3: 1, 4: 10, 5: 10})
    # By importance it would be 2, but 4 saves ten times as much
    assert choose_sets(blocks, importance, costs, 0.01) == [4]
    assert choose_sets(blocks, importance, costs, 10.5 / 23) == [4, 2]
    assert choose_sets(blocks, importance, costs, 10.5 / 23, most=1) == [4]
    # One set of each block stays, the most important
    assert choose_sets(blocks, importance, costs, 0.99) == [4, 2, 1]
    assert choose_sets([block(3)], importance, costs, 0.5) == []
    assert choose_sets([], importance, costs, 0.5) == []


@given(st.integers(0, 99), st.floats(0.01, 0.99), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_as_few_as_save_the_share_and_no_block_is_emptied(seed, share, most):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 5, 3)
    ends = 1 + np.cumsum(sizes)
    blocks = [
        block(*range(end - size, end), makers=(i,))
        for i, (size, end) in enumerate(zip(sizes, ends))
    ]
    importance = generator.uniform(0, 1, ends[-1])
    costs = share_of(dict(enumerate(generator.uniform(1, 5, ends[-1]))))
    chosen = choose_sets(blocks, importance, costs, share, most)
    assert len(set(chosen)) == len(chosen) <= most
    for some in blocks:
        assert set(some.roots.tolist()) - set(chosen)
    if len(chosen) > 1:
        assert costs(chosen[:-1]) > 1 - share


def test_the_cost_is_shared_by_multiply_adds_and_parameters():
    model = lenet((28, 28, 1), 10)
    channels = Channels(model)
    conv, _, dense = removable_blocks(channels)
    before = complexity(model)
    for some in (conv.roots[:2].tolist(), dense.roots[:100].tolist()):
        after = complexity(without_channels(model, some))
        expected = (
            after.num_macs / before.num_macs,
            after.num_params / before.num_params,
        )
        assert remaining_share(channels)(some) == pytest.approx(np.mean(expected))
