"""Every method of distillation and every cheap convolution, at equal cost.

The tasks are two, five and all ten classes of CIFAR-10, with one teacher
(`cifar10_teacher`). All students of a task have about the multiply-adds of the plain
student at `--rate`; their own rates are chosen to be nearest to it. Each method, and
training on hard labels only, gets the same CPU time: `--cpu_seconds` per class of the
task. The time of an epoch is measured first for each contestant, without the first
epoch, so that building and tracing do not count. It gives the number of epochs, and
each schedule ends with its training. The `--num_students` students of `online` and
`mutual` share their time; the best on validation data is kept.

Accuracy is on the task's test images, among its outputs. Latency is in LiteRT, float32,
one thread, the minimum over the seeds. Intervals are Student's t over the seeds. Those
of a gain over distillation or hard labels use the differences for equal seeds.

Rows are added to `--partial` as they are finished, so an interrupted run can go on.
`--part=0/2` and `--part=1/2` divide the contestants between two processes, each with
its own file. `--read` computes the table from any number of such files.
"""

import argparse
import dataclasses
import functools
import gc
import json
import logging
import pathlib
import statistics
import time
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from cifar10_teacher import load_or_train, read, some_soft_targets
from timing import emit

from tskd_tf import replace_convolutions
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training import train_student
from tskd_tf.export.litert import litert_latency_us
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.width import scale_width, spaced_rates
from tskd_tf.sweep.tables import mean_of

NUM_CLASSES = 10
CONFIDENCE = 0.95
DISTILLATION, HARD_LABELS = "distillation", "hard_labels"


class Contestant(NamedTuple):
    """A method, and the kind of the student's convolutions."""

    method: str
    convolutions: str = "plain"
    groups: int | None = None


CONTESTANTS = {
    HARD_LABELS: Contestant(HARD_LABELS),
    DISTILLATION: Contestant(DISTILLATION),
    "adversarial": Contestant("adversarial"),
    "hint": Contestant("hint"),
    "pre_regression": Contestant("pre_regression"),
    "online": Contestant("online"),
    "mutual": Contestant("mutual"),
    "dominant": Contestant(DISTILLATION, "dominant"),
    "shift": Contestant(DISTILLATION, "shift"),
    "depthwise": Contestant(DISTILLATION, "depthwise"),
    "grouped": Contestant(DISTILLATION, "grouped", 2),
    "online depthwise": Contestant("online", "depthwise"),
}


class Setting(NamedTuple):
    """Inputs that all contestants of a task share."""

    teacher: keras.Model
    task: Task
    transfer: Any
    validation: Split
    test: Split
    recipe: Recipe
    num_macs: int


def build(contestant, setting, rate):
    """A student of a contestant, at a rate of the teacher's width."""
    student = scale_width(setting.teacher, rate, setting.task)
    if contestant.convolutions == "plain":
        return student
    return replace_convolutions(
        student, contestant.convolutions, groups=contestant.groups
    )


def nearest_rate(contestant, setting):
    """The rate whose student's multiply-adds come nearest to the setting's."""
    return min(
        spaced_rates(0.01),
        key=lambda rate: abs(
            complexity(build(contestant, setting, rate)).num_macs - setting.num_macs
        ),
    )


class EpochClock(keras.callbacks.Callback):
    """Measures the CPU seconds of each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.process_time() - self._start)


def trained(contestant, setting, rate, num_epochs, seed):
    """A student, and the mean CPU seconds of its epochs, without the first."""
    recipe = dataclasses.replace(setting.recipe, epochs=num_epochs, seed=seed)
    if contestant.method == HARD_LABELS:
        recipe = recipe.on_hard_labels()
    else:
        recipe = dataclasses.replace(recipe, method=contestant.method)
    keras.backend.clear_session()
    gc.collect()
    clock = EpochClock()
    student = train_student(
        setting.teacher,
        rate,
        setting.transfer,
        setting.validation,
        setting.task,
        recipe,
        verbose=0,
        build_student=functools.partial(build, contestant, setting),
        callbacks=[clock],
    ).student
    return student, statistics.mean(clock.seconds[1:] or clock.seconds)


def epochs_that_fit(contestant, setting, rate, cpu_seconds):
    """The number of epochs for these CPU seconds, from the second to the fourth."""
    an_epoch = trained(contestant, setting, rate, 4, 0)[1]
    return max(1, round(cpu_seconds / an_epoch))


def run(options):
    """Trains the students that the file lacks, and adds a row for each."""
    data = load("cifar10")
    teacher = load_or_train(options.teacher)
    soft_targets = some_soft_targets(teacher, data.train, options.train_examples)
    partial = pathlib.Path(options.partial)
    kept = read([partial])
    done = {(r["num_classes"], r["contestant"], r["seed"]) for r in kept}
    epochs = {(r["num_classes"], r["contestant"]): r["epochs"] for r in kept}
    part, num_parts = map(int, options.part.split("/"))
    for position, num_classes in enumerate(map(int, options.task_sizes.split(","))):
        task = Task(range(num_classes), NUM_CLASSES, head="task")
        setting = Setting(
            teacher,
            task,
            soft_targets.for_task(task),
            Split(*task.filter(tuple(data.validation))),
            Split(*task.filter(tuple(data.test))),
            Recipe(
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                precision=choose_precision("auto"),
                num_students=options.num_students,
            ),
            complexity(scale_width(teacher, options.rate, task)).num_macs,
        )
        names = options.contestants.split(",")
        # Tasks differ in cost, so each begins with another process
        for name in names[(part + position) % num_parts :: num_parts]:
            contestant = CONTESTANTS[name]
            rate = nearest_rate(contestant, setting)
            for seed in range(1, options.seeds + 1):
                if (num_classes, name, seed) in done:
                    continue
                if (num_classes, name) not in epochs:
                    budget = num_classes * options.cpu_seconds
                    epochs[num_classes, name] = epochs_that_fit(
                        contestant, setting, rate, budget
                    )
                row = measured(
                    contestant, setting, rate, epochs[num_classes, name], seed
                )
                row = {"num_classes": num_classes, "contestant": name, **row}
                with partial.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def measured(contestant, setting, rate, num_epochs, seed):
    """The row of a trained student: its settings, costs and accuracy."""
    student, an_epoch = trained(contestant, setting, rate, num_epochs, seed)
    cost = complexity(student)
    logits = predict_logits(student, setting.test.images)
    return {
        "seed": seed,
        "rate": rate,
        "epochs": num_epochs,
        "cpu_seconds": num_epochs * an_epoch,
        "num_params": cost.num_params,
        "num_macs": cost.num_macs,
        "latency_us": litert_latency_us(student, setting.test.images),
        "accuracy": accuracy(logits, setting.test.class_ids),
    }


def table(rows):
    """A line per task and contestant, from the rows alone."""
    found = []
    names = [name for name in CONTESTANTS if any(r["contestant"] == name for r in rows)]
    for num_classes in sorted({row["num_classes"] for row in rows}):
        by_name: dict[str, dict[int, Any]] = {name: {} for name in names}
        for row in rows:
            if row["num_classes"] == num_classes:
                by_name[row["contestant"]][row["seed"]] = row
        for name in names:
            if not (of_seed := by_name[name]):
                continue
            some = next(iter(of_seed.values()))
            scores = {seed: row["accuracy"] for seed, row in of_seed.items()}
            # The seeds have the same network; other processes only add to its time
            latency_us = min(row["latency_us"] for row in of_seed.values())
            found.append(
                [
                    num_classes,
                    name,
                    f"{some['num_macs']:,}",
                    f"{some['num_params']:,}",
                    f"{latency_us:.0f}",
                    some["epochs"],
                    points(list(scores.values())),
                    *(
                        gain(scores, by_name.get(n, {}))
                        for n in (DISTILLATION, HARD_LABELS)
                    ),
                ]
            )
    return found


def gain(scores, others):
    """Gain over another contestant in points, for the seeds that both have."""
    seeds = sorted(set(scores) & set(others))
    differences = [scores[seed] - others[seed]["accuracy"] for seed in seeds]
    return points(differences, "+") if any(differences) else ""


def points(values, sign=""):
    """The mean in points, with half of its interval if there are several values."""
    mean = mean_of(values, CONFIDENCE)
    text = f"{100 * mean.mean:{sign}.2f}"
    if mean.low is None or mean.high is None:
        return text
    return f"{text} ± {50 * (mean.high - mean.low):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--teacher",
        default="cifar10_teacher.keras",
        help="file of a teacher of all ten classes; trained if missing",
    )
    parser.add_argument("--task_sizes", default="2,5,10")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--cpu_seconds", type=float, default=6.0)
    parser.add_argument("--num_students", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=4e-3)
    parser.add_argument("--train_examples", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--partial", default="methods.jsonl")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--read", nargs="*", help="files to read instead of training")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().setLevel("ERROR")
    if not options.read:
        run(options)
    rows = read(options.read or [options.partial])
    header = ["classes", "contestant", "multiply-adds", "parameters", "latency us"]
    header += ["epochs", "accuracy %", "over distillation", "over hard labels"]
    emit("methods", {"rows": rows}, header, table(rows))


if __name__ == "__main__":
    main()
