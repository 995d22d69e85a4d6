"""Runs a search that is killed again and again; run by test_resume.py as a process.

python tests/killed_runs.py FOLDER NUM_KILLS SEED SETTINGS

First one run is left alone. Another is killed with SIGKILL NUM_KILLS times at random
moments, in each stage equally often, resumed each time, and then left to end. Prints as
JSON what was seen. SETTINGS are those of `RunConfig` as JSON. Each run is a fork of
this process, which has TensorFlow imported but has computed nothing: that saves the
import, much of the time of a run so small.
"""

import json
import logging
import os
import pathlib
import random
import re
import signal
import sys
import threading
import time

import numpy as np

from tskd_tf.data.splits import ImageData, Split
from tskd_tf.run import search_job
from tskd_tf.run.config import RunConfig

# What the log says where a stage begins, in order
STAGES = {
    "teacher": r"^Training in",
    "soft targets": r"^The teacher gets",
    "trials": r"^Rate \S+: .* MACs",
    "finishing": r"is trained to the end",
    "control": r"^Control",
    "exports": r"^Exports",
}
SECONDS_LIMIT = 120


def made_up_data(config):
    """Images whose brightest quadrant is their class, as in conftest.py, but noisy."""

    def split(num_examples, seed):
        generator = np.random.default_rng(seed)
        class_ids = np.arange(num_examples) % 4
        images = generator.integers(0, 180, (num_examples, 16, 16, 1))
        for image, class_id in zip(images, class_ids):
            row, column = 8 * (class_id // 2), 8 * (class_id % 2)
            image[row : row + 8, column : column + 8] += 25
        return Split(images.astype(np.uint8), class_ids)

    names = ["north-west", "north-east", "south-west", "south-east"]
    return ImageData("made up", names, split(512, 1), split(256, 2), split(256, 3))


def run(folder, settings):
    """The pipeline, with a line in the log before exports."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    search_job.load_data = made_up_data
    export = search_job.export_student

    def say_and_export(*arguments):
        print("Exports", flush=True)
        return export(*arguments)

    search_job.export_student = say_and_export
    config = RunConfig(output_dir=str(folder), resume=True, **settings)
    search_job.run(config)


def fork(folder, settings):
    """Starts a run; returns its process id and its lines, to be read."""
    reader, writer = os.pipe()
    process_id = os.fork()
    if process_id == 0:
        status = 1
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            run(folder, settings)
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    return process_id, os.fdopen(reader)


def watch(folder, settings, kill_in=None, longest_wait=0.0):
    """Lets a run go to its end, or kills it in a stage or where that is over already.

    Returns:
        Lines and the seconds at which each came, whether it was killed, the status.
    """
    process_id, stream = fork(folder, settings)
    start, lines, killer = time.monotonic(), [], None
    first_stages = list(STAGES).index(kill_in) if kill_in else len(STAGES)
    patterns = list(STAGES.values())[first_stages:]

    def kill():
        os.kill(process_id, signal.SIGKILL)

    limit = threading.Timer(SECONDS_LIMIT, kill)
    limit.start()
    for line in stream:
        lines.append((time.monotonic() - start, line.rstrip()))
        if killer is None and any(re.search(pattern, line) for pattern in patterns):
            killer = threading.Timer(random.uniform(0, longest_wait), kill)
            killer.start()
    _, status = os.waitpid(process_id, 0)
    lines.append((time.monotonic() - start, "(end)"))
    for timer in (limit, killer):
        if timer is not None:
            timer.cancel()
    return lines, os.WIFSIGNALED(status), status


def stage_of(lines):
    """The last stage that a run came to."""
    found = "start"
    for _, line in lines:
        for stage, pattern in STAGES.items():
            if re.search(pattern, line):
                found = stage
    return found


def stage_seconds(lines):
    """How long each stage took, by the lines of an undisturbed run."""
    starts = [
        next(at for at, line in lines if re.search(pattern, line))
        for pattern in STAGES.values()
    ]
    ends = [*starts[1:], lines[-1][0]]
    return {stage: b - a for stage, a, b in zip(STAGES, starts, ends)}


def kept(folder):
    """What is trained once: by file its time and, of a record, its content."""
    names = ("teacher.keras", "soft_targets.npz", "result.json", "control_*.keras")
    found = {}
    for path in sorted(path for name in names for path in folder.rglob(name)):
        text = path.read_text() if path.suffix == ".json" else None
        found[str(path.relative_to(folder))] = [path.stat().st_mtime_ns, text]
    return found


def main(folder, num_kills, seed, settings):
    random.seed(seed)
    folder = pathlib.Path(folder)
    undisturbed, _, status = watch(folder / "undisturbed", settings)
    assert status == 0, "\n".join(line for _, line in undisturbed)
    seconds = stage_seconds(undisturbed)
    killed_in, snapshots, begun = [], [], []
    stages = list(STAGES)
    for number in range(num_kills):
        stage = stages[number * len(stages) // num_kills]
        # A run alone on the machine would be over by the end of that stage
        longest_wait = 0.6 * seconds[stage]
        lines, was_killed, _ = watch(folder / "killed", settings, stage, longest_wait)
        killed_in.append(stage_of(lines) if was_killed else "ended")
        begun += [line for _, line in lines]
        snapshots.append(kept(folder / "killed"))
    lines, _, status = watch(folder / "killed", settings)
    begun += [line for _, line in lines]
    snapshots.append(kept(folder / "killed"))
    summary = {
        "status": status,
        "lines": begun,
        "killed_in": killed_in,
        "snapshots": snapshots,
        "stage_seconds": seconds,
        "leftovers": [str(path) for path in (folder / "killed").rglob(".*")],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main(sys.argv[1], *map(json.loads, sys.argv[2:]))
