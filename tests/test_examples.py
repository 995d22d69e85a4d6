"""The examples run as they stand, with small settings."""

import pathlib
import re
import subprocess
import sys

import keras
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_every_example_says_what_it_shows_and_is_run(path):
    assert path.read_text().startswith('"""')
    assert f'"{path.name}"' in pathlib.Path(__file__).read_text()
