"""The README's Python runs as it stands, and its commands name what exists."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from tskd_tf import main, training
from tskd_tf.models import lenet

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_SETTLING_STEPS", 1)
    monkeypatch.setattr(training, "_FEWEST_EPOCHS", 1)
    lenet((28, 28, 1), 10).save("teacher.keras")
    generator = np.random.default_rng(0)

    def dataset(num_examples):
        images = generator.integers(0, 256, (num_examples, 28, 28, 1)).astype(np.uint8)
        labels = np.arange(num_examples) % 10
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)

    names = {"train_ds": dataset(200), "validation_ds": dataset(50)}
    names["test_ds"] = dataset(50)
    five_lines, *others = examples
    exec(five_lines, names)
    assert keras.saving.load_model("student.keras").output_shape == (None, 3)
    printed = capsys.readouterr().out
    shown = README.split("What comes back")[1].split("```")[1]
    for part in ("Task: 8, 3, 5 (task head)\nStudent: rate", "95 % interval of the"):
        assert part in printed and part in shown
    for example in others:
        exec(example, names)
    assert len(others) == 4


def test_commands_name_flags_that_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"python -m tskd_tf\.main((?:.|\\\n)*?)\n(?!  )", README)
    assert len(commands) >= 4
    for command in commands:
        arguments = command.replace("\\\n", " ").split("`")[0].split()
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            assert main._parse(["main", *arguments]) == ["main"]
            main._read_config()


def test_files_that_are_named_exist():
    for name in re.findall(r"\]\(([\w/.]+)\)", README):
        assert (ROOT / name).exists(), name
