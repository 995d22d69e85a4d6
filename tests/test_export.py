"""Files to deploy, opened afresh in their own runtimes."""

import importlib.util

import keras
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import make_network

from tskd_tf.data import Split
from tskd_tf.errors import InputError
from tskd_tf.export import (
    check_formats,
    export_student,
    litert_latency_us,
    litert_logits,
)
from tskd_tf.models import build_teacher
from tskd_tf.width import scale_width


def test_each_file_is_measured_by_itself(trained_teacher, arrays, tmp_path):
    records = export_student(
        trained_teacher,
        ("keras", "litert"),
        str(tmp_path),
        arrays[0],
        Split(*arrays),
        1.0,
        0.5,
    )
    logits = trained_teacher(arrays[0]).numpy()
    accuracy = (logits.argmax(-1) == arrays[1]).mean()
    assert [record["path"] for record in records] == ["student.keras", "student.tflite"]
    for record in records:
        assert record["accuracy"] == accuracy
        assert record["size_bytes"] == (tmp_path / record["path"]).stat().st_size
        assert record["meets_threshold"] == (1.0 - accuracy <= 0.5)
    assert records[0]["latency_us"] is None
    latency = records[1]["latency_us"]
    assert 0 < latency["p50"] <= latency["p90"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "student.keras",
        "student.tflite",
    ]


def test_latency_of_a_student_that_is_in_no_file(teacher, arrays):
    latency_us = litert_latency_us(teacher, arrays[0])
    assert 0 < latency_us < 1e6


def test_a_file_that_breaks_the_bargain_says_so(arrays, tmp_path):
    (record,) = export_student(
        make_network(), ("keras",), str(tmp_path), arrays[0], Split(*arrays), 1.0, 0.01
    )
    assert record["meets_threshold"] is False


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


def onnx_logits(path, images):
    session = onnxruntime.InferenceSession(path)
    (name,) = (source.name for source in session.get_inputs())
    return session.run(None, {name: images.astype("float32")})[0]


@pytest.mark.parametrize(
    ("format_name", "file_name", "predict"),
    [
        ("litert", "student.tflite", litert_logits),
        ("onnx", "student.onnx", onnx_logits),
    ],
)
def test_float_files_compute_what_keras_computes(
    student_and_images, tmp_path, format_name, file_name, predict
):
    student, images = student_and_images
    test = Split(images, np.zeros(64, np.int32))
    export_student(student, (format_name,), str(tmp_path), images, test, 1.0, 0.5)
    got = predict(str(tmp_path / file_name), images)
    expected = student(images).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max() + 1e-6)


def test_integer_file_takes_raw_images_and_is_near(trained_teacher, arrays, tmp_path):
    images, class_ids = arrays
    export_student(
        trained_teacher,
        ("litert_int8",),
        str(tmp_path),
        images,
        Split(images, class_ids),
        1.0,
        0.5,
    )
    path = str(tmp_path / "student_int8.tflite")
    interpreter = Interpreter(path)
    (source,) = interpreter.get_input_details()
    assert source["dtype"] == np.uint8 and source["quantization"] == (1.0, 0)
    expected = trained_teacher(images).numpy()
    got = litert_logits(path, images)
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
    assert (got.argmax(-1) == expected.argmax(-1)).mean() > 0.95


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_formats(("keras", "litert_int8"))
    with pytest.raises(InputError, match=r"tf2onnx and onnxruntime.*tskd_tf\[onnx\]"):
        check_formats(("onnx",))


def test_unknown_formats_are_refused_before_anything_is_written(arrays, tmp_path):
    with pytest.raises(InputError, match="keras, litert.*coreml"):
        export_student(
            make_network(),
            ("coreml",),
            str(tmp_path),
            arrays[0],
            Split(*arrays),
            1.0,
            0.5,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(arrays, tmp_path, monkeypatch):
    def fail(model, path, *args, **kwargs):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Sequential, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_student(
            make_network(),
            ("keras",),
            str(tmp_path),
            arrays[0],
            Split(*arrays),
            1.0,
            0.5,
        )
    assert list(tmp_path.iterdir()) == []
