"""The command line as processes: interrupts, and a chief with its worker."""

import _thread
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import check_report
import pytest
from digits import SMALL


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


@pytest.mark.long
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


@pytest.mark.long
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
