"""Students of each family at equal multiply-adds, on MNIST.

python benchmarks/families.py --macs=25000,45000

Each family has the student whose number of multiply-adds is nearest to the given one.
Students are trained from random weights with the package's recipe. A row is the
accuracy on the test images in percent: the mean, and the value of each seed.
"""

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
from timing import emit  # noqa: E402

from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.data.tfds import load  # noqa: E402
from tskd_tf.distillation.recipe import Recipe  # noqa: E402
from tskd_tf.distillation.soft_targets import capture  # noqa: E402
from tskd_tf.distillation.training import train_student, train_teacher  # noqa: E402
from tskd_tf.networks.costs import complexity  # noqa: E402
from tskd_tf.networks.evaluate import accuracy, predict_logits  # noqa: E402
from tskd_tf.networks.families import compact, thin  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402

FAMILIES = {"thin": thin.FAMILY, "compact": compact.FAMILY}


def nearest_rate(family, teacher, task, num_macs):
    """The rate whose student is nearest to `num_macs` multiply-adds, and its costs."""
    costs = {
        rate: complexity(family.build(teacher, rate, task))
        for rate in family.rates(teacher, task)
    }
    rate = min(costs, key=lambda rate: abs(costs[rate].num_macs - num_macs))
    return rate, costs[rate]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--macs", default="25000,45000")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--learning_rate", type=float, default=6e-3)
    parser.add_argument("--teacher", help="a .keras file; by default one is trained")
    parser.add_argument("--teacher_epochs", type=int, default=6)
    options = parser.parse_args()

    data = load("mnist")
    task = Task(range(10), class_names=data.class_names)
    if options.teacher:
        teacher = keras.saving.load_model(options.teacher, compile=False)
    else:
        keras.utils.set_random_seed(1)
        teacher = build_teacher("lenet", data.train.images, task.num_classes)
        recipe = Recipe(epochs=options.teacher_epochs, learning_rate=2e-3)
        teacher = train_teacher(teacher, data.train, data.validation, recipe, verbose=0)

    def test_accuracy(model):
        logits = predict_logits(model, data.test.images)
        return round(100 * accuracy(logits, data.test.class_ids), 2)

    transfer = capture(teacher, *data.train, task)
    rows = []
    for num_macs in map(int, options.macs.split(",")):
        for name, family in FAMILIES.items():
            rate, cost = nearest_rate(family, teacher, task, num_macs)
            scores = []
            for seed in range(1, options.seeds + 1):
                recipe = Recipe(
                    epochs=options.epochs,
                    learning_rate=options.learning_rate,
                    seed=seed,
                )
                trained = train_student(
                    teacher,
                    rate,
                    transfer,
                    data.validation,
                    task,
                    recipe,
                    verbose=0,
                    build_student=lambda rate: family.build(teacher, rate, task),
                )
                scores.append(test_accuracy(trained.student))
            mean = f"{statistics.mean(scores):.2f}"
            costs = [f"{rate:g}", cost.num_macs, cost.num_params]
            rows.append([name, *costs, mean, " ".join(map(str, scores))])
    settings = {**vars(options), "teacher_accuracy": test_accuracy(teacher)}
    header = ["family", "rate", "multiply-adds", "parameters", "test %", "each seed"]
    emit("families", {**settings, "rows": rows}, header, rows)


if __name__ == "__main__":
    main()
