"""Trains students of a sweep in several processes of this machine."""

import functools
import pathlib
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence

import numpy as np

from tskd_tf.data.images import save_images
from tskd_tf.distillation.processes import LocalWorkers, is_orphan, use_share
from tskd_tf.errors import WorkerError
from tskd_tf.sweep.students import (
    Cell,
    Materials,
    SweptStudent,
    keep_student,
    read_student,
)

_POLL_SECONDS = 0.2
_LOAD = "load.pickle"


def share(materials: Materials, folder: pathlib.Path) -> Callable[[], Materials]:
    """Writes the images, which are large, to files that workers map into memory.

    Args:
        materials: The materials of this process.
        folder: Folder for the files; the caller removes it.

    Returns:
        A function that returns a worker's materials; it can be pickled.
    """
    images = materials.images()
    for name, array in images.items():
        save_images(array, folder / f"{name}.npy")
    nothing = materials.with_images(dict.fromkeys(images))
    return functools.partial(_load_shared, nothing, folder)


def _load_shared(materials: Materials, folder: pathlib.Path) -> Materials:
    names = materials.images()
    mapped = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in names}
    return materials.with_images(mapped)


def train_elsewhere(
    cells: Sequence[Cell], materials: Materials, folder: pathlib.Path, num_workers: int
) -> Generator[SweptStudent, None, None]:
    """Trains cells in several processes, each of which takes the next free cell.

    All processes end with this function.

    Args:
        cells: The cells to train.
        materials: Data and settings of all trainings.
        folder: Folder of the students; its subfolder `shared` is used and removed.
        num_workers: Number of processes, ≥ 1.

    Yields:
        The students in the order in which they end, each after its file is written.

    Raises:
        WorkerError: If a worker failed or was killed.
    """
    if not cells:
        return
    shared = folder / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    num_workers = min(num_workers, len(cells))
    try:
        load = share(materials, shared)
        # In one file, because reading a Keras model starts TensorFlow
        (shared / _LOAD).write_bytes(pickle.dumps((list(cells), load)))
        with LocalWorkers(num_workers, shared) as workers:
            workers.start("tskd_tf.sweep.workers", [str(folder)])
            waiting = list(cells)
            while waiting:
                for name in workers.killed():
                    raise WorkerError(f"{name} was killed")
                ended = [c for c in waiting if (folder / f"{c.name}.json").exists()]
                for cell in ended:
                    waiting.remove(cell)
                    yield read_student(folder / f"{cell.name}.json", cell)
                time.sleep(0.0 if ended else _POLL_SECONDS)
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def work(folder: pathlib.Path, parent_id: int) -> None:
    """Runs a worker: trains the cells that no other worker has taken.

    Args:
        folder: Folder of the students.
        parent_id: Id of the process whose end also ends this one.
    """
    shared = folder / "shared"
    cells, load = pickle.loads((shared / _LOAD).read_bytes())
    materials = load()
    for cell in cells:
        if is_orphan(parent_id):
            return
        try:
            (shared / f"{cell.name}.taken").touch(exist_ok=False)
        except FileExistsError:
            continue
        keep_student(materials.train(cell), folder)


def main(arguments: Sequence[str]) -> None:
    """Runs a worker with the arguments `FOLDER NUM_THREADS PARENT_ID`."""
    # Ctrl-C also reaches it; the process that started it ends it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_share(int(arguments[1]))
    work(pathlib.Path(arguments[0]), int(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
