"""Trials leave nothing behind: the memory of a long search stays where it was."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("mlxtend")
pytest.importorskip("psutil")

NUM_TRIALS = 30
# What is loaded and cached once is there by then
WARM_UP = 3
NUM_SEARCHES = 4
# A graph kept a trial makes a quarter; new widths leave kernels in oneDNN's cache
MOST_GROWTH = 1.1
# Searches of the same widths leave nothing; a graph kept a trial makes 6 %
MOST_GROWTH_OF_SEARCHES = 1.03

_PREPARE = """
import json, pathlib, sys
import keras, numpy as np, psutil
from tskd_tf.data import batches, splits, tfds
from tskd_tf.networks.zoo.models import lenet
from tskd_tf.search.smallest_student import find_smallest_student
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.plan import SearchPlan
from tskd_tf.search.trainer import Trainer
from tuner.student_tuner import Attempt
from tskd_tf.networks.width import scale_width

folder = pathlib.Path(sys.argv[1])
sample, *_ = tfds._mnist_sample()
order = np.random.default_rng(0).permutation(len(sample.images))
images, class_ids = sample.images[order], sample.class_ids[order]
train, validation, test = (
    splits.Split(images[part], class_ids[part])
    for part in (slice(0, 1000), slice(1000, 1500), slice(1500, 2000))
)
keras.utils.set_random_seed(1)
teacher, task = lenet((28, 28, 1), 10), Task([3, 5, 8], 10, head="task")
recipe = Recipe(epochs=1, batch_size=32)
sizes = []


def note_size():
    sizes.append(psutil.Process().memory_info().rss)
"""

_TRIALS = """
chosen = splits.Split(*task.filter(tuple(validation)))
transfer = capture(teacher, *train, task)
trainer = Trainer(
    teacher, transfer, chosen, task, recipe,
    # Widths that differ from trial to trial, large and small by turns
    SearchPlan(
        [
            Candidate("thin", (1 + 7 * number % 30) / 60)
            for number in range({num_trials})
        ],
        0.9,
    ),
    str(folder / "logs"), 0, {{"thin": lambda rate: scale_width(teacher, rate, task)}},
)
for number in range({num_trials}):
    trial_dir = folder / f"trial_{{number:04d}}"
    trial_dir.mkdir()
    trainer.trial(Attempt(number), str(trial_dir))
    note_size()
print(json.dumps(sizes))
"""

_SEARCHES = """
for number in range({num_searches}):
    find_smallest_student(
        teacher, train, validation, test, task,
        rates=[0.1, 0.2], recipe=recipe, verbose=0,
    )
    note_size()
print(json.dumps(sizes))
"""

# 400 MB of images, made as they are asked for
_PAST_THE_LIMIT = """
import json
import numpy as np, psutil, tensorflow as tf
from tskd_tf.data import batches, splits, tfds

sizes = []


def note_size():
    sizes.append(psutil.Process().memory_info().rss)


dataset = tf.data.Dataset.range(4000).map(
    lambda i: (tf.fill((200, 250, 2), tf.cast(i % 256, tf.uint8)), i)
)
next(iter(dataset.batch(50)))
note_size()
images, class_ids = batches.as_arrays(dataset.batch(50), memory_limit_mb=20)
note_size()
for _ in range(2):
    total = 0
    for batch, numbers in batches.batches((images, class_ids), 64, 1):
        assert (batch[:, 0, 0, 0] == tf.cast(numbers % 256, tf.uint8)).numpy().all()
        total += len(numbers)
    assert total == 4000
    note_size()
print(json.dumps(sizes))
"""


def sizes_of_memory(script, tmp_path):
    """Resident memory as the script noted it, in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.long
def test_thirty_trials_take_the_memory_of_three(tmp_path):
    sizes = sizes_of_memory(_PREPARE + _TRIALS.format(num_trials=NUM_TRIALS), tmp_path)
    assert len(sizes) == NUM_TRIALS
    assert sizes[-1] < MOST_GROWTH * sizes[WARM_UP - 1], sizes


@pytest.mark.long
def test_searches_take_the_memory_of_the_first(tmp_path):
    """With KerasTuner, the control and the kept students that are loaded again."""
    sizes = sizes_of_memory(
        _PREPARE + _SEARCHES.format(num_searches=NUM_SEARCHES), tmp_path
    )
    assert len(sizes) == NUM_SEARCHES
    assert sizes[-1] < MOST_GROWTH_OF_SEARCHES * sizes[0], sizes


def test_images_past_the_limit_take_no_memory(tmp_path):
    sizes = sizes_of_memory(_PAST_THE_LIMIT, tmp_path)
    assert len(sizes) == 4
    assert max(sizes) - sizes[0] < 120e6, sizes
