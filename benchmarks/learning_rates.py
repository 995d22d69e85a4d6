"""The automatic learning rate against fixed ones, by family and width.

python benchmarks/learning_rates.py --dataset=mnist --families=thin,compact \
  --rates=0.1,0.5 --factors=0.1,0.3,1,3,10 --seeds=3

Each student is trained at the automatic rate times each factor, with the same warm-up
and cosine. It is also trained at 0.002 without a warm-up, the default of earlier
versions. The regret is what factor 1 loses against the best factor, in points of test
accuracy, mean over the seeds.
"""

import argparse
import dataclasses
import os
import statistics
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras  # noqa: E402
from timing import emit  # noqa: E402

from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.data.tfds import load  # noqa: E402
from tskd_tf.distillation import solvers  # noqa: E402
from tskd_tf.distillation.device import choose_precision  # noqa: E402
from tskd_tf.distillation.recipe import Recipe, student_builder  # noqa: E402
from tskd_tf.distillation.soft_targets import capture  # noqa: E402
from tskd_tf.distillation.training import train_student, train_teacher  # noqa: E402
from tskd_tf.networks.evaluate import accuracy, predict_logits  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402

TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
FIXED = "0.002"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--teacher", help="a network's name; default by data set")
    parser.add_argument("--classes", type=int, default=10, help="the first so many")
    parser.add_argument("--families", default="thin,compact")
    parser.add_argument("--rates", default="0.1,0.5")
    parser.add_argument("--factors", default="0.1,0.3,1,3,10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: that of a search")
    parser.add_argument("--teacher_epochs", type=int, default=10)
    options = parser.parse_args()

    data = load(options.dataset)
    task = Task(range(options.classes), class_names=data.class_names, head="task")
    recipe = Recipe(epochs=options.epochs, precision=choose_precision("auto"))
    keras.utils.set_random_seed(1)
    name = options.teacher or TEACHERS[options.dataset]
    teacher = build_teacher(name, data.train.images, len(data.class_names))
    teacher_recipe = dataclasses.replace(recipe, epochs=options.teacher_epochs)
    teacher = train_teacher(
        teacher, data.train, data.validation, teacher_recipe, verbose=0
    )
    transfer = capture(teacher, *data.train, task)
    test_images, test_labels = task.filter(tuple(data.test))
    validation = type(data.validation)(*task.filter(tuple(data.validation)))

    def scores(family, rate, factor):
        found = []
        for seed in range(1, options.seeds + 1):
            trained_by = dataclasses.replace(recipe, family=family, seed=seed)
            if factor == FIXED:
                trained_by = dataclasses.replace(trained_by, learning_rate=2e-3)
            rule = solvers.automatic_learning_rate
            scale = 1.0 if factor == FIXED else float(factor)
            with mock.patch.object(
                solvers,
                "automatic_learning_rate",
                lambda *arguments: scale * rule(*arguments),
            ):
                trained = train_student(
                    teacher,
                    rate,
                    transfer,
                    validation,
                    task,
                    trained_by,
                    verbose=0,
                    build_student=student_builder(teacher, transfer, task, trained_by),
                )
            logits = predict_logits(trained.student, test_images)
            found.append(100 * accuracy(logits, test_labels))
        return found

    rows, factors = [], [*options.factors.split(","), FIXED]
    for family in options.families.split(","):
        for rate in map(float, options.rates.split(",")):
            by_factor = {f: statistics.fmean(scores(family, rate, f)) for f in factors}
            best = max(by_factor[f] for f in factors[:-1])
            regret = best - by_factor["1"]
            means = [f"{by_factor[f]:.2f}" for f in factors]
            rows.append([family, f"{rate:g}", *means, f"{regret:.2f}"])
    header = ["family", "rate", *(f"x {f}" for f in factors[:-1]), FIXED, "regret"]
    emit("learning_rates", {**vars(options), "rows": rows}, header, rows)


if __name__ == "__main__":
    main()
