"""Why thin students of the paper's CIFAR-10 protocol may not learn at all.

python -m tskd_tf.main --flagfile=cifar10.flags --mode=teacher --protocol=paper \
  --teacher_epochs=140 --output_dir=runs/teacher
python benchmarks/caffe_students.py --teacher=runs/teacher/teacher.keras

The initial weights of Caffe's `cifar10_full` are normal, with standard deviations of
0.0001 (first convolution) and 0.01 for any width. Its solver's weight decay of the last
layer is 250 times that of the others. Students of rate 0.1 are trained by Eq. 8:

- caffe: with Caffe's solver
- no_decay: with this solver without weight decay
- temperature_squared: with this solver, the soft loss times τ²
- hard_labels: with this solver, on hard labels only

A row is the norm of the last layer's weights before and after the training, the loss of
the last epoch, and the accuracy on 1,000 validation images.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
from cifar10_teacher import some_soft_targets  # noqa: E402
from timing import emit  # noqa: E402

from tskd_tf.data.splits import Split  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.data.tfds import load  # noqa: E402
from tskd_tf.distillation.device import choose_precision  # noqa: E402
from tskd_tf.distillation.recipe import Recipe  # noqa: E402
from tskd_tf.distillation.solvers import CAFFE_SOLVERS  # noqa: E402
from tskd_tf.distillation.training import train_student  # noqa: E402

SOLVER = "caffe_cifar10_full"
CONTESTANTS = ("caffe", "no_decay", "temperature_squared", "hard_labels")


class LastLayer(keras.callbacks.Callback):
    """Measures the norm of the last layer's kernel before and after the training."""

    def on_train_begin(self, logs=None):
        self.at_start = self._norm()

    def on_train_end(self, logs=None):
        self.at_end = self._norm()

    def _norm(self):
        kernel = self.model.student.get_layer("ip1").kernel
        return float(keras.ops.norm(kernel))


def recipe_of(name, epochs, seed):
    solver = CAFFE_SOLVERS[SOLVER]
    recipe = Recipe(
        epochs=epochs,
        seed=seed,
        batch_size=solver.batch_size,
        learning_rate=solver.learning_rate,
        solver="no_decay" if name == "no_decay" else SOLVER,
        scale_soft_loss=name == "temperature_squared",
        precision=choose_precision("auto"),
    )
    return recipe.on_hard_labels() if name == "hard_labels" else recipe


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--num_examples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()

    teacher = keras.saving.load_model(options.teacher, compile=False)
    data = load("cifar10")
    task = Task(range(10), class_names=data.class_names)
    soft_targets = some_soft_targets(teacher, data.train, options.num_examples)
    validation = Split(*(part[:1000] for part in data.validation))
    CAFFE_SOLVERS["no_decay"] = CAFFE_SOLVERS[SOLVER]._replace(weight_decay=0.0)

    rows = []
    for seed in range(1, options.seeds + 1):
        for name in CONTESTANTS:
            last_layer = LastLayer()
            trained = train_student(
                teacher,
                0.1,
                soft_targets,
                validation,
                task,
                recipe_of(name, options.epochs, seed),
                verbose=0,
                callbacks=[last_layer],
            )
            rows.append(
                {
                    "contestant": name,
                    "seed": seed,
                    "norm_at_start": last_layer.at_start,
                    "norm_at_end": last_layer.at_end,
                    "loss": trained.curve["loss"][-1],
                    "accuracy": trained.accuracy,
                }
            )
    header = ["contestant", "seed", "norm at start", "at end", "loss", "right"]
    table = [
        [
            row["contestant"],
            row["seed"],
            f"{row['norm_at_start']:.4f}",
            f"{row['norm_at_end']:.4f}",
            f"{row['loss']:.3f}",
            f"{100 * row['accuracy']:.1f} %",
        ]
        for row in rows
    ]
    emit("caffe_students", {**vars(options), "students": rows}, header, table)


if __name__ == "__main__":
    main()
