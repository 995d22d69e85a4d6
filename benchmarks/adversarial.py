"""The gain by each part of the adversarial loss (Xu, Hsu and Huang, table 3).

Students of rate `--rate` learn from `--num_images` training images. Their teacher has
learned from all training images: a LeNet on MNIST, or `cifar10_teacher` on CIFAR-10
(`--teacher=cifar10_teacher.keras`). Each contestant has other values of the three
weights of `AdversarialDistiller`. Plain distillation and hard labels are contestants,
too. A row is the accuracy on the test images in percent: mean, minimum and maximum over
the seeds. Both optimisers are Adam; the discriminator's learning rate is
`--discriminator_factor` times the student's.
"""

import argparse
import logging
import statistics

import keras
import tensorflow as tf
from cifar10_teacher import load_or_train, some_soft_targets
from timing import emit

from tskd_tf.data.task import Task
from tskd_tf.data.tfds import load
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.adversarial import AdversarialDistiller
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.solvers import build_optimizer
from tskd_tf.distillation.training import train_teacher
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.width import scale_width
from tskd_tf.networks.zoo.models import lenet

BATCH_SIZE, LEARNING_RATE = 64, 2e-3
# Weights of L_S, L_L1 and L_GAN, and whether L_GAN is the paper's
ADVERSARIAL = {
    "all three": (1.0, 1.0, 1.0, True),
    "all three (not saturating)": (1.0, 1.0, 1.0, False),
    "L_S + L_L1": (1.0, 1.0, 0.0, True),
    "L_S + L_GAN": (1.0, 0.0, 1.0, True),
    "L_L1": (0.0, 1.0, 0.0, True),
    "L_GAN": (0.0, 0.0, 1.0, True),
}
PLAIN = {"hard labels": 0.0, "distillation": 0.9}


def train(name, student, examples, num_steps, options):
    """Trains a student in place."""
    optimizer = build_optimizer("adam", LEARNING_RATE, num_steps)
    if name in PLAIN:
        distiller = Distiller(student)
        distiller.compile(optimizer, soft_loss_weight=PLAIN[name])
    else:
        distiller = AdversarialDistiller(student)
        other = build_optimizer(
            "adam", options.discriminator_factor * LEARNING_RATE, num_steps
        )
        distiller.compile(optimizer, other, *ADVERSARIAL[name])
    distiller.fit(examples, epochs=options.epochs, shuffle=False, verbose=0)


def teacher_of(data, options):
    """The teacher from the file, or a LeNet."""
    if options.teacher:
        return load_or_train(options.teacher)
    keras.utils.set_random_seed(1)
    recipe = Recipe(epochs=options.teacher_epochs, learning_rate=2e-3)
    network = lenet((28, 28, 1), 10)
    return train_teacher(network, data.train, data.validation, recipe, verbose=0)


def main():
    names = [*PLAIN, *ADVERSARIAL]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--teacher",
        help="file of a CIFAR-10 teacher, trained if missing; by default MNIST is used",
    )
    parser.add_argument("--contestants", default=",".join(names))
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--num_images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--teacher_epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--discriminator_factor", type=float, default=1.0)
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().setLevel("ERROR")

    data = load("cifar10" if options.teacher else "mnist")
    teacher = teacher_of(data, options)
    task = Task(range(10), 10)
    transfer = some_soft_targets(teacher, data.train, options.num_images)
    num_steps = options.epochs * -(-options.num_images // BATCH_SIZE)

    def right(model):
        return accuracy(predict_logits(model, data.test.images), data.test.class_ids)

    found = {}
    for name in options.contestants.split(","):
        for seed in range(1, options.seeds + 1):
            keras.utils.set_random_seed(seed)
            examples = transfer.batches(BATCH_SIZE, seed, 1)
            student = scale_width(teacher, options.rate, task)
            train(name, student, examples, num_steps, options)
            found.setdefault(name, []).append(right(student))
    rows = [
        [name, f"{100 * statistics.mean(scores):.2f}"]
        + [f"{100 * bound(scores):.2f}" for bound in (min, max)]
        for name, scores in found.items()
    ]
    result = {**vars(options), "teacher_accuracy": right(teacher), "accuracies": found}
    emit("adversarial", result, ["contestant", "mean", "least", "most"], rows)


if __name__ == "__main__":
    main()
