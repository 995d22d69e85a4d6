"""Every method of distillation and every cheap convolution, at equal cost.

On CIFAR-10 tasks of two, five and all ten classes, students of one teacher
(`cifar10_teacher`) and one number of multiply-adds (that of the plain student at
`--rate`; others are as wide as comes nearest to it) are trained for equal CPU seconds
by each method, and by plain distillation on hard labels only: `--cpu_seconds` for each
class of the task. How many epochs fill them is measured for each contestant first, from
the second epoch on, so that building and tracing count nowhere; every schedule ends
with its training. Online and mutual students share their time among `--num_students`,
of which the best on validation data is kept. Accuracy is that on the task's test
images, among its outputs; latency that in LiteRT, float32, one thread, the least of the
seeds. Intervals are Student's t over the seeds; those of a gain over distillation, and
over hard labels, are over the differences of the same seeds.

Rows are kept in `--partial` as they end, so that a run goes on where another was
stopped; `--part=0/2` and `--part=1/2` share the contestants between two processes with
files of their own. `--read` takes any number of such files and only computes.
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
    """A method, and what the student's convolutions are."""

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
    """What the contestants of a task share."""

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
    """CPU seconds of each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.process_time() - self._start)


def trained(contestant, setting, rate, num_epochs, seed):
    """A student, and the CPU seconds of an epoch of its training, but of the first."""
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
    """How many epochs take that long, by what the second to the fourth take."""
    an_epoch = trained(contestant, setting, rate, 4, 0)[1]
    return max(1, round(cpu_seconds / an_epoch))


def run(options):
    """Trains what the file has not; a row each is added to it."""
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
        # So that tasks, which differ in what they cost, begin with another process each
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
    """A row: what was trained, and how it did."""
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
    """A line a task and contestant, from the rows alone."""
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
            # Of one network; whatever else runs only adds to it
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
    """Points above another contestant's, over the seeds that both have."""
    seeds = sorted(set(scores) & set(others))
    differences = [scores[seed] - others[seed]["accuracy"] for seed in seeds]
    return points(differences, "+") if any(differences) else ""


def points(values, sign=""):
    """The mean in points, with half of its interval where there are several values."""
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
        help="of all ten classes; trained, if there is none",
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
    parser.add_argument("--read", nargs="*", help="files to compute from")
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
