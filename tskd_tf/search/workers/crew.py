"""The chief of a search and the workers it starts on this machine."""

import contextlib
import logging
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import tensorflow as tf

from tskd_tf.errors import InputError, WorkerError, in_one_line
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.search.trainer import Trainer
from tskd_tf.search.trial_files import OVER, RECORD
from tskd_tf.search.workers.shared import share, stop_sharing
from tuner import chief
from tuner.heartbeat import Listener
from tuner.student_tuner import StudentTuner

_GOODBYE_SECONDS = 20.0
# What network file systems remember that a file is not there
_RECORD_SECONDS = 90.0
_POLL_SECONDS = 0.5
_NOTES = ("failed", "refused", "alive")
_logger = logging.getLogger(__name__)


def search_with_workers(
    trainer: Trainer,
    build_student: StudentBuilder | None,
    folder: pathlib.Path,
    tuner: StudentTuner,
) -> None:
    """Runs a search by other processes: the chief's part.

    With KerasTuner's environment variables of a chief it waits for workers that others
    start, on any machine; else it starts the plan's number of them on this machine,
    on loopback, each with its share of the threads or a GPU of its own. A worker that
    is killed costs its trial's time only. One that fails ends the search. A search
    that was over before needs no worker.

    Args:
        trainer: Its plan says how many workers there are.
        build_student: The user's own builder, if there is one.
        folder: Of the search.
        tuner: Its oracle decides.

    Raises:
        InputError: If workers cannot import the builder, or the address cannot be
            listened on.
        WorkerError: If a worker failed, or all were killed.
    """
    if (folder / OVER).exists():
        stop_sharing(folder)
        return
    workers = folder / "workers"
    workers.mkdir(parents=True, exist_ok=True)
    for path in (p for kind in _NOTES for p in workers.glob(f"*.{kind}")):
        path.unlink(missing_ok=True)
    search_id = share(trainer, build_student, folder)
    tuner.save()
    listener = Listener(workers)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    told = set(tuner.oracle.end_order)
    killed: set[str] = set()

    def start(port: int) -> None:
        if chief.role() == "chief":
            _logger.info("The chief listens on %s", chief.address())
            return
        for number in range(trainer.plan.num_workers):
            name = f"worker{number}"
            processes[name] = _start(name, number, port, folder, trainer)

    def lost_workers() -> list[str]:
        _tell(trainer, tuner, told)
        for path in workers.glob("*.refused"):
            _logger.warning(
                "%s could not begin: %s", path.stem, path.read_text("utf-8")
            )
            path.unlink()
        for path in workers.glob("*.failed"):
            raise WorkerError(f"{path.stem} failed: {path.read_text('utf-8')}")
        ended = [name for name, p in processes.items() if p.poll() not in (None, 0)]
        for name in ended:
            process = processes.pop(name)
            if process.returncode > 0:
                log = workers / f"{name}.log"
                raise WorkerError(
                    f"{name} ended with status {process.returncode}: {_last_line(log)}"
                )
        if ended and not processes:
            raise WorkerError("all workers were killed")
        killed.update(ended)
        # Those that were killed fall silent, too
        silent = [name for name in listener.lost_workers() if name not in killed]
        return [*ended, *silent]

    def on_lost(tuner_id: str, trial_id: str | None) -> None:
        given = f"; trial {trial_id} is given out again" if trial_id else ""
        _logger.warning("%s was lost%s", tuner_id, given)

    try:
        with _ending(processes):
            chief.serve(
                tuner.oracle, search_id, chief.address(), start, lost_workers, on_lost
            )
            _tell(trainer, tuner, told)
    except chief.AddressError as error:
        raise address_refused(error) from None
    (folder / OVER).touch()
    stop_sharing(folder)


def address_refused(error: chief.AddressError) -> InputError:
    """The user's error behind one of the chief's."""
    return InputError(
        "Expected KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT to be a free "
        f"address of this machine. Received: {error}"
    )


def _start(
    name: str, number: int, port: int, folder: pathlib.Path, trainer: Trainer
) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": chief.LOOPBACK,
        "KERASTUNER_ORACLE_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(len(gpus))]
        environment["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    num_cores = num_cores or os.cpu_count() or 1
    num_threads = max(1, num_cores // trainer.plan.num_workers)
    command = [sys.executable, "-m", "tskd_tf.worker", str(folder)]
    with open(folder / "workers" / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            [*command, str(num_threads), str(os.getpid())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _last_line(log: pathlib.Path) -> str:
    """Of an error or a traceback, it says what was wrong."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((in_one_line(x) for x in reversed(lines) if x.strip()), "no message")


@contextlib.contextmanager
def _ending(processes: dict[str, "subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Leaves no process behind, however the block ends."""
    try:
        yield
        patience = time.monotonic() + _GOODBYE_SECONDS
        for process in processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, patience - time.monotonic()))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def _tell(trainer: Trainer, tuner: StudentTuner, told: set[str]) -> None:
    """A line for each trial that ended since the last call."""
    for trial_id in list(tuner.oracle.end_order):
        if trial_id not in told:
            folder = pathlib.Path(tuner.get_trial_dir(trial_id))
            _wait_for_record(folder)
            told.add(trial_id)
            trainer.tell(folder)


def _wait_for_record(folder: pathlib.Path) -> None:
    """Waits until this machine, too, sees what a worker has written."""
    patience = time.monotonic() + _RECORD_SECONDS
    while not (folder / RECORD).exists():
        if time.monotonic() > patience:
            raise WorkerError(
                f"a worker says that it trained {folder.name}, but there is no "
                f"{folder / RECORD}"
            )
        time.sleep(_POLL_SECONDS)
