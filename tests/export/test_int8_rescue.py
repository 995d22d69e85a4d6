"""Integer files that break the bargain, and what brings them back."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from digits import mnist_data

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.export import exports, int8_rescue, latency
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.exports import Bargain, export_student
from tskd_tf.export.fake_quantization import quantization_aware
from tskd_tf.export.int8_rescue import Retraining
from tskd_tf.export.litert import open_litert, write_litert_int8
from tskd_tf.networks.evaluate import accuracy, is_correct, predict_logits
from tskd_tf.networks.width import scale_width
from tskd_tf.networks.zoo.models import build_teacher

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch):
    monkeypatch.setattr(latency, "_TIMED_RUNS", 5)


@pytest.fixture(scope="module")
def digits():
    """4,000 training and 500 test images of real MNIST."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))[:4500]
    images = images.reshape(-1, 28, 28, 1).astype(np.uint8)[order]
    labels = labels[order].astype(np.int64)
    return Split(images[:4000], labels[:4000]), Split(images[4000:], labels[4000:])


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(1)
    train, _ = digits
    student = scale_width(build_teacher("lenet", train.images, 10), 0.3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.005), loss)
    student.fit(*train, batch_size=128, epochs=5, verbose=0)
    return student


def with_uneven_channels(student, factor, every, names):
    """The same function, but some channels are larger and what reads them smaller.

    Relu and max pooling pass a positive factor on, so floats do not mind.
    """
    copy = keras.models.clone_model(student)
    copy.set_weights(student.get_weights())
    readers = {"conv1": "conv2", "conv2": "ip1", "ip1": "ip2"}
    for name in names:
        kernel, bias = copy.get_layer(name).get_weights()
        num_channels = kernel.shape[-1]
        factors = np.where(np.arange(num_channels) % every == 0, factor, 1.0)
        copy.get_layer(name).set_weights([kernel * factors, bias * factors])
        reader = copy.get_layer(readers[name])
        kernel, bias = reader.get_weights()
        # Channels are the last of a reader's inputs, flattened images included
        by_channel = kernel.reshape(-1, num_channels, kernel.shape[-1])
        smaller = by_channel / factors[:, None]
        reader.set_weights([smaller.reshape(kernel.shape), bias])
    return copy


def run_export(student, digits, folder, allowed, retraining=None, train_images=None):
    """Exports with the student in floats as the teacher that it is compared with."""
    train, test = digits
    images = train.images if train_images is None else train_images
    is_right = is_correct(predict_logits(student, test.images), test.class_ids)
    return export_student(
        student,
        student,
        ("litert", "litert_int8"),
        str(folder),
        Deployment("logits", DIGITS, images),
        Bargain(test, is_right, allowed, 0.95),
        retraining,
    )


def retraining_of(student, digits):
    train, test = digits
    task = Task(range(10), 10)
    transfer = capture(student, *train, task)
    return Retraining(student, transfer, test, task, Recipe())


def integer_types(path):
    interpreter = Interpreter(str(path))
    details = interpreter.get_tensor_details()
    return {np.dtype(tensor["dtype"]).name for tensor in details}


def check_attempts(record, folder, digits):
    """What is said of the tries is true of the file that was shipped."""
    (shipped,) = [a for a in record["attempts"] if a["is_shipped"]]
    for name in ("accuracy", "accuracy_loss", "accuracy_loss_interval", "size_bytes"):
        assert shipped[name] == record[name]
    assert shipped["meets_threshold"] == record["meets_threshold"]
    path = folder / "student_int8.tflite"
    assert path.stat().st_size == record["size_bytes"]
    _, test = digits
    outputs = open_litert(str(path)).outputs(test.images)
    assert accuracy(outputs, test.class_ids) == record["accuracy"]
    before = record["attempts"][: record["attempts"].index(shipped)]
    assert not any(attempt.get("meets_threshold") for attempt in before)
    return [attempt["method"] for attempt in record["attempts"]], shipped["method"]


def test_nothing_is_tried_where_the_integer_file_keeps_the_bargain(
    trained, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(exports, "rescue", None)
    _, record = run_export(trained, digits, tmp_path, 0.02)
    assert record["meets_threshold"] and record["attempts"] == []
    assert integer_types(tmp_path / record["path"]) == {"uint8", "int8", "int32"}


def test_nothing_is_tried_where_the_float_file_breaks_it_too(
    trained, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(exports, "rescue", None)
    train, test = digits
    broken = with_uneven_channels(trained, 1000.0, 2, ("conv1", "conv2", "ip1"))
    # A teacher that is always right, and no loss allowed
    bargain = Bargain(test, np.ones(len(test.images), bool), 0.0, 0.95)
    deployment = Deployment("logits", DIGITS, train.images)
    given = (broken, broken, ("litert_int8",), str(tmp_path), deployment, bargain)
    (record,) = export_student(*given)
    assert not record["meets_threshold"] and record["attempts"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["student_int8.tflite"]


def test_more_examples(trained, digits, tmp_path):
    """Of these, every second image, which the plain file takes, is dark."""
    images = digits[0].images[:1000].copy()
    images[::2] //= 10
    _, record = run_export(trained, digits, tmp_path, 0.02, train_images=images)
    methods, shipped = check_attempts(record, tmp_path, digits)
    assert methods == ["int8", "int8_more_examples"]
    assert shipped == "int8_more_examples" and record["meets_threshold"]


def test_sixteen_bits_for_activations(trained, digits, tmp_path):
    uneven = with_uneven_channels(trained, 100.0, 4, ("conv1", "conv2", "ip1"))
    floats, record = run_export(uneven, digits, tmp_path, 0.05)
    methods, shipped = check_attempts(record, tmp_path, digits)
    assert methods == ["int8", "int8_more_examples", "int16x8"]
    assert shipped == "int16x8" and record["meets_threshold"]
    assert floats["attempts"] == []
    path = tmp_path / "student_int8.tflite"
    assert "int16" in integer_types(path) and "int8" in integer_types(path)
    (source,) = Interpreter(str(path)).get_input_details()
    assert source["dtype"] == np.uint8


def cannot_convert(*args):
    raise RuntimeError("no such operation\nin 16 bits")


@pytest.mark.long
def test_distillation_that_feels_the_rounding(
    trained, digits, tmp_path, monkeypatch, caplog
):
    # As where an operation has no form in 16 bits, which costs no run
    monkeypatch.setattr(int8_rescue, "write_litert_int16x8", cannot_convert)
    uneven = with_uneven_channels(trained, 300.0, 2, ("ip1",))
    weights = uneven.get_weights()
    _, plain = run_export(uneven, digits, tmp_path / "plain", 1.0)
    retraining = retraining_of(uneven, digits)
    floats, record = run_export(uneven, digits, tmp_path / "kept", 0.06, retraining)
    methods, shipped = check_attempts(record, tmp_path / "kept", digits)
    assert methods == ["int8", "int8_more_examples", "int16x8", "int8_distilled"]
    assert record["attempts"][2]["failure"] == "no such operation in 16 bits"
    assert "int16x8 failed: no such operation in 16 bits" in caplog.text
    assert shipped == "int8_distilled" and record["meets_threshold"]
    assert record["accuracy"] > plain["accuracy"] + 0.2
    assert "int16" not in integer_types(tmp_path / "kept" / record["path"])
    # The student and its float file are as they were
    for before, after in zip(weights, uneven.get_weights()):
        np.testing.assert_array_equal(before, after)
    files = [tmp_path / name / "student.tflite" for name in ("plain", "kept")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert floats["meets_threshold"] and floats["max_logit_difference"] < 0.01


def test_the_best_is_shipped_with_the_truth_where_nothing_helps(
    trained, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(int8_rescue, "_retrained", lambda student, retraining: student)
    uneven = with_uneven_channels(trained, 1000.0, 2, ("conv1", "conv2", "ip1"))
    retraining = retraining_of(uneven, digits)
    _, record = run_export(uneven, digits, tmp_path, 0.0, retraining)
    methods, shipped = check_attempts(record, tmp_path, digits)
    assert methods == ["int8", "int8_more_examples", "int16x8", "int8_distilled"]
    best = max(attempt["accuracy"] for attempt in record["attempts"])
    assert shipped == "int16x8" and record["accuracy"] == best
    assert record["meets_threshold"] is False


def test_fake_rounding_loses_what_the_file_loses(trained, digits, tmp_path):
    train, test = digits
    uneven = with_uneven_channels(trained, 100.0, 2, ("conv1", "conv2", "ip1"))
    path = str(tmp_path / "student.tflite")
    write_litert_int8(uneven, path, Deployment("logits", DIGITS, train.images))
    predicted = (
        predict_logits(uneven, test.images),
        open_litert(path).outputs(test.images),
        predict_logits(quantization_aware(uneven), test.images),
    )
    floats, integers, fake = (accuracy(p, test.class_ids) for p in predicted)
    assert integers < floats - 0.05
    assert abs(fake - integers) < (floats - integers) / 2
