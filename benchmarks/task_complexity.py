"""How well measures of a task predict the rate that it needs, over random tasks.

Students of one teacher (`cifar10_teacher`) are distilled at every rate, on random tasks
of two to nine classes, with the task's head. All use the same share of the training
images. The accuracy of a student is divided by the teacher's among the task's classes.
The rate that a task needs is where this curve first reaches a share (`--shares`), by
linear interpolation between the rates. A task that never reaches the share needs more
than any other; one whose smallest student does needs the smallest rate.

Every measure of `tskd_tf.distillation.task_complexity` comes from the teacher alone.
Predictions are compared by Spearman's rank correlation, with percentile intervals of a
bootstrap over the tasks. The gain of a measure over the number of classes has its own
interval from the same bootstrap.

Students are added to `--partial` as they are finished, so an interrupted run can go on.
`--part=0/2` and `--part=1/2` divide the work between two processes, each with its own
file. `--read` computes the table from any number of such files.
"""

import argparse
import json
import logging
import pathlib
import time
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from cifar10_teacher import load_or_train, read, some_soft_targets
from timing import emit

from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.task_complexity import task_complexity
from tskd_tf.distillation.training import train_student
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.sweep.tables import rate_needed

NUM_CLASSES = 10
MEASURES = ("num_classes", "entropy", "confusion", "effective_rank")
CONFIDENCE = 0.95
NUM_DRAWS = 2_000


def random_tasks(num_tasks, seed):
    """Class ids of different tasks, equally many of each size from 2 to 9."""
    generator = np.random.default_rng(seed)
    found: list[list[int]] = []
    while len(found) < num_tasks:
        size = 2 + len(found) % (NUM_CLASSES - 2)
        chosen = sorted(generator.choice(NUM_CLASSES, size, replace=False).tolist())
        if chosen not in found:
            found.append(chosen)
    return found


def trained_tasks(options):
    """Trains the students that the file lacks, and adds a record for each."""
    data = load("cifar10")
    teacher = load_or_train(options.teacher)
    soft_targets = some_soft_targets(teacher, data.train, options.train_examples)
    test_logits = predict_logits(teacher, data.test.images)
    recipe = Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        precision=choose_precision("auto"),
    )
    partial = pathlib.Path(options.partial)
    done = {(tuple(r["classes"]), r["rate"]) for r in read([partial])}
    part, num_parts = map(int, options.part.split("/"))
    tasks = random_tasks(options.tasks, options.seed)[part::num_parts]
    rates = [float(rate) for rate in options.rates.split(",")]
    for classes in tasks:
        task = Task(classes, NUM_CLASSES, head="task")
        transfer = soft_targets.for_task(task)
        validation = type(data.test)(*task.filter(tuple(data.validation)))
        images, labels = task.filter(tuple(data.test))
        measures = task_complexity(transfer.teacher_logits, transfer.labels, task)
        among_task = task.select_logits(test_logits[task.indices(data.test.class_ids)])
        for rate in rates:
            if (tuple(classes), rate) in done:
                continue
            start = time.monotonic()
            student = train_student(
                teacher, rate, transfer, validation, task, recipe, verbose=0
            ).student
            record: dict[str, Any] = {
                "classes": classes,
                "rate": rate,
                "accuracy": accuracy(predict_logits(student, images), labels),
                "teacher_accuracy": accuracy(among_task, labels),
                "seconds": time.monotonic() - start,
                **measures._asdict(),
            }
            with partial.open("a") as stream:
                stream.write(json.dumps(record) + "\n")
            print(json.dumps(record), flush=True)


def rates_needed(records, share):
    """Measures of each task that has all rates, and the rate that it needs.

    Args:
        records: Records as `read` gives them.
        share: Share of the teacher's accuracy, in (0, 1].

    Returns:
        By measure, a value per task; and a rate per task, 2.0 if no rate is enough.
    """
    by_task: dict[tuple[int, ...], list[Any]] = {}
    for record in records:
        by_task.setdefault(tuple(record["classes"]), []).append(record)
    num_rates = max(len(of_task) for of_task in by_task.values())
    measures: dict[str, list[float]] = {name: [] for name in MEASURES}
    needed = []
    for of_task in by_task.values():
        if len(of_task) < num_rates:
            continue
        of_task.sort(key=lambda record: record["rate"])
        curve = [r["accuracy"] / r["teacher_accuracy"] for r in of_task]
        found = rate_needed([r["rate"] for r in of_task], curve, share)
        needed.append(2.0 if found is None else found)
        for name, values in measures.items():
            values.append(of_task[0][name])
    return {name: np.asarray(v) for name, v in measures.items()}, np.asarray(needed)


def correlations(measures, needed, seed=0):
    """Each measure's rank correlation with the rates needed, and its gain.

    Args:
        measures: By name, a value per task.
        needed: A rate per task.
        seed: Seed of the bootstrap.

    Returns:
        By name, `correlation`, its `interval`, and `gain_interval`, the interval of
        its difference from the correlation of `num_classes`.
    """
    from scipy.stats import spearmanr

    def correlation(values, chosen):
        # It is not defined if all tasks need the same rate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(spearmanr(values[chosen], needed[chosen]).statistic)

    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(needed), (NUM_DRAWS, len(needed)))
    drawn = {
        name: np.asarray([correlation(values, draw) for draw in draws])
        for name, values in measures.items()
    }
    ends = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    return {
        name: {
            "correlation": correlation(measures[name], slice(None)),
            "interval": np.nanpercentile(drawn[name], ends).tolist(),
            "gain_interval": np.nanpercentile(
                drawn[name] - drawn["num_classes"], ends
            ).tolist(),
        }
        for name in measures
    }


def table(records, shares):
    """A line per share of the teacher's accuracy and measure, from the records."""
    rows = []
    for share in shares:
        measures, needed = rates_needed(records, share)
        for name, found in correlations(measures, needed).items():
            low, high = found["interval"]
            gain_low, gain_high = found["gain_interval"]
            rows.append(
                [
                    f"{100 * share:g} %",
                    name,
                    f"{found['correlation']:.2f}",
                    f"{low:.2f} to {high:.2f}",
                    f"{gain_low:+.2f} to {gain_high:+.2f}",
                    f"{int((needed > 1).sum())} of {len(needed)}",
                ]
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--teacher",
        default="cifar10_teacher.keras",
        help="file of a teacher of all ten classes; trained if missing",
    )
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--rates", default="0.1,0.2,0.4,0.7")
    parser.add_argument("--shares", default="0.7,0.8,0.9")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=4e-3)
    parser.add_argument("--train_examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="seed of the tasks")
    parser.add_argument("--partial", default="task_complexity.jsonl")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--read", nargs="*", help="files to read instead of training")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().setLevel("ERROR")
    if not options.read:
        trained_tasks(options)
    records = read(options.read or [options.partial])
    header = ["share", "measure", "rank correlation", "95 %", "gain, 95 %", "never"]
    shares = [float(share) for share in options.shares.split(",")]
    emit("task_complexity", {"records": records}, header, table(records, shares))


if __name__ == "__main__":
    main()
