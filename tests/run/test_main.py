"""The command line: everything that can be wrong, said in one line."""

import errno
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import keras
import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import make_network
from digits import SMALL

from tskd_tf import main as main_module
from tskd_tf.errors import WorkerError
from tskd_tf.run import output_folder, search_job


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


def test_a_method_that_cannot_train_is_refused_before_anything_is(run, tmp_path):
    image = keras.Input((28, 28, 1))
    x = keras.layers.Dense(9, activation="relu")(keras.layers.Flatten()(image))
    keras.Model(image, keras.layers.Dense(10)(x)).save(tmp_path / "flat.keras")
    given = (*SMALL, f"--teacher={tmp_path / 'flat.keras'}", "--method=hint")
    status, _, told = run(*given)
    assert status == 2
    assert "the student to have feature maps" in told
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


@pytest.fixture
def environment():
    """No network for a subprocess: a proxy that refuses."""
    proxies = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
    proxies |= {"NO_PROXY": "", "no_proxy": ""}
    return {**os.environ, **proxies, "PYTHONUNBUFFERED": "1"}


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
