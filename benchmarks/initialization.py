"""Students with random initial weights, compared with students from trained channels.

The students of a rate have the same widths and the package's recipe. They start from

- random weights (`random`)
- the teacher's channels with the largest weights (`magnitude`)
- the teacher's channels that matter most for the task (`taylor`)
- the channels of a wider student that itself started from the teacher's (`student of
  0.5`), for each of `--wider_rates` above the rate

All are trained for `--epochs` and, in separate trainings, for `--fewer_epochs`. The
last column has the fewest epochs that reach the accuracy of random weights after
`--epochs`.
Random weights are also trained for `--more_epochs`. Accuracy is on the test images.
"""

import argparse
import dataclasses
import functools
import logging
import statistics

import keras
import tensorflow as tf
from timing import emit

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.device import choose_precision
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.distillation.training import train_student, train_teacher
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.importance import channel_importance
from tskd_tf.networks.width import (
    distinct_rates,
    layer_widths,
    scale_width,
    spaced_rates,
)
from tskd_tf.networks.zoo.models import build_teacher

TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}


def student_builder(model, task, transfer, measure):
    """A function of the rate that thins a trained model to its best channels."""
    images, labels = transfer.images, transfer.labels
    importance = channel_importance(model, task, images, labels, measure)
    return functools.partial(
        scale_width, model, task=task, initialize="teacher", importance=importance
    )


def relative_rate(wider, widths, nearest):
    """The rate at which a wider student is thinned to these widths.

    Args:
        wider: The student to thin.
        widths: Widths of the layers, as `layer_widths` gives them.
        nearest: The rate to try first.

    Raises:
        SystemExit: If no rate gives these widths.
    """
    rates = distinct_rates(wider, spaced_rates(0.001))
    for rate in sorted(rates, key=lambda rate: abs(rate - nearest)):
        if layer_widths(scale_width(wider, rate)) == widths:
            return rate
    raise SystemExit(
        f"Expected a wider student that can be thinned to {widths}. Received: one of "
        f"{layer_widths(wider)}; choose another of --wider_rates"
    )


def builders(teacher, train_wider, task, transfer, rate, measures, wider_rates):
    """By contestant, the function of the rate that builds its student, for one seed.

    `train_wider` is a function of the rate that gives a trained student.
    """
    build = functools.partial(scale_width, teacher, task=task)
    found = {"random": build}
    for measure in measures:
        found[measure] = student_builder(teacher, task, transfer, measure)
    widths = layer_widths(build(rate))
    for wider_rate in wider_rates:
        if wider_rate > rate:
            wider = train_wider(wider_rate)
            relative = relative_rate(wider, widths, rate / wider_rate)
            thin = student_builder(wider, task, transfer, "taylor")
            found[f"student of {wider_rate:g}"] = at_rate(thin, relative)
    return found


def at_rate(build, relative):
    """A function of the rate that ignores it and builds at the relative rate."""
    return lambda rate: build(relative)


def fewest_epochs(scores, target):
    """The fewest epochs after which the mean accuracy reaches the target, or None."""
    enough = [n for n, values in scores.items() if statistics.mean(values) >= target]
    return min(enough, default=None)


def table_row(name, rate, scores, counts, most, target):
    """Means by number of epochs, the range after `most`, and the fewest epochs."""
    means = {n: f"{100 * statistics.mean(values):.2f}" for n, values in scores.items()}
    spread = f"{100 * min(scores[most]):.2f} to {100 * max(scores[most]):.2f}"
    enough = fewest_epochs(scores, target) or "more"
    return [name, f"{rate:g}", *(means.get(n, "") for n in counts), spread, enough]


def parts(text, kind):
    """The parts of a text like `1,2,3`, each converted by `kind`."""
    return [kind(part) for part in text.split(",") if part]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", choices=sorted(TEACHERS))
    parser.add_argument("--classes", default="0,1,2,3,4,5,6,7,8,9")
    parser.add_argument("--rates", default="0.1,0.3")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--fewer_epochs", default="1,2,3")
    parser.add_argument("--more_epochs", default="15", help="for random weights only")
    parser.add_argument("--measures", default="magnitude,taylor")
    parser.add_argument("--wider_rates", default="0.5")
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", help="a .keras file; by default one is trained")
    parser.add_argument("--teacher_epochs", type=int, default=10)
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().setLevel("ERROR")

    data = load(options.dataset)
    task = Task(parts(options.classes, int), 10)
    recipe = Recipe(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        precision=choose_precision("auto"),
    )
    if options.teacher:
        teacher = keras.saving.load_model(options.teacher, compile=False)
    else:
        keras.utils.set_random_seed(1)
        name = TEACHERS[options.dataset]
        teacher = build_teacher(name, data.train.images, len(data.class_names))
        longer = dataclasses.replace(
            recipe, epochs=options.teacher_epochs, learning_rate=2e-3
        )
        teacher = train_teacher(teacher, *data[2:4], longer, verbose=0)
    validation, test = (Split(*task.filter(tuple(part))) for part in data[3:])
    transfer = capture(teacher, *data.train, task)

    def train(rate, seed, num_epochs, build):
        return train_student(
            teacher,
            rate,
            transfer,
            validation,
            task,
            dataclasses.replace(recipe, seed=seed, epochs=num_epochs),
            verbose=0,
            build_student=build,
        ).student

    build_wider = student_builder(teacher, task, transfer, "taylor")

    @functools.cache
    def train_wider(seed, rate):
        return train(rate, seed, options.epochs, build_wider)

    most = options.epochs
    counts = [*parts(options.fewer_epochs, int), most]
    more = parts(options.more_epochs, int)
    wider_rates = parts(options.wider_rates, float)
    measures = parts(options.measures, str)
    rows, result = [], {}
    for rate in parts(options.rates, float):
        scores = {}
        for seed in range(1, options.seeds + 1):
            wider = functools.partial(train_wider, seed)
            found = builders(
                teacher, wider, task, transfer, rate, measures, wider_rates
            )
            for name, build in found.items():
                of_start = scores.setdefault(name, {})
                for num_epochs in counts + (more if name == "random" else []):
                    student = train(rate, seed, num_epochs, build)
                    logits = predict_logits(student, test.images)
                    score = accuracy(logits, test.class_ids)
                    of_start.setdefault(num_epochs, []).append(score)
        result[f"{rate:g}"] = scores
        target = statistics.mean(scores["random"][most])
        rows += [
            table_row(name, rate, of_start, counts + more, most, target)
            for name, of_start in scores.items()
        ]
    logits = task.select_logits(predict_logits(teacher, test.images))
    settings = {
        **vars(options),
        "teacher_accuracy": accuracy(logits, test.class_ids),
        "accuracies": result,
    }
    after = [f"{num_epochs} epochs, %" for num_epochs in counts + more]
    spread = f"from to after {most}"
    header = ["start", "rate", *after, spread, f"epochs to random's {most}"]
    emit("initialization", settings, header, rows)


if __name__ == "__main__":
    main()
