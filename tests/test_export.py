"""Files to deploy, opened afresh in their own runtimes."""

import keras
import numpy as np
import pytest
from conftest import make_network

from tskd_tf.data import Split
from tskd_tf.errors import InputError
from tskd_tf.export import export_student, litert_logits
from tskd_tf.models import build_teacher


def test_each_file_is_measured_by_itself(trained_teacher, arrays, tmp_path):
    records = export_student(
        trained_teacher, ("keras", "litert"), str(tmp_path), Split(*arrays), 1.0, 0.5
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


def test_a_file_that_breaks_the_bargain_says_so(arrays, tmp_path):
    (record,) = export_student(
        make_network(), ("keras",), str(tmp_path), Split(*arrays), 1.0, 0.01
    )
    assert record["meets_threshold"] is False


@pytest.mark.parametrize("name", ["lenet", "cifar10_full", "cifar10_quick"])
def test_litert_computes_what_keras_computes(name, tmp_path):
    generator = np.random.default_rng(0)
    shape = (8, 28, 28, 1) if name == "lenet" else (8, 32, 32, 3)
    images = generator.integers(0, 256, shape).astype(np.uint8)
    student = build_teacher(name, images, 10)
    labels = np.zeros(8, np.int32)
    export_student(student, ("litert",), str(tmp_path), Split(images, labels), 1.0, 0.5)
    got = litert_logits(str(tmp_path / "student.tflite"), images)
    expected = student(images).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max() + 1e-6)


def test_unknown_formats_are_refused_before_anything_is_written(arrays, tmp_path):
    with pytest.raises(InputError, match="keras, litert.*coreml"):
        export_student(
            make_network(), ("coreml",), str(tmp_path), Split(*arrays), 1.0, 0.5
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
            make_network(), ("keras",), str(tmp_path), Split(*arrays), 1.0, 0.5
        )
    assert list(tmp_path.iterdir()) == []
