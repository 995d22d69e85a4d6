"""A training setting and a budget from a module outside the package: one field each.

They are added in a process of its own, because flags are made when `main` is imported.
"""

import json
import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf
from conftest import make_data, make_network
from schemas import check_schema

MODULE = """
import dataclasses

from tskd_tf import choices
from tskd_tf.distillation import training_settings


@dataclasses.dataclass(frozen=True)
class Settings(training_settings.TrainingSettings):
    echo_weight: float = choices.setting(
        1.0, "Weight of the echo, above 0.", within=choices.ABOVE_0
    )


@dataclasses.dataclass(frozen=True)
class Budgets(choices.Budgets):
    max_layers: int | None = choices.setting(
        None,
        "Layers that the student may have; above 0.",
        within=choices.ABOVE_0,
        title="layers with weights",
        cost="added:num_layers",
    )


def num_layers(student, images):
    return sum(bool(layer.weights) for layer in student.layers)


training_settings.TrainingSettings = Settings
choices.Budgets = Budgets
choices.METHODS["echo"] = choices.Choice("louder.", "added_method:METHOD")
"""

METHOD = """
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.method import Method, equation_8_arguments


class Echo(Distiller):
    def compile(self, echo_weight=None, **arguments):
        super().compile(**arguments)
        self.echo_weight = echo_weight
        print("echo_weight in training:", echo_weight)


METHOD = Method(
    lambda parts: Echo(parts.build_student(), parts.teacher, task=parts.task),
    compile_arguments=lambda compilation: {
        **equation_8_arguments(compilation),
        "echo_weight": compilation.recipe.echo_weight,
    },
)
"""

RUN = """
import sys
import added
from absl import flags
from tskd_tf import main

print("loads TensorFlow:", "tensorflow" in sys.modules)
for name in ("echo_weight", "max_layers"):
    print(name, "in help:", flags.FLAGS[name].help)
sys.exit(main.main(main._parse(["main", *sys.argv[1:]])))
"""


def _run(folder, *arguments):
    paths = [str(folder), *sys.path]
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with both, its folder, and what its process printed."""
    folder = tmp_path_factory.mktemp("added")
    (folder / "added.py").write_text(MODULE)
    (folder / "added_method.py").write_text(METHOD)
    make_network().save(folder / "teacher.keras")
    for index, (image, class_id) in enumerate(zip(*make_data(120))):
        path = folder / "images" / str(class_id) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    ended = _run(
        folder,
        f"--image_dir={folder}/images",
        f"--teacher={folder}/teacher.keras",
        f"--output_dir={folder}/run",
        "--mode=distill",
        "--rate=0.5",
        "--epochs=1",
        "--exports=keras",
        "--method=echo",
        "--echo_weight=2.5",
        "--max_layers=3",
    )
    assert ended.returncode in (0, 3), ended.stderr
    return folder, ended.stdout


def _texts(log_dir):
    for path in log_dir.rglob("*tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == "report/summary":
                    yield tf.make_ndarray(value.tensor).item().decode()


def test_a_training_setting_is_everywhere(finished):
    folder, printed = finished
    assert "loads TensorFlow: False" in printed
    assert "echo_weight in help: Weight of the echo, above 0." in printed
    assert "echo_weight in training: 2.5" in printed
    report = json.loads((folder / "run" / "report.json").read_text())
    assert "--echo_weight=2.5" in report["command"]
    assert "--echo_weight=2.5" in (folder / "run" / "report.html").read_text()
    (text,) = _texts(folder / "run" / "tensorboard")
    assert "--echo_weight=2.5" in text
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["echo_weight"] == 2.5


def test_a_budget_is_everywhere(finished):
    folder, printed = finished
    assert "max_layers in help: Layers that the student may have" in printed
    report = json.loads((folder / "run" / "report.json").read_text())
    check_schema(report)
    assert report["budgets"] == {"max_layers": {"limit": 3, "student": 3}}
    (text,) = _texts(folder / "run" / "tensorboard")
    page = (folder / "run" / "report.html").read_text()
    for shown in (printed, page, text):
        assert "layers with weights" in shown


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--echo_weight=nan", "error: Expected --echo_weight above 0. Received: nan"),
        ("--max_layers=0", "error: Expected --max_layers above 0. Received: 0"),
    ],
)
def test_their_ranges_are_checked_at_the_door(finished, flag, message):
    folder, _ = finished
    ended = _run(folder, flag)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [message]
