"""The README's Python runs as it stands, and its commands name what exists."""

import pathlib
import re
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from ai_edge_litert.interpreter import Interpreter

from tskd_tf import main
from tskd_tf.choices import FORMATS
from tskd_tf.data.splits import Split
from tskd_tf.distillation import recipe
from tskd_tf.export import latency
from tskd_tf.export.deployment import Deployment, write_labels
from tskd_tf.export.exports import Bargain, export_student
from tskd_tf.networks.zoo.models import lenet

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "_SETTLING_STEPS", 1)
    monkeypatch.setattr(recipe, "_FEWEST_EPOCHS", 1)
    lenet((28, 28, 1), 10).save("teacher.keras")
    generator = np.random.default_rng(0)

    def dataset(num_examples):
        images = generator.integers(0, 256, (num_examples, 28, 28, 1)).astype(np.uint8)
        labels = np.arange(num_examples) % 10
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)

    names = {"train_ds": dataset(200), "validation_ds": dataset(50)}
    names["test_ds"] = dataset(50)
    of_files = [example for example in examples if "image[None]" in example]
    of_files += [example for example in examples if "Analyzer" in example]
    five_lines, *others = (example for example in examples if example not in of_files)
    exec(five_lines, names)
    assert keras.saving.load_model("student.keras").output_shape == (None, 3)
    printed = capsys.readouterr().out
    shown = README.split("What comes back")[1].split("```")[1]
    for part in ("Task: 8, 3, 5 (task head)\nStudent: rate", "95 % interval of the"):
        assert part in printed and part in shown
    for example in others:
        exec(example, names)
    assert len(others) == 4


def test_files_are_loaded_as_it_says(tmp_path, monkeypatch, capsys):
    """Each snippet by itself, in the folder of a run."""
    keras.utils.set_random_seed(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(latency, "_TIMED_RUNS", 2)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1)).astype(np.uint8)
    student, names = lenet((28, 28, 1), 10), [f"digit {i}" for i in range(10)]
    formats = re.findall(r"^\| `(\w+)` \| `student", README, flags=re.MULTILINE)
    assert sorted(formats) == sorted(FORMATS)
    export_student(
        student,
        student,
        tuple(formats),
        ".",
        Deployment("logits", names, images),
        Bargain(Split(images, np.zeros(8, int)), np.ones(8, bool), 1.0, 0.95),
    )
    write_labels(names, ".")
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    loading = [example for example in examples if "image[None]" in example]
    assert len(loading) == 4
    image = images[3]
    answer = names[student(image[None]).numpy()[0].argmax()]
    for example in loading:
        for path in tmp_path.glob("*.tflite") if "Interpreter" in example else [None]:
            snippet = example
            if path is not None:
                snippet = example.replace("student_int8.tflite", path.name)
            exec(snippet, {"image": image})
            assert capsys.readouterr().out == f"{answer}\n", snippet
    interpreter = Interpreter("student_int8.tflite")
    (parameters,) = (example for example in examples if "Analyzer" in example)
    exec(parameters, {"interpreter": interpreter, "tf": tf})
    told, *operations = capsys.readouterr().out.splitlines()
    parts = re.fullmatch(r"value = (\S+) \* \(byte - (\d+)\)", told)
    assert 0 < float(parts[1]) < 1 and 0 <= int(parts[2]) <= 255
    named = set(re.findall(r"Op#\d+ (\w+)", "\n".join(operations)))
    assert {"QUANTIZE", "CONV_2D"} <= named and "SHAPE" not in named


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
