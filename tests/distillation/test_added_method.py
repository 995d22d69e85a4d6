"""A method from a module outside the package: one record, and it is everywhere.

It is added in a process of its own, because --help is made when `main` is imported.
"""

import json
import os
import subprocess
import sys

MODULE = """
from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.method import Method


class Echo(Distiller):
    training_losses = ("hard_loss", "soft_loss", "echo_loss")

    def compute_losses(self, batch):
        losses, logits = super().compute_losses(batch)
        return {**losses, "echo_loss": 2.0 * losses["hard_loss"]}, logits


METHOD = Method(
    lambda parts: Echo(parts.build_student(), parts.teacher, task=parts.task),
    unused_settings=("num_views",),
)
"""

RUN = """
import json, pathlib, sys
from tskd_tf import choices

choices.METHODS["echo"] = choices.Choice("every loss twice.", "echo:METHOD")
from absl import flags
from tskd_tf import main

assert "tensorflow" not in sys.modules
main._parse(["main", "--method=echo", f"--output_dir={sys.argv[1]}/run"])
config = main._read_config()
help_text = flags.FLAGS["method"].help

import tensorflow as tf
from conftest import make_data, make_network
from event_scalars import scalars_of
from tskd_tf import InputError, Recipe, find_smallest_student

folder = pathlib.Path(sys.argv[1])
found = find_smallest_student(
    make_network(), make_data(64), make_data(32, 1), make_data(32, 2),
    rates=[0.5], recipe=Recipe(method="echo", epochs=1), max_accuracy_loss=0.9,
    log_dir=str(folder / "logs"), verbose=0,
)
from tskd_tf.report.words import summary_table

try:
    Recipe(method="echo", num_views=3).check()
    refused = ""
except InputError as error:
    refused = str(error)
runs = {path.name: scalars_of(path) for path in (folder / "logs").iterdir()}
print(json.dumps({
    "method": config.method,
    "help": help_text,
    "report": found.report["student"]["method"],
    "table": summary_table(found.report),
    "refused": refused,
    "tags": sorted({tag for tags in runs.values() for tag in tags}),
}))
"""


def test_a_method_of_ones_own_is_everywhere(tmp_path):
    (tmp_path / "echo.py").write_text(MODULE)
    paths = [str(tmp_path), os.path.dirname(os.path.dirname(__file__)), *sys.path]
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["method"] == seen["report"] == "echo"
    assert "echo: every loss twice." in seen["help"]
    assert "echo" in seen["table"]
    assert "num_views" in seen["refused"]
    assert "loss/training_echo" in seen["tags"]
