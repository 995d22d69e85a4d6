"""Processes that train in parallel and share the cores or GPUs of this machine."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import tensorflow as tf

from tskd_tf.errors import WorkerError, in_one_line


class LocalWorkers:
    """Worker processes `worker0`, `worker1`, …; all end with the `with` block.

    Each has its share of the cores, or its own GPU. Its output goes to `worker0.log`, …
    in the folder.

    Args:
        num_workers: Number of workers, ≥ 1.
        folder: Folder of the logs; must exist.

    Example:

    >>> with LocalWorkers(2, folder) as workers:
    ...     workers.start("tskd_tf.worker", [str(folder)])
    """

    def __init__(self, num_workers: int, folder: pathlib.Path) -> None:
        self._num_workers = num_workers
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "LocalWorkers":
        return self

    def start(self, module: str, arguments: Sequence[str], **environment: str) -> None:
        """Starts all workers: `python -m module *arguments num_threads parent_id`.

        Args:
            module: Name of a module that runs a worker as `__main__`.
            arguments: First arguments of the command line.
            **environment: Environment variables for every worker; `{name}` in a value
                stands for the worker's name.
        """
        for number in range(self._num_workers):
            name = f"worker{number}"
            own = {key: text.format(name=name) for key, text in environment.items()}
            command = [sys.executable, "-m", module, *arguments]
            with open(self._folder / f"{name}.log", "ab") as log:
                self._running[name] = subprocess.Popen(
                    [*command, str(self._num_threads()), str(os.getpid())],
                    env={**os.environ, **_share_of_machine(number), **own},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def killed(self) -> list[str]:
        """The workers that were killed since the last call.

        Raises:
            WorkerError: If a worker failed, or the last one was killed.
        """
        ended = {
            name: process.returncode
            for name, process in self._running.items()
            if process.poll() not in (None, 0)
        }
        for name, status in ended.items():
            del self._running[name]
            if status > 0:
                reason = self._last_line(name)
                raise WorkerError(f"{name} ended with status {status}: {reason}")
        if ended and not self._running:
            raise WorkerError("all workers were killed")
        return list(ended)

    def wait(self, seconds: float) -> None:
        """Waits until all workers have ended, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in self._running.values()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def _num_threads(self) -> int:
        has_affinity = hasattr(os, "sched_getaffinity")
        num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
        return max(1, (num_cores or 1) // self._num_workers)

    def _last_line(self, name: str) -> str:
        """The last line of a log, which holds the error message."""
        log = self._folder / f"{name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next(
            (in_one_line(x) for x in reversed(lines) if x.strip()), "no message"
        )


def _share_of_machine(number: int) -> Mapping[str, str]:
    """The environment of a worker: path of modules, and its GPU if there is one."""
    # An empty entry means the current folder, which may differ in the worker
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return {"PYTHONPATH": paths}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(len(gpus))]
    return {
        "PYTHONPATH": paths,
        "CUDA_VISIBLE_DEVICES": names[number % len(names)],
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def use_share(num_threads: int) -> None:
    """Limits TensorFlow to a number of threads; must be called before it starts."""
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    tf.config.threading.set_inter_op_parallelism_threads(num_threads)


def is_orphan(parent_id: int | None) -> bool:
    """Whether the process that started this one has ended."""
    return parent_id not in (None, os.getppid())
