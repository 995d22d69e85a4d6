"""Files to deploy, opened afresh in their own runtimes."""

import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import make_data, make_network

from tskd_tf.acceptance import paired_interval
from tskd_tf.choices import FORMATS
from tskd_tf.data.splits import Split
from tskd_tf.errors import InputError
from tskd_tf.export import latency
from tskd_tf.export.deployment import Deployment, as_outputs, lines_of
from tskd_tf.export.exports import Bargain, check_formats, export_student
from tskd_tf.export.litert import (
    litert_latency_us,
    open_litert,
    write_litert,
    write_litert_int8,
)
from tskd_tf.export.onnx import write_onnx
from tskd_tf.export.saved_model import one_thread_latencies_us, write_saved_model
from tskd_tf.networks.width import scale_width
from tskd_tf.networks.zoo.models import build_teacher

LABELS = ["north-west", "Ünder", "south west", "3"]
FILES = {
    "keras": "student.keras",
    "litert": "student.tflite",
    "litert_float16": "student_float16.tflite",
    "litert_int8": "student_int8.tflite",
    "onnx": "student.onnx",
    "saved_model": "student_saved_model",
}


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch):
    monkeypatch.setattr(latency, "_TIMED_RUNS", 20)


def run_export(
    student, formats, folder, images, labels, allowed=0.5, teacher=None, **deployed
):
    """Exports against a teacher that gets everything right."""
    deployment = Deployment("logits", LABELS, images)._replace(**deployed)
    is_right = np.ones(len(labels), bool)
    bargain = Bargain(Split(images, labels), is_right, allowed, 0.95)
    given = (student, teacher or student, formats, str(folder), deployment, bargain)
    return export_student(*given)


@pytest.fixture(scope="module", params=["logits", "probabilities"])
def exported(request, trained_teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_TIMED_RUNS", 20)
        if request.param == "probabilities":
            # A process of its own is worth its seconds once
            patch.setattr(sys, "executable", shutil.which("false"))
        records = run_export(
            trained_teacher,
            tuple(FORMATS),
            folder,
            *make_data(256),
            outputs=request.param,
        )
    return folder, records, request.param


def read(path, image):
    """Outputs for an image by the runtime alone, scaled where they are integers."""
    if path.suffix == ".keras":
        return keras.saving.load_model(path)(image[None]).numpy()[0]
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        (source,) = session.get_inputs()
        assert source.type == "tensor(uint8)"
        return session.run(None, {source.name: image[None]})[0][0]
    if path.is_dir():
        signature = tf.saved_model.load(path).signatures["serving_default"]
        (output,) = signature(images=tf.constant(image[None])).values()
        return output.numpy()[0]
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (target,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    assert source["dtype"] == np.uint8
    interpreter.set_tensor(source["index"], image[None])
    interpreter.invoke()
    values, (scale, zero) = (
        interpreter.get_tensor(target["index"])[0],
        target["quantization"],
    )
    return scale * (values.astype(np.float32) - zero) if scale else values


def test_every_file_takes_bytes_and_gives_what_it_says(exported, trained_teacher):
    folder, records, outputs = exported
    images, _ = make_data(256)
    logits = trained_teacher(images).numpy()
    assert [record["format"] for record in records] == list(FORMATS)
    assert {path.name for path in folder.iterdir()} == set(FILES.values())
    for record in records:
        assert record["path"] == FILES[record["format"]]
        gives = "logits" if record["format"] == "keras" else outputs
        assert record["outputs"] == gives
        expected = as_outputs(logits, gives)
        got = read(folder / record["path"], images[3])
        # As far as the record says they are apart, on any image
        assert np.abs(got - expected[3]).max() <= record["max_logit_difference"] + 1e-6
        # The README's bounds
        largest = np.abs(expected).max()
        bound = {
            "keras": 0.0,
            "saved_model": 0.0,
            "litert_float16": 1e-2 * largest,
            "litert_int8": 5e-2 * largest,
        }.get(record["format"], 1e-4 * largest)
        if outputs == "probabilities" and record["format"] == "saved_model":
            bound = 1e-6
        assert record["max_logit_difference"] <= bound, record["format"]
        if record["format"] != "litert_int8":
            assert record["equal_predictions"] == 1.0


def test_every_file_is_judged_by_itself(exported):
    folder, records, outputs = exported
    images, labels = make_data(256)
    for record in records:
        path = folder / record["path"]
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        assert record["size_bytes"] == sum(p.stat().st_size for p in files)
        num_lost = round((1 - record["accuracy"]) * 256)
        assert record["accuracy_loss"] == num_lost / 256
        interval = list(paired_interval(256, num_lost, 0))
        assert record["accuracy_loss_interval"] == interval
        assert record["certified"] == (interval[1] <= 0.5)
        assert record["meets_threshold"] and record["attempts"] == []
        is_timed = record["format"] != "saved_model" or outputs == "logits"
        if record["format"] == "keras" or not is_timed:
            assert record["latency_us"] is None and record["speedup"] is None
            continue
        own, teachers = record["latency_us"], record["teacher_latency_us"]
        assert 0 < own["p50"] <= own["p90"]
        assert record["speedup"] == teachers["p50"] / own["p50"]
    sizes = {record["format"]: record["size_bytes"] for record in records}
    assert sizes["litert_int8"] < sizes["litert_float16"] < sizes["litert"]


def test_labels_are_found_without_the_package(exported):
    folder, *_ = exported
    text = "".join(f"{label}\n" for label in LABELS)
    for name in ("student.tflite", "student_float16.tflite", "student_int8.tflite"):
        assert zipfile.ZipFile(folder / name).read("labels.txt").decode() == text
    session = onnxruntime.InferenceSession(folder / "student.onnx")
    assert session.get_modelmeta().custom_metadata_map["labels"] == text
    extra = folder / "student_saved_model" / "assets.extra" / "labels.txt"
    assert extra.read_text(encoding="utf-8") == text
    # By a process that has nothing but Python
    code = "import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).namelist())"
    command = [sys.executable, "-I", "-S", "-c", code, folder / "student.tflite"]
    assert "labels.txt" in subprocess.check_output(command, text=True)


def test_each_label_has_one_line():
    labels = ["two\nlines", "a  b", "", "\u2028"]
    assert len(lines_of(labels).splitlines()) == 4
    assert lines_of(labels).startswith("two lines\na  b\n\n")


def test_integer_files_have_integers_only(exported):
    folder, _, outputs = exported
    interpreter = Interpreter(str(folder / "student_int8.tflite"))
    (source,), (target,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    assert source["dtype"] == np.uint8 and source["quantization"] == (1.0, 0)
    assert target["dtype"] == np.uint8
    if outputs == "probabilities":
        assert target["quantization"] == (1 / 256, 0)
    details = interpreter.get_tensor_details()
    assert all(tensor["dtype"] != np.float32 for tensor in details)
    # A scale for each of the convolution's and of the dense layers' channels
    scales = [len(t["quantization_parameters"]["scales"]) for t in details]
    assert {8, 16, 4} <= set(scales)
    # Shapes are known, so that a microcontroller needs no operation for them
    operations = {op["op_name"] for op in interpreter._get_ops_details()}
    assert "SHAPE" not in operations and -1 not in source["shape_signature"]


@pytest.mark.parametrize(
    ("num_images", "num_examples", "seen"),
    [(3, 9, [0, 1, 2]), (7, 4, [0, 1, 3, 5]), (8, 4, [0, 2, 4, 6]), (5, 5, range(5))],
)
def test_examples_are_spread_and_as_many_as_asked_for(
    num_images, num_examples, seen, tmp_path, monkeypatch
):
    given = []

    def export(model, path, representative_dataset, **settings):
        given.extend(image[0, 0, 1, 0] for (image,) in representative_dataset())
        pathlib.Path(path).write_bytes(b"")

    monkeypatch.setattr(keras.Model, "export", export)
    images = np.arange(num_images).repeat(64).reshape(-1, 8, 8, 1).astype(np.uint8)
    deployment = Deployment("logits", [], images)
    path = str(tmp_path / "student.tflite")
    write_litert_int8(make_network(), path, deployment, num_examples)
    # The first has the whole range of bytes
    assert given[1:] == list(seen)


def test_a_teacher_that_is_slower_makes_a_speedup(arrays, tmp_path):
    teacher = keras.Sequential(
        [
            keras.Input(arrays[0].shape[1:]),
            keras.layers.Conv2D(256, 5, padding="same"),
            keras.layers.Conv2D(64, 5, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    (record,) = run_export(
        make_network(), ("litert",), tmp_path, *arrays, teacher=teacher
    )
    assert record["speedup"] > 3
    assert [path.name for path in tmp_path.iterdir()] == ["student.tflite"]


class _InPython(keras.layers.Layer):
    """What no converter knows."""

    def call(self, inputs):
        values = tf.numpy_function(lambda x: x + 1, [inputs], tf.float32)
        return tf.ensure_shape(values, inputs.shape)


def test_a_teacher_that_cannot_be_converted_costs_no_file(arrays, tmp_path, caplog):
    inner = [_InPython(), keras.layers.Flatten(), keras.layers.Dense(4)]
    teacher = keras.Sequential([keras.Input(arrays[0].shape[1:]), *inner])
    (record,) = run_export(
        make_network(), ("litert",), tmp_path, *arrays, teacher=teacher
    )
    assert record["latency_us"]["p50"] > 0
    assert record["teacher_latency_us"] is None and record["speedup"] is None
    assert record["equal_predictions"] == 1.0
    assert "student.tflite is timed alone" in caplog.text


def test_runs_alternate():
    order = []
    runs = [lambda image: order.append("a"), lambda image: order.append("b")]
    found = latency.latencies_us(runs, np.zeros((3, 2, 2, 1), np.uint8))
    assert order == ["a", "b"] * (latency._WARM_UP_RUNS + latency._TIMED_RUNS)
    assert len(found) == 2 and all(0 <= time["p50"] <= time["p90"] for time in found)


def test_saved_models_that_cannot_be_timed_are_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    images = np.zeros((1, 8, 8, 1), np.uint8)
    assert one_thread_latencies_us([str(tmp_path / "none")], images) is None
    assert "could not be timed" in caplog.text


def test_the_arena_is_one_block_of_what_one_inference_needs(exported):
    _, records, _ = exported
    found = {record["format"]: record["arena_bytes"] for record in records}
    # The convolution's input and output live at the same time
    assert found["litert"] >= 4 * (8 * 8 + 6 * 6 * 8)
    assert 8 * 8 + 6 * 6 * 8 <= found["litert_int8"] < found["litert"] < 40_000
    # Its weights are made float32 once, and kept in a block of their own
    assert found["litert_float16"] is None
    assert found["keras"] is found["onnx"] is found["saved_model"] is None


def test_latency_of_a_student_that_is_in_no_file(teacher, arrays):
    latency_us = litert_latency_us(teacher, arrays[0])
    assert 0 < latency_us < 1e6


def test_a_file_that_breaks_the_bargain_says_so(arrays, tmp_path):
    (record,) = run_export(make_network(), ("keras",), tmp_path, *arrays, allowed=0.01)
    assert record["meets_threshold"] is False and record["certified"] is False


@pytest.fixture(params=["lenet", "cifar10_full", "cifar10_quick", "normalised"])
def student_and_images(request):
    generator = np.random.default_rng(0)
    shape = (64, 28, 28, 1) if request.param == "lenet" else (64, 32, 32, 3)
    images = generator.integers(0, 256, shape).astype(np.uint8)
    if request.param != "normalised":
        return build_teacher(request.param, images, 10), images
    normalization = keras.layers.Normalization()
    normalization.adapt(images)
    head = [keras.layers.Flatten(), keras.layers.Dense(10)]
    teacher = keras.Sequential([keras.Input((32, 32, 3)), normalization, *head])
    return scale_width(teacher, 1.0), images


@pytest.mark.parametrize(
    ("write", "file_name"),
    [
        (write_litert, "student.tflite"),
        (write_onnx, "student.onnx"),
        (write_saved_model, "student_saved_model"),
    ],
    ids=["litert", "onnx", "saved_model"],
)
def test_float_files_compute_what_keras_computes(
    student_and_images, tmp_path, write, file_name
):
    student, images = student_and_images
    path = tmp_path / file_name
    write(student, str(path), Deployment("logits", LABELS, images))
    expected = student(images).numpy()
    bound = 1e-4 * np.abs(expected).max() + 1e-6
    np.testing.assert_allclose(read(path, images[5]), expected[5], atol=bound)


def test_the_same_student_makes_the_same_file(exported, trained_teacher, tmp_path):
    folder, _, outputs = exported
    images, _ = make_data(256)
    again = tmp_path / "student.tflite"
    write_litert(trained_teacher, str(again), Deployment(outputs, LABELS, images))
    assert again.read_bytes() == (folder / "student.tflite").read_bytes()


@pytest.mark.skipif(shutil.which("xxd") is None, reason="needs xxd")
def test_a_c_array_of_the_integer_file(exported, arrays, tmp_path):
    folder, *_ = exported
    content = (folder / "student_int8.tflite").read_bytes()
    command = ["xxd", "-i", "student_int8.tflite"]
    source = subprocess.check_output(command, cwd=folder, text=True)
    body = re.search(r"unsigned char student_int8_tflite\[\] = {(.*?)}", source, re.S)
    array = bytes(int(byte, 16) for byte in body[1].replace(",", " ").split())
    length = re.search(r"unsigned int student_int8_tflite_len = (\d+);", source)
    assert array == content and int(length[1]) == len(content)
    from_array = tmp_path / "from_array.tflite"
    from_array.write_bytes(array)
    expected = open_litert(str(folder / "student_int8.tflite")).outputs(arrays[0])
    got = open_litert(str(from_array)).outputs(arrays[0])
    np.testing.assert_array_equal(got, expected)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_formats(("keras", "litert_int8", "saved_model"))
    needs = r"onnx, onnxruntime, tf2onnx.*tskd_tf\[onnx\]"
    with pytest.raises(InputError, match=needs):
        check_formats(("onnx",))


def test_unknown_formats_and_outputs_are_refused_first(arrays, tmp_path):
    with pytest.raises(InputError, match="keras, litert.*coreml"):
        run_export(make_network(), ("coreml",), tmp_path, *arrays)
    with pytest.raises(InputError, match="logits, probabilities.*odds"):
        run_export(make_network(), ("keras",), tmp_path, *arrays, outputs="odds")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(arrays, tmp_path, monkeypatch):
    def fail(model, path, *args, **kwargs):
        folder = pathlib.Path(path)
        if not folder.suffix == ".keras":
            folder.mkdir()
            folder = folder / "saved_model.pb"
        folder.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Sequential, "save", fail)
    monkeypatch.setattr(keras.Model, "export", fail)
    for name in ("keras", "saved_model"):
        with pytest.raises(OSError, match="disk full"):
            run_export(make_network(), (name,), tmp_path, *arrays)
    assert list(tmp_path.iterdir()) == []


def test_records_are_plain_data(exported):
    _, records, _ = exported
    assert json.loads(json.dumps(records)) == records
