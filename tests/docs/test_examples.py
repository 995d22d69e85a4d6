"""The examples run as they stand, with small settings.

That with a folder of images is in `test_example_image_folder`.
"""

import pathlib
import re
import runpy
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from digits import mnist_data

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    """What an example prints."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def settings(tmp_path):
    return "--epochs=2", "--num_images=600", f"--output_dir={tmp_path / 'out'}"


@pytest.mark.long
def test_own_model(tmp_path):
    printed = run("own_model.py", *settings(tmp_path))
    teacher, student = (
        int(number.replace(",", ""))
        for number in re.findall(r"right, ([\d,]+) multiply-adds", printed)
    )
    assert student < 0.1 * teacher
    loaded = keras.saving.load_model(tmp_path / "out" / "student.keras")
    assert loaded.output_shape == (None, 3)
    assert list((tmp_path / "out" / "logs" / "train").iterdir())


@pytest.mark.long
def test_several_devices(tmp_path):
    printed = run("several_devices.py", *settings(tmp_path))
    assert [line.split(":")[0] for line in printed.splitlines()] == [
        "door, outputs 0, 1",
        "meter, outputs 8, 3, 5",
        "sorter, outputs 9, 7, 4, 1",
    ]
    for name, num_outputs in (("door", 2), ("meter", 3), ("sorter", 4)):
        loaded = keras.saving.load_model(tmp_path / "out" / f"{name}.keras")
        assert loaded.output_shape == (None, num_outputs)


def digits_for_cifar10(*_, split, **__):
    """Three splits of real digits, in the size and under the names of CIFAR-10."""
    pixels, class_ids = mnist_data()
    images = pixels[::10].reshape(-1, 28, 28, 1).astype(np.uint8)
    images = np.pad(np.repeat(images, 3, axis=-1), ((0, 0), (2, 2), (2, 2), (0, 0)))
    digits = tf.data.Dataset.from_tensor_slices((images, class_ids[::10]))
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]
    info = types.SimpleNamespace(features={"label": types.SimpleNamespace(names=names)})
    return [digits for _ in split], info


@pytest.mark.long
def test_mobilenet(tmp_path, monkeypatch, capsys):
    if not tfds.builder("cifar10").is_prepared():
        # Tests do not download
        monkeypatch.setattr(tfds, "load", digits_for_cifar10)
    path = tmp_path / "student.keras"
    options = ["--num_images=600", "--epochs=1", "--rates=0.25", f"--output={path}"]
    monkeypatch.setattr(sys, "argv", ["mobilenet.py", *options])
    runpy.run_path(str(EXAMPLES / "mobilenet.py"), run_name="__main__")
    assert "of cat, dog, horse, truck right" in capsys.readouterr().out
    assert keras.saving.load_model(path).output_shape == (None, 4)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_every_example_says_what_it_shows_and_is_run(path):
    assert path.read_text().startswith('"""')
    tests = pathlib.Path(__file__).parent.glob("test_example*.py")
    assert any(f'"{path.name}"' in test.read_text() for test in tests)
