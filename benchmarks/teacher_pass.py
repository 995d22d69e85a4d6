"""Capture of soft targets: images per second of one pass of the teacher.

python benchmarks/teacher_pass.py [--datasets mnist,cifar10] [--num_images 10000]

All contestants use float32, the same images and the same teacher: LeNet for MNIST,
cifar10_full for CIFAR-10. Its weights are random, which does not change the time:

- capture: `tskd_tf.distillation.soft_targets.capture`, which also checks its input and
  output
- transfer_set: the public function, which captures and makes a shuffled data set
- predict_128, predict_1000: `teacher.predict(images, batch_size=...)`
- eager_128: plain calls of the model on batches of 128

The benchmark checks that all logits agree, relative to the largest one. Each column is
sorted first, because a transfer set is shuffled.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from timing import alternate, emit, medians, ratios  # noqa: E402

from tskd_tf.data import tfds  # noqa: E402
from tskd_tf.data.images import chunks  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.distillation.soft_targets import capture, transfer_set  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402

TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
TOLERANCE = 1e-4


def contestants_for(teacher, images, class_ids):
    """Callables that run the teacher over all images, by name."""
    task = Task(range(10), 10)

    def eager():
        parts = chunks(len(images), 128)
        return np.concatenate(
            [teacher(images[part], training=False).numpy() for part in parts]
        )

    return {
        "capture": lambda: capture(teacher, images, class_ids, task).teacher_logits,
        "transfer_set": lambda: transfer_set((images, class_ids), teacher, task),
        "predict_128": lambda: teacher.predict(images, batch_size=128, verbose=0),
        "predict_1000": lambda: teacher.predict(images, batch_size=1000, verbose=0),
        "eager_128": eager,
    }


def check_agreement(contestants):
    """Largest difference from capture's logits, divided by the largest; by name."""
    logits = {}
    for name, run in contestants.items():
        got = run()
        if isinstance(got, tf.data.Dataset):
            batches = [inputs["teacher_logits"] for inputs, _ in got]
            got = np.concatenate(batches)
        logits[name] = np.sort(got, axis=0)
    expected = logits["capture"]
    return {
        name: float(np.abs(got - expected).max() / np.abs(expected).max())
        for name, got in logits.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", default="mnist,cifar10")
    parser.add_argument("--num_images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")

    result, rows = {}, []
    for dataset in arguments.datasets.split(","):
        source = tfds.load(dataset)
        images, class_ids = (part[: arguments.num_images] for part in source.train)
        keras.utils.set_random_seed(1)
        teacher = build_teacher(TEACHERS[dataset], images, 10)
        contestants = contestants_for(teacher, images, class_ids)
        differences = check_agreement(contestants)
        seconds = alternate(contestants, arguments.rounds)
        typical, relative = medians(seconds), ratios(seconds, "capture")
        speed = {name: len(images) / value for name, value in typical.items()}
        best = {name: len(images) / min(values) for name, values in seconds.items()}
        result[dataset] = {
            "teacher": TEACHERS[dataset],
            "num_images": len(images),
            "images_per_second": speed,
            "best_images_per_second": best,
            "time_over_capture": relative,
            "largest_difference_over_largest_logit": differences,
            "logits_agree": max(differences.values()) <= TOLERANCE,
        }
        rows += [
            [
                name,
                dataset,
                f"{speed[name]:,.0f}",
                f"{best[name]:,.0f}",
                f"{relative[name]:.2f}",
                f"{differences[name]:.0e}",
            ]
            for name in contestants
        ]
    header = [
        "contestant",
        "data set",
        "images a second",
        "at best",
        "time over capture",
        "difference",
    ]
    settings = {"tolerance": TOLERANCE, "rounds": arguments.rounds, "datasets": result}
    emit("teacher_pass", settings, header, rows)


if __name__ == "__main__":
    main()
