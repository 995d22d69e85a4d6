"""Your own images in one folder per class: a student for two of the classes.

Writes images of CIFAR-10 (or another TFDS data set) as PNG and JPEG files of several
sizes into FOLDER/images/CLASS/, where your own photographs would be. Then it runs the
command line on them. This trains a teacher on all classes, and distils a student for
the classes of the task. The rare class has the same weight as the other one.

    python examples/image_folder.py FOLDER
    python examples/image_folder.py FOLDER --dataset=mnist --classes=3,5

Afterwards, FOLDER/run contains the student, its files to deploy and report.html. All
further arguments go to `python -m tskd_tf.main`, e.g. --epochs=20 --head=task.
"""

import argparse
import pathlib
import subprocess
import sys

import keras
import numpy as np
import tensorflow_datasets as tfds


def write_images(folder: pathlib.Path, dataset: str, num_images: int) -> None:
    """Writes images as files, only half of those of the first class."""
    examples, info = tfds.load(
        dataset, split=f"train[:{num_images}]", as_supervised=True, with_info=True
    )
    class_names = info.features["label"].names
    generator = np.random.default_rng(1)
    for number, (image, class_id) in enumerate(examples.as_numpy_iterator()):
        if class_id == 0 and number % 2:
            continue
        height, width = (side + generator.integers(0, 16) for side in image.shape[:2])
        resized = keras.ops.image.resize(image, (height, width))
        path = folder / class_names[class_id] / f"{number}.{('png', 'jpg')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, np.asarray(resized), scale=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="folder to write to")
    parser.add_argument("--dataset", default="cifar10", help="name of a TFDS data set")
    parser.add_argument("--num_images", type=int, default=2000)
    parser.add_argument("--classes", default="airplane,ship")
    parser.add_argument("--teacher", default="cifar10_quick")
    given, settings = parser.parse_known_args()
    images = given.folder / "images"
    if images.exists():
        parser.error(f"expected a folder without images/, received {given.folder}")
    write_images(images, given.dataset, given.num_images)
    command = [
        *(sys.executable, "-m", "tskd_tf.main"),
        f"--image_dir={images}",
        f"--classes={given.classes}",
        f"--teacher={given.teacher}",
        "--class_weights=balanced",
        "--max_accuracy_loss=0.02",
        f"--output_dir={given.folder / 'run'}",
        *settings,
    ]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
