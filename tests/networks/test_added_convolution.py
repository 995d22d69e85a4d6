"""A convolution from a module outside the package: one record, and it is everywhere.

It is added in a process of its own, because --help is made when `main` is imported.
"""

import json
import os
import subprocess
import sys

MODULE = """
import keras

from tskd_tf.networks.layers.convolution import (
    Convolution, check_equal_strides, pointwise, positions,
)


@keras.saving.register_keras_serializable("spread")
class SpreadConv2D(keras.layers.Layer):
    def __init__(self, size, strides, padding, **kwargs):
        super().__init__(**kwargs)
        self.size, self.strides, self.padding = size, strides, padding

    def build(self, input_shape):
        channels = input_shape[-1]
        self.row = self.add_weight(shape=(1, self.size, channels, 1), name="row")
        self.column = self.add_weight(shape=(self.size, 1, channels, 1), name="column")

    def call(self, inputs):
        rows = keras.ops.depthwise_conv(inputs, self.row, 1, self.padding)
        return keras.ops.depthwise_conv(
            rows, self.column, self.strides, self.padding
        )

    def start_from(self, kernel):
        # Means over columns and rows: close enough to differ from a random start
        self.row.assign(kernel.mean(axis=(0, 3), keepdims=True)[..., :1])
        self.column.assign(kernel.mean(axis=(1, 3), keepdims=True)[..., :1])

    def compute_output_shape(self, input_shape):
        border = self.size - 1 if self.padding == "valid" else 0
        sides = [(side - border - 1) // self.strides + 1 for side in input_shape[1:3]]
        return (input_shape[0], *sides, input_shape[3])

    def get_config(self):
        own = {"size": self.size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **own}

    def kernel_cost(self, input_shape, output_shape):
        one = self.size * input_shape[-1]
        rows = (1, input_shape[1], output_shape[2], 1)
        return 2 * one, one * (positions(rows) + positions(output_shape))

    def weight_channels(self, inputs, inner, output):
        return {"row": [inputs, None], "column": [inputs, None]}


def replace(layer, options):
    check_equal_strides(layer)
    spread = SpreadConv2D(
        layer.kernel_size[0], layer.strides[0], layer.padding,
        name=f"{layer.name}_spread", dtype=layer.dtype_policy,
    )
    return [spread, pointwise(layer)]


CONVOLUTION = Convolution(
    replace,
    own_layers=(SpreadConv2D,),
    start_from=lambda new, weights: new[0].start_from(weights[0]),
)
"""

RUN = """
import json, pathlib, sys
from tskd_tf import choices

choices.CONVOLUTIONS["spread"] = choices.Choice(
    "one row and one column a channel.", "spread:CONVOLUTION"
)
from absl import flags
from tskd_tf import main

assert "tensorflow" not in sys.modules
folder = pathlib.Path(sys.argv[1])
main._parse(["main", "--convolutions=spread", f"--output_dir={folder}/run"])
config = main._read_config()
help_text = flags.FLAGS["convolutions"].help

import keras
import numpy as np
import tensorflow as tf
from conftest import NUM_CLASSES, make_data
from keras import layers
from reports import make_report_2
from schemas import check_schema
from tskd_tf import InputError, Recipe, find_smallest_student
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.exports import Bargain, export_student
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.networks.students import thin_student
from tskd_tf.networks.width import scale_width
from tskd_tf.report.page.page import render
from tskd_tf.report.tensorboard import write_summaries

keras.utils.set_random_seed(1)
stack = [layers.Rescaling(1 / 255), layers.Conv2D(6, 3, name="stem")]
stack += [layers.Conv2D(5, 3, name="second"), layers.Flatten()]
teacher = keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(NUM_CLASSES)])
recipe = Recipe(convolutions="spread", epochs=1, batch_size=32)
test_images, test_labels = make_data(32, 2)
found = find_smallest_student(
    teacher, make_data(64), make_data(32, 1), (test_images, test_labels),
    rates=[0.5], recipe=recipe, max_accuracy_loss=0.99, verbose=0,
)
student = found.student
deployment = Deployment("logits", [str(i) for i in range(NUM_CLASSES)], test_images)
correct = np.ones(len(test_labels), bool)
bargain = Bargain(Split(test_images, test_labels), correct, 0.99, 0.95)
exports = export_student(
    student, student, ("keras", "litert"), str(folder), deployment, bargain
)
report = json.loads(json.dumps(found.report))
check_schema(report)
# What a run of the command line adds
whole = make_report_2()[0]
whole["student"] = report["student"]
first = whole["exports"][0]
whole["exports"] = [{**first, **export} for export in exports]
write_summaries(whole, {}, folder / "logs")
texts = [
    value.tensor.string_val[0].decode()
    for path in (folder / "logs").iterdir()
    for event in tf.compat.v1.train.summary_iterator(str(path))
    for value in event.summary.value
    if value.tag == "report/summary"
]
task = Task(range(NUM_CLASSES), NUM_CLASSES)
warm = thin_student(teacher, 1.0, task, "spread", initialize="teacher")
kernel = teacher.get_layer("second").kernel.numpy()
start = warm.get_layer("second_spread").row.numpy()[0, :, :, 0]
thin = scale_width(warm, 0.5, initialize="teacher")
try:
    thin_student(teacher, 1.0, task, "spread", groups=2)
    refused = ""
except InputError as error:
    Recipe(convolutions="spread").check()
    refused = str(error)
loaded = load_kept_model(folder / "student.keras")
print(json.dumps({
    "flag": config.convolutions,
    "help": help_text,
    "student": report["student"]["convolutions"],
    "macs": {row.name: row.num_macs for row in complexity(student).layers},
    "page": render(whole, {}),
    "text": texts,
    "refused": refused,
    "starts_from_kernel": bool(np.allclose(start, kernel.mean(axis=(0, 3)))),
    "same_when_wide": [
        weight.tolist() == other.tolist() for weight, other in zip(
            scale_width(warm, 1.0, initialize="teacher").get_weights(),
            warm.get_weights(),
        )
    ],
    "thin_shape": list(thin.get_layer("second_spread").row.shape),
    "difference": max(export["max_logit_difference"] for export in exports),
    "loaded": [type(layer).__name__ for layer in loaded.layers],
}))
"""


def test_a_convolution_of_ones_own_is_everywhere(tmp_path):
    (tmp_path / "spread.py").write_text(MODULE)
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
    assert seen["flag"] == seen["student"] == "spread"
    assert "spread: one row and one column a channel." in seen["help"]
    # Three channels of 6x6, without padding: 3 weights at 6x4 and at 4x4 places
    assert seen["macs"]["second_spread"] == 3 * 3 * (6 * 4 + 4 * 4)
    assert "spread convolutions" in seen["page"]
    assert "from spread import SpreadConv2D" in seen["page"]
    assert len(seen["text"]) == 1 and "spread convolutions" in seen["text"][0]
    assert "groups=2 with 'spread'" in seen["refused"]
    assert seen["starts_from_kernel"] and all(seen["same_when_wide"])
    assert seen["thin_shape"] == [1, 3, 3, 1]
    assert seen["difference"] < 1e-4 and "SpreadConv2D" in seen["loaded"]
