"""A format from a module outside the package: one record, and it is everywhere."""

import json
import sys

import keras
import numpy as np
import pytest
from conftest import NUM_CLASSES, make_data, make_network
from reports import make_report_2

from tskd_tf import choices
from tskd_tf.data.splits import Split
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.exports import Bargain, check_formats, export_student
from tskd_tf.report.page.page import render
from tskd_tf.report.words import summary_table

MODULE = """
import numpy as np

from tskd_tf.export.deployment import OpenedFile
from tskd_tf.export.keras_file import open_keras, write_keras
from tskd_tf.export.format import Format

ECHO = Format(
    "Echo of Keras", "student_echo.keras", write_keras, open_keras, None,
    "outputs = echo('{path}', image[None])\\n", gives_logits=True,
)
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    (tmp_path / "echo_format.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    added = choices.Choice("Keras once more.", "echo_format:ECHO")
    monkeypatch.setitem(choices.FORMATS, "echo", added)
    yield
    sys.modules.pop("echo_format", None)


def test_a_format_of_ones_own_is_written_judged_and_told(echo, tmp_path):
    check_formats(("echo", "keras"))
    assert "echo: Keras once more." in choices.help_of(choices.FORMATS)
    images, labels = make_data(32)
    student = make_network()
    correct = np.ones(len(labels), bool)
    names = [str(i) for i in range(NUM_CLASSES)]
    [record] = export_student(
        student,
        student,
        ("echo",),
        str(tmp_path),
        Deployment("logits", names, images),
        Bargain(Split(images, labels), correct, 0.5, 0.95),
    )
    assert record["format"] == "echo" and record["max_logit_difference"] < 1e-5
    keras.saving.load_model(tmp_path / "student_echo.keras")
    report = make_report_2()[0]
    report["exports"] = [{**report["exports"][0], **record}]
    json.dumps(report)
    page = render(report, {})
    assert "Echo of Keras" in page
    assert "outputs = echo(&#x27;student_echo.keras&#x27;, image[None])" in page
    assert "student_echo.keras" in summary_table(report)
