"""Students of many rates on growing tasks: counts, order, resuming and workers."""

import dataclasses
import functools
import json
import os
import pathlib
import signal

import numpy as np
import pytest
from conftest import NUM_CLASSES, make_data
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.errors import InputError, WorkerError
from tskd_tf.sweep.students import (
    DISTILLED,
    HARD_LABELS,
    Cell,
    Materials,
    count_right,
    plan_cells,
    run_cells,
    teacher_rows,
)
from tskd_tf.sweep.workers import train_elsewhere

NAMES = ["a", "b", "c", "d"]
RECIPE = Recipe(epochs=8, batch_size=32, learning_rate=0.02)
CELLS = plan_cells([2, 4], [0.5], [7])
by_two = functools.partial(train_elsewhere, num_workers=2)


@pytest.fixture
def materials(trained_teacher):
    train, validation, test = (Split(*make_data(n, n)) for n in (256, 40, 80))
    everything = Task(range(NUM_CLASSES), class_names=NAMES)
    targets = capture(trained_teacher, *train, everything)
    return Materials(trained_teacher, targets, validation, test, RECIPE, "full", NAMES)


@given(
    st.integers(2, 5),
    st.integers(1, 30),
    st.sampled_from(["full", "task"]),
    st.integers(0, 2**32 - 1),
)
def test_counts_against_a_loop(num_of_task, num_images, head, seed):
    generator = np.random.default_rng(seed)
    class_ids = generator.permutation(6)[:num_of_task].tolist()
    task = Task(class_ids, 6, head)
    logits = generator.standard_normal((num_images, task.num_outputs))
    labels = task.to_labels(generator.choice(class_ids, num_images))
    right = right_of_task = 0
    of_task = task.to_labels(np.array(class_ids))
    for row, label in zip(logits, labels):
        right += max(range(task.num_outputs), key=lambda i: row[i]) == label
        right_of_task += max(of_task, key=lambda i: row[i]) == label
    assert count_right(logits, labels, task) == (right, right_of_task)
    assert right <= right_of_task <= num_images


def test_a_sweep_cut_short_leaves_whole_seeds():
    cells = plan_cells([3, 2], [1.0, 0.1], [5, 0])
    assert len(cells) == len(set(cells)) == 16
    assert [cell.seed for cell in cells] == [5] * 8 + [0] * 8
    assert cells[:3] == [
        Cell(2, 0.1, 5, DISTILLED),
        Cell(2, 0.1, 5, HARD_LABELS),
        Cell(2, 1.0, 5, DISTILLED),
    ]
    assert len({cell.name for cell in cells}) == 16


def test_the_teacher_by_task(materials):
    logits = materials.teacher.predict(materials.test.images, verbose=0)
    labels = materials.test.class_ids
    for row in teacher_rows(materials, [2, 4]):
        chosen = labels < row["num_classes"]
        among = logits[chosen][:, : row["num_classes"]].argmax(axis=-1)
        assert row["num_test"] == chosen.sum()
        assert row["num_right"] == (logits.argmax(-1) == labels)[chosen].sum()
        assert row["num_right_of_task"] == (among == labels[chosen]).sum()


@pytest.mark.long
def test_students_are_stored_and_not_trained_again(materials, tmp_path):
    told = []

    def stop_after_two(student, is_earlier):
        told.append((Cell(*student[:4]), is_earlier))
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells(CELLS, tmp_path, materials, stop_after_two)
    told.clear()
    stored = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(stored) == 2
    students = run_cells(
        CELLS, tmp_path, materials, lambda s, e: told.append((Cell(*s[:4]), e))
    )
    assert [Cell(*student[:4]) for student in students] == CELLS
    assert told == [(cell, i < 2) for i, cell in enumerate(CELLS)]
    for name, written in stored.items():
        assert (tmp_path / name).stat().st_mtime_ns == written
    undisturbed = run_cells(CELLS, tmp_path / "again", materials, lambda *_: None)
    for student, other in zip(students, undisturbed, strict=True):
        assert student._replace(seconds=0) == other._replace(seconds=0)
    # The easy task is learnt, by either method
    assert all(student.num_right > 0.9 * 40 for student in students[:2])
    assert students[0].widths == [4, 8, 4] and students[0].epochs == 8


@pytest.mark.parametrize("text", ["", "{}", "[1]", "the wrong cell"])
def test_a_damaged_student_is_named(materials, tmp_path, text):
    run_cells(CELLS[:1], tmp_path, materials, lambda *_: None)
    (path,) = tmp_path.iterdir()
    if text == "the wrong cell":
        text = json.dumps({**json.loads(path.read_text()), "seed": 8})
    path.write_text(text)
    with pytest.raises(InputError, match=path.name):
        run_cells(CELLS, tmp_path, materials, lambda *_: None)
    assert path.read_text() == text


@pytest.mark.long
def test_workers_give_what_one_process_gives(materials, tmp_path):
    alone = run_cells(CELLS, tmp_path / "one", materials, lambda *_: None)
    shared = run_cells(CELLS, tmp_path / "two", materials, lambda *_: None, by_two)
    for student, other in zip(alone, shared, strict=True):
        # The number of threads changes sums in their last bits
        assert abs(student.num_right - other.num_right) <= 1
        same = {"seconds": 0, "num_right": 0, "num_right_of_task": 0}
        assert student._replace(**same) == other._replace(**same)
    assert len(list((tmp_path / "two").iterdir())) == len(CELLS)


@pytest.mark.long
def test_a_killed_worker_ends_the_sweep_which_can_be_resumed(materials, tmp_path):
    def kill_workers(*_):
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            if f"\nPPid:\t{os.getpid()}\n" in status.read_text():
                os.kill(int(status.parent.name), signal.SIGKILL)

    cells = plan_cells([2, 4], [0.25, 0.5], [7])
    with pytest.raises(WorkerError, match="killed"):
        run_cells(cells, tmp_path, materials, kill_workers, by_two)
    assert not (tmp_path / "shared").exists()
    students = run_cells(cells, tmp_path, materials, lambda *_: None)
    assert [Cell(*student[:4]) for student in students] == cells


@pytest.mark.long
def test_a_failing_worker_says_why(materials, tmp_path):
    broken = materials._replace(recipe=dataclasses.replace(RECIPE, learning_rate=1e38))
    with pytest.raises(WorkerError, match="DivergedError"):
        run_cells(CELLS, tmp_path, broken, lambda *_: None, by_two)
