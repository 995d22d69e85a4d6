"""Students that start from random weights or from the teacher's channels, compared.

The same students of one rate, trained by the product's own recipe, from random weights,
from the teacher's channels of the largest weights (`magnitude`), and from those that
matter most for the task (`taylor`); and from random weights for three times as long.
Accuracy is that on the test images; students see no images but the training data.
"""

import argparse
import functools
import logging
import statistics

import keras
import tensorflow as tf
from timing import emit

from tskd_tf.data import Split, load
from tskd_tf.device import choose_precision
from tskd_tf.evaluate import accuracy, predict_logits
from tskd_tf.importance import channel_importance
from tskd_tf.models import build_teacher
from tskd_tf.soft_targets import capture
from tskd_tf.task import Task
from tskd_tf.training import Recipe, train_student, train_teacher
from tskd_tf.width import scale_width

TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}


def builders(teacher, task, transfer, rate):
    """Contestant → (function of the rate that builds its student, times the epochs)."""
    build = functools.partial(scale_width, teacher, task=task)
    found = {"random": (build, 1), "random, 3x epochs": (build, 3)}
    for measure in ("magnitude", "taylor"):
        importance = channel_importance(
            teacher, task, transfer.images, transfer.labels, measure
        )
        start = functools.partial(build, initialize="teacher", importance=importance)
        found[measure] = (start, 1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", choices=sorted(TEACHERS))
    parser.add_argument("--classes", default="0,1,2,3,4,5,6,7,8,9")
    parser.add_argument("--rates", default="0.1,0.3")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", help="a .keras file; by default one is trained")
    parser.add_argument("--teacher_epochs", type=int, default=10)
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().setLevel("ERROR")

    data = load(options.dataset)
    task = Task([int(name) for name in options.classes.split(",")], 10)
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
        longer = recipe._replace(epochs=options.teacher_epochs, learning_rate=2e-3)
        teacher = train_teacher(teacher, *data[2:4], longer, verbose=0)
    validation, test = (Split(*task.filter(tuple(part))) for part in data[3:])
    transfer = capture(teacher, *data.train, task)

    rows, result = [], {}
    for rate in map(float, options.rates.split(",")):
        scores = {}
        for name, (build, times) in builders(teacher, task, transfer, rate).items():
            for seed in range(1, options.seeds + 1):
                trained = train_student(
                    teacher,
                    rate,
                    transfer,
                    validation,
                    task,
                    recipe._replace(seed=seed, epochs=times * options.epochs),
                    verbose=0,
                    build_student=build,
                )
                logits = predict_logits(trained.student, test.images)
                scores.setdefault(name, []).append(accuracy(logits, test.class_ids))
        result[f"{rate:g}"] = scores
        rows += [
            [
                name,
                f"{rate:g}",
                f"{100 * statistics.mean(values):.2f}",
                f"{100 * min(values):.2f} to {100 * max(values):.2f}",
            ]
            for name, values in scores.items()
        ]
    logits = task.select_logits(predict_logits(teacher, test.images))
    settings = {
        **vars(options),
        "teacher_accuracy": accuracy(logits, test.class_ids),
        "accuracies": result,
    }
    header = ["start", "rate", "mean accuracy, %", "from to"]
    emit("initialization", settings, header, rows)


if __name__ == "__main__":
    main()
