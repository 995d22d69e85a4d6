"""Runs killed with SIGKILL at random moments of every stage, and resumed."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "killed_runs.py"
SETTINGS = {
    "teacher_epochs": 6,
    "epochs": 4,
    "batch_size": 32,
    "learning_rate": 0.005,
    # Widths that need not be trained to the end to be known, so that one is finished
    "max_accuracy_loss": 0.3,
    "rate_step": 0.25,
    "max_executions": 1,
    "exports": ["keras"],
}
# Some are close to the floor, and trained three times
MORE_TRIALS = {"max_accuracy_loss": 0.1, "rate_step": 0.125, "max_executions": 3}
STAGES = ("teacher", "soft targets", "trials", "finishing", "control", "exports")


def killed_runs(folder, num_kills, seed, **settings):
    """What the script saw, and both reports."""
    # Sums in another order differ in the last digit
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    given = json.dumps({**SETTINGS, **settings})
    ended = subprocess.run(
        [sys.executable, SCRIPT, folder, str(num_kills), str(seed), given],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["status"] == 0, "\n".join(seen["lines"])
    reports = [
        json.loads((folder / name / "report.json").read_text())
        for name in ("undisturbed", "killed")
    ]
    return seen, *reports


def without_times(value):
    if isinstance(value, dict):
        times = ("seconds", "latency_us")
        return {k: without_times(v) for k, v in value.items() if k not in times}
    return list(map(without_times, value)) if isinstance(value, list) else value


def check(seen, undisturbed, report):
    """Same answer, nothing lost, nothing that was finished done again."""
    assert without_times(report) == without_times(undisturbed)
    trials = report["search"]["trials"]
    for before, after in zip(seen["snapshots"], seen["snapshots"][1:]):
        assert set(before) <= set(after)
    files = seen["snapshots"][-1]
    assert seen["leftovers"] == []
    records = [name for name in files if name.endswith("result.json")]
    assert len(records) == len(trials)
    for name in files:
        versions = {
            json.dumps(snapshot[name])
            for snapshot in seen["snapshots"]
            if name in snapshot
        }
        # The chosen one's is that of its training to the end in the end
        is_finished = name in records and (
            json.loads(files[name][1])["rate"] == report["student"]["rate"]
        )
        assert len(versions) <= 1 + is_finished, name
    ended = [line for line in seen["lines"] if re.search(r"^trial \d+ ", line)]
    # One that is killed before it can say so has ended all the same
    assert 0 < len(ended) <= len(trials)
    begun = [line for line in seen["lines"] if re.search(r"^Rate \S+: .* MACs", line)]
    assert len(begun) <= len(trials) + seen["killed_in"].count("trials")


@pytest.mark.long
def test_killed_in_every_stage(tmp_path):
    seen, undisturbed, report = killed_runs(tmp_path, len(STAGES), seed=1)
    check(seen, undisturbed, report)
    assert len(STAGES) - seen["killed_in"].count("ended") >= 4


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    seen, undisturbed, report = killed_runs(tmp_path, 20, seed=2, **MORE_TRIALS)
    check(seen, undisturbed, report)
    assert len(report["search"]["trials"]) >= 4
    assert 20 - seen["killed_in"].count("ended") >= 15
    assert {"teacher", "trials", "finishing", "exports"} <= set(seen["killed_in"])
