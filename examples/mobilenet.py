"""Your own MobileNetV2 on CIFAR-10, and a student for a device with four classes.

A MobileNetV2 is trained on all ten classes. Then the search finds its thinnest copy
that loses at most two points on four classes. Each candidate starts from the channels
of the teacher that matter most for these four. The results are printed.

    pip install tskd_tf
    python examples/mobilenet.py

With all images, this takes an hour on two cores; with `--num_images=2000 --epochs=2`,
two minutes.
"""

import argparse

import keras
import tensorflow_datasets as tfds

import tskd_tf

CLASSES = ["cat", "dog", "horse", "truck"]


def build_model():
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    network = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3),
        alpha=0.5,
        weights=None,
        classes=10,
        classifier_activation=None,
    )
    return keras.Model(image, network(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--max_accuracy_loss", type=float, default=0.02)
    parser.add_argument("--rates", default="0.1,0.2,0.3,0.4,0.5,0.7,1.0")
    parser.add_argument("--output", default="mobilenet_student.keras")
    options = parser.parse_args()
    keras.utils.set_random_seed(1)

    held_out = options.num_images // 10
    splits = [f"train[{held_out}:{options.num_images}]", f"train[:{held_out}]", "test"]
    (train, validation, test), info = tfds.load(
        "cifar10", split=splits, as_supervised=True, with_info=True
    )
    test = test.take(options.num_images)
    train, validation, test = (part.batch(128) for part in (train, validation, test))

    teacher = build_model()
    teacher.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    teacher.fit(
        train.cache().shuffle(100).prefetch(2),
        validation_data=validation,
        epochs=options.epochs,
        shuffle=False,  # the data set shuffles
        verbose=2,
    )

    names = info.features["label"].names
    task = tskd_tf.Task.from_names(CLASSES, names, head="task")
    found = tskd_tf.find_smallest_student(
        teacher,
        train,
        validation,
        test,
        task=task,
        max_accuracy_loss=options.max_accuracy_loss,
        rates=[float(rate) for rate in options.rates.split(",")],
        recipe=tskd_tf.Recipe(epochs=options.epochs, initialize="teacher"),
        verbose=2,
    )
    found.student.save(options.output)

    report = found.report
    for name in ("teacher", "student"):
        print(
            f"{name}: {100 * report[name]['accuracy']:.2f} % of {', '.join(CLASSES)} "
            f"right, {report[name]['num_macs']:,} multiply-adds"
        )
    low, high = report["accuracy_loss_interval"]
    print(
        f"lost: {100 * report['accuracy_loss']:.2f} points "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f}); "
        f"{100 * options.max_accuracy_loss:g} were allowed; {options.output}"
    )


if __name__ == "__main__":
    main()
