"""Measures of a task against plain loops, at their ends, and under what keeps them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.data.task import Task
from tskd_tf.distillation.task_complexity import effective_rank, task_complexity

SEEDS = st.integers(0, 2**32 - 1)


def made_up(seed, head="full", num_images=12, class_ids=(4, 0, 2)):
    generator = np.random.default_rng(seed)
    task = Task(class_ids, 6, head)
    logits = 3 * generator.standard_normal((num_images, 6))
    labels = task.to_labels(generator.choice(class_ids, num_images))
    return task.select_logits(logits), labels, task


@given(SEEDS, st.floats(0.5, 10))
def test_against_loops(seed, temperature):
    logits, labels, task = made_up(seed)
    entropies, wrong = [], []
    for row, label in zip(logits, labels):
        soft = [math.exp(row[i] / temperature) for i in task.class_ids]
        shares = [value / sum(soft) for value in soft]
        entropies.append(-sum(share * math.log(share) for share in shares))
        plain = {i: math.exp(row[i]) for i in task.class_ids}
        wrong.append(1 - plain[label] / sum(plain.values()))
    found = task_complexity(logits, labels, task, temperature)
    assert found.num_classes == 3
    assert found.entropy == pytest.approx(np.mean(entropies))
    assert found.confusion == pytest.approx(np.mean(wrong))


@given(SEEDS)
def test_the_head_and_the_order_of_classes_do_not_matter(seed):
    full = task_complexity(*made_up(seed))
    assert task_complexity(*made_up(seed, "task")) == pytest.approx(full)
    generator = np.random.default_rng(seed)
    logits, labels, task = made_up(seed)
    order = generator.permutation(len(labels))
    other = Task([0, 2, 4], 6)
    assert task_complexity(logits[order], labels[order], other) == pytest.approx(full)


@given(SEEDS, st.floats(-50, 50))
def test_a_constant_added_to_an_images_logits_changes_little(seed, constant):
    logits, labels, task = made_up(seed)
    found = task_complexity(logits + constant, labels, task)
    assert found == pytest.approx(task_complexity(logits, labels, task), rel=1e-6)


def test_an_undecided_and_a_certain_teacher():
    task = Task([0, 1, 2], 3)
    labels = np.array([0, 1, 2])
    undecided = task_complexity(np.zeros((3, 3)), labels, task)
    assert undecided == pytest.approx((3, math.log(3), 2 / 3, 1.0))
    certain = task_complexity(1e4 * np.eye(3), labels, task)
    assert certain == pytest.approx((3, 0.0, 0.0, 2.0), abs=1e-9)


@given(SEEDS, st.integers(1, 5), st.floats(0.1, 10))
def test_effective_rank(seed, dimensions, scale):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((40, dimensions))
    found = effective_rank(values)
    assert 1 - 1e-9 <= found <= dimensions + 1e-9
    rotation, _ = np.linalg.qr(generator.standard_normal((dimensions, dimensions)))
    assert effective_rank(scale * values @ rotation + 7) == pytest.approx(found)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_equal_directions_count_one_each(rank):
    corners = np.vstack([np.eye(4)[:rank], -np.eye(4)[:rank]])
    assert effective_rank(corners) == pytest.approx(rank)
