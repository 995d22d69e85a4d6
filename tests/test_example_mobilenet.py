"""The example with a MobileNetV2, made small, as a user starts it."""

import pathlib
import subprocess
import sys

import keras
import pytest
import tensorflow_datasets as tfds

SCRIPT = pathlib.Path(__file__).parents[1] / "examples" / "mobilenet.py"


def test_a_mobilenet_and_four_classes(tmp_path):
    if not tfds.builder("cifar10").is_prepared():
        pytest.skip("CIFAR-10 is not prepared, and the test does not download it")
    options = ["--num_images=600", "--epochs=1", "--rates=0.25", "--output=s.keras"]
    command = [sys.executable, str(SCRIPT), *options]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert "of cat, dog, horse, truck right" in result.stdout
    student = keras.saving.load_model(tmp_path / "s.keras")
    assert student.output_shape == (None, 4)
