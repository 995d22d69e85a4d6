"""The epochs that early verdicts save, and how often early verdicts are wrong.

First the students of all rates are trained to the end for some seeds. The file
`--curves` keeps the validation accuracy after each epoch, one JSON line per student.
Students in the file are not trained again, so an interrupted run can go on. Then
`early_verdict` is replayed on these curves for several floors. The table has the epochs
saved and the verdicts that differ from those of the full training. For early feasible
students it has the accuracy that the further epochs would have gained. It counts all
students, and those that a search by bisection would train. For comparison, it has the
verdicts of full trainings that differ between seeds.
"""

import argparse
import collections
import dataclasses
import gc
import itertools
import json
import logging
import math
import pathlib
import statistics

import keras
import tensorflow as tf
from keras import layers
from timing import emit

from tskd_tf.acceptance import accuracy_floor
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.distillation.training import train_student, train_teacher
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.width import spaced_rates
from tskd_tf.networks.zoo.models import IMAGE_SHAPES, build_teacher
from tskd_tf.search.early_verdict import decision_margin, early_verdict

# Settings that all curves of a file share; seeds and rates may be added
SETTINGS = (
    "dataset",
    "teacher",
    "classes",
    "epochs",
    "learning_rate",
    "every",
    "teacher_epochs",
)
TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
ALL_RATES = ",".join(f"{rate:g}" for rate in spaced_rates(0.05))


def read_curves(path):
    """The rows of the file, one per student."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def wanted_students(options, rows):
    """The (seed, rate) pairs that have no curve yet."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    for row in rows:
        if row["settings"] != settings:
            raise SystemExit(
                f"Expected curves of {settings} in {options.curves}. Received: those "
                f"of {row['settings']}; choose another --curves"
            )
    rates = [float(rate) for rate in options.rates.split(",")]
    pairs = itertools.product(range(1, options.seeds + 1), rates)
    known = {(row["seed"], row["rate"]) for row in rows}
    return [pair for pair in pairs if pair not in known]


def train_curves(options, wanted):
    """Trains these students and appends their rows to the file."""
    data = load(options.dataset)
    task = Task([int(name) for name in options.classes.split(",")], 10)
    recipe = Recipe(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        precision=choose_precision("auto"),
    )
    teacher = teacher_of(options, data, recipe)
    validation = Split(*task.filter(tuple(data.validation)))
    chosen = slice(None, None, options.every)
    train = Split(data.train.images[chosen], data.train.class_ids[chosen])
    transfer = capture(teacher, *train, task)
    logits = task.select_logits(predict_logits(teacher, validation.images))
    for seed, rate in wanted:
        trained = train_student(
            teacher,
            rate,
            transfer,
            validation,
            task,
            dataclasses.replace(recipe, seed=seed),
            verbose=0,
        )
        row = {
            "settings": {name: getattr(options, name) for name in SETTINGS},
            "num_train": len(transfer.images),
            "num_validation": len(validation.images),
            "teacher_accuracy": accuracy(logits, validation.class_ids),
            "seed": seed,
            "rate": rate,
            "seconds": trained.seconds,
            "accuracy": trained.accuracy,
            "accuracies": trained.curve["validation_accuracy"],
        }
        with options.curves.open("a") as file:
            file.write(json.dumps(row) + "\n")
        # The traced training step is in reference cycles
        gc.collect()


def teacher_of(options, data, recipe):
    """The teacher from the file beside the curves; trained if there is none."""
    kept = options.curves.with_suffix(".keras")
    if not kept.exists():
        keras.utils.set_random_seed(1)
        images, num_classes = data.train.images, len(data.class_names)
        if options.teacher == "batch_norm":
            teacher = batch_norm_network(images.shape[1:], num_classes)
        else:
            teacher = build_teacher(options.teacher, images, num_classes)
        longer = dataclasses.replace(
            recipe, epochs=options.teacher_epochs, learning_rate=2e-3
        )
        train_teacher(teacher, *data[2:4], longer, verbose=0).save(kept)
    return keras.saving.load_model(kept, compile=False)


def batch_norm_network(image_shape, num_classes):
    """A network of three strided convolutions with Keras's default normalisation."""
    image = x = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(x)
    for width in (32, 64, 64):
        x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    logits = layers.Dense(num_classes)(layers.Flatten()(x))
    return keras.Model(image, logits, name="batch_norm")


def replay(row, floor, margin):
    """(verdict, epochs trained, whether the verdict was early) of one student."""
    accuracies = row["accuracies"]
    for num_done in range(1, len(accuracies)):
        verdict = early_verdict(accuracies[:num_done], len(accuracies), floor, margin)
        if verdict is not None:
            return verdict, num_done, True
    return row["accuracy"] >= floor, len(accuracies), False


def bisect(feasible):
    """(smallest feasible position or None, positions tried) of a bisection."""
    low, high, tried = -1, len(feasible), []
    while high - low > 1:
        middle = (low + high) // 2
        tried.append(middle)
        low, high = (low, middle) if feasible[middle] else (middle, high)
    return (high if high < len(feasible) else None), tried


def by_seed(rows):
    """The rows of each seed, from the smallest rate to the largest."""
    ordered = sorted(rows, key=lambda row: (row["seed"], row["rate"]))
    groups = itertools.groupby(ordered, key=lambda row: row["seed"])
    return [list(group) for _, group in groups]


def judge(rows, floor, margin):
    """Counts of early and of wrong verdicts at one floor, for students and searches.

    `accuracy_given_up` is a sum over the students that were found feasible early.
    """
    found = collections.Counter()
    for students in by_seed(rows):
        full = [row["accuracy"] >= floor for row in students]
        replayed = [replay(row, floor, margin) for row in students]
        for row, truth, (verdict, num_done, is_early) in zip(
            students, full, replayed, strict=True
        ):
            name = "feasible" if verdict else "out_of_reach"
            found["early_" + name] += is_early
            found["wrong_" + name] += verdict != truth
            if verdict != truth:
                found[f"wrong_{name}_at_epoch_{num_done}"] += 1
            if is_early and verdict:
                gain = row["accuracies"][-1] - row["accuracies"][num_done - 1]
                found["accuracy_given_up"] += gain
            found["students"] += 1
            found["feasible_in_full"] += truth
            found["epochs"] += len(row["accuracies"])
            found["epochs_trained"] += num_done
        expected, tried_in_full = bisect(full)
        answer, tried = bisect([verdict for verdict, _, _ in replayed])
        found["searches"] += 1
        found["answers_changed"] += answer != expected
        found["search_epochs"] += sum(
            len(students[i]["accuracies"]) for i in tried_in_full
        )
        found["search_epochs_trained"] += sum(replayed[i][1] for i in tried)
    for a, b in same_rate_pairs(rows):
        found["seed_pairs"] += 1
        differ = (a["accuracy"] >= floor) != (b["accuracy"] >= floor)
        found["seed_pairs_that_differ"] += differ
    return found


def same_rate_pairs(rows):
    """Pairs of students that differ only in the seed."""
    for a, b in itertools.combinations(rows, 2):
        if a["rate"] == b["rate"]:
            yield a, b


def spread(rows):
    """How final accuracies differ by seed and rate, in units of `decision_margin`."""
    num_validation = rows[0]["num_validation"]

    def in_margins(difference, *accuracies):
        middle = statistics.mean(accuracies)
        return difference / decision_margin(middle, num_validation)

    # Half the squared difference of a pair is an unbiased variance
    variances = [
        in_margins(a["accuracy"] - b["accuracy"], a["accuracy"], b["accuracy"]) ** 2 / 2
        for a, b in same_rate_pairs(rows)
    ]
    rises = [
        in_margins(b["accuracy"] - a["accuracy"], a["accuracy"], b["accuracy"])
        for students in by_seed(rows)
        for a, b in itertools.pairwise(students)
    ]
    return {
        "sd_over_margin": math.sqrt(statistics.mean(variances)) if variances else None,
        "neighbouring_rates": len(rises),
        "of_which_fall": sum(rise < 0 for rise in rises),
        "greatest_fall_over_margin": max(0.0, -min(rises, default=0.0)),
    }


def share_saved(num_trained, num_epochs):
    return f"{100 * (1 - num_trained / num_epochs):.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", choices=sorted(TEACHERS))
    parser.add_argument(
        "--teacher",
        choices=[*IMAGE_SHAPES, "batch_norm"],
        help="by default lenet for MNIST, cifar10_full for CIFAR-10",
    )
    parser.add_argument("--classes", default="0,1,2,3,4,5,6,7,8,9")
    parser.add_argument("--rates", default=ALL_RATES)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--every", type=int, default=1, help="use each nth training image"
    )
    parser.add_argument("--teacher_epochs", type=int, default=10)
    parser.add_argument("--curves", type=pathlib.Path, required=True)
    parser.add_argument("--losses", default="0.002,0.005,0.01,0.02")
    parser.add_argument("--times_margin", type=float, default=1.0)
    options = parser.parse_args()
    options.teacher = options.teacher or TEACHERS[options.dataset]
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().setLevel("ERROR")

    wanted = wanted_students(options, read_curves(options.curves))
    if wanted:
        train_curves(options, wanted)
    rows = read_curves(options.curves)
    teacher_accuracy = rows[0]["teacher_accuracy"]
    judged = {}
    for loss in options.losses.split(","):
        floor = accuracy_floor(teacher_accuracy, float(loss))
        margin = decision_margin(floor, rows[0]["num_validation"])
        judged[loss] = judge(rows, floor, options.times_margin * margin)
    in_all = collections.Counter()
    for found in judged.values():
        # Not by +, which drops counts that are not positive
        in_all.update(found)
    judged["all"] = in_all
    result = {
        **vars(options),
        "curves": str(options.curves),
        **{name: rows[0][name] for name in ("num_train", "num_validation")},
        "teacher_accuracy": teacher_accuracy,
        "spread": spread(rows),
        "floors": judged,
    }
    header = [
        "loss allowed",
        "students",
        "feasible",
        "early feasible",
        "wrong",
        "given up, points",
        "early out of reach",
        "wrong",
        "epochs saved, %",
        "answers changed",
        "search epochs saved, %",
        "seeds differ",
    ]
    table = [
        [
            loss,
            found["students"],
            found["feasible_in_full"],
            found["early_feasible"],
            found["wrong_feasible"],
            f"{100 * found['accuracy_given_up'] / max(1, found['early_feasible']):.2f}",
            found["early_out_of_reach"],
            found["wrong_out_of_reach"],
            share_saved(found["epochs_trained"], found["epochs"]),
            f"{found['answers_changed']} of {found['searches']}",
            share_saved(found["search_epochs_trained"], found["search_epochs"]),
            f"{found['seed_pairs_that_differ']} of {found['seed_pairs']}",
        ]
        for loss, found in judged.items()
    ]
    emit("early_verdicts", result, header, table)


if __name__ == "__main__":
    main()
