"""A worker: trains the trials that the chief of a search hands out.

python -m tskd_tf.worker FOLDER

FOLDER is the search's folder on a file system shared with the chief: `search` in
--output_dir, or the `directory` of `find_smallest_student`. KerasTuner's environment
variables hold the chief's address, see `tuner.chief`.
"""

import contextlib
import itertools
import logging
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tskd_tf.errors import InputError, in_one_line
from tskd_tf.files import write_text

if TYPE_CHECKING:
    from tuner.student_tuner import StudentTuner

_POLL_SECONDS = 0.5
_logger = logging.getLogger(__name__)


def run(folder: pathlib.Path, parent_id: int | None = None) -> int:
    """Waits for the chief, then trains trials until the search is over.

    Args:
        folder: The search's folder.
        parent_id: Id of the process whose end also ends this one. Default: none.

    Returns:
        Number of trials trained here.

    Raises:
        InputError: If environment variables are missing, if they lead to no chief or
            that of another search, if files are damaged, or if the folder is read-only.
    """
    tuner_id = _own_name()
    # Loading TensorFlow takes seconds; the error above must not wait for it
    from tskd_tf.search.trials import build_tuner
    from tskd_tf.search.workers.shared import load_shared, read_search_id
    from tuner import chief

    if not _wait_for_chief(folder, tuner_id, parent_id):
        return 0
    workers = folder / "workers"
    with _beating(folder, tuner_id, parent_id):
        try:
            tuner = build_tuner(load_shared(folder), folder)
            tuner.tuner_id = chief.member(tuner_id, read_search_id(folder))
        except Exception as error:
            if _is_over(folder):
                # The chief has removed the shared files in the meantime
                return 0
            # The reason may be this machine only, so the search does not end
            _leave_note(workers / f"{tuner_id}.refused", error)
            raise
        if not chief.answers():
            _logger.warning(
                "%s: nobody answers at %s; it waits for an hour",
                tuner_id,
                chief.address(),
            )
        _search(tuner, folder, workers / tuner_id)
    return tuner.num_trials


def _own_name() -> str:
    """The name by which the chief knows this worker.

    Raises:
        InputError: If an environment variable is missing, or the name is not valid as a
            file name.
    """
    missing = [
        name
        for name in ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT")
        if f"KERASTUNER_{name}" not in os.environ
    ]
    if missing:
        raise InputError(
            "Expected the environment variables of a worker. Received: no "
            + ", ".join(f"KERASTUNER_{name}" for name in missing)
        )
    tuner_id = os.environ["KERASTUNER_TUNER_ID"]
    # It is part of the names of this worker's files
    if not tuner_id or tuner_id != pathlib.Path(tuner_id).name or tuner_id[0] == ".":
        raise InputError(
            "Expected KERASTUNER_TUNER_ID to name this worker, without a slash and "
            f"without a leading dot, such as worker1. Received: {tuner_id!r}"
        )
    return tuner_id


def _is_over(folder: pathlib.Path) -> bool:
    from tskd_tf.search.trial_files import OVER

    return (folder / OVER).exists()


def _end_with(parent_id: int | None) -> None:
    """Ends this process if the one that started it has ended."""
    from tskd_tf.distillation.processes import is_orphan

    if is_orphan(parent_id):
        # The chief is gone; files are written atomically, so none is incomplete
        os._exit(1)


def _wait_for_chief(folder: pathlib.Path, tuner_id: str, parent_id: int | None) -> bool:
    """Waits until the chief has shared a search; returns False if it is over."""
    from tskd_tf.search.workers.shared import is_shared

    # Nothing is written until then, because the chief needs an empty folder
    if not is_shared(folder) and not _is_over(folder):
        _logger.info("%s waits for the chief of %s", tuner_id, folder)
    while not is_shared(folder) and not _is_over(folder):
        _end_with(parent_id)
        time.sleep(_POLL_SECONDS)
    return not _is_over(folder)


@contextlib.contextmanager
def _beating(
    folder: pathlib.Path, tuner_id: str, parent_id: int | None
) -> Iterator[None]:
    """Shows the chief that this worker runs; ends it when the search is over."""
    from tuner.heartbeat import beating

    beats_since_over = itertools.count()

    def follow() -> None:
        _end_with(parent_id)
        # Usually the chief ends its workers. A late worker would ask for trials for an
        # hour, and a worker that counts as lost would train another one's trial
        if _is_over(folder) and next(beats_since_over) > 1:
            os._exit(0)

    with contextlib.ExitStack() as life:
        try:
            life.enter_context(beating(folder / "workers", tuner_id, follow))
        except OSError as error:
            raise InputError(
                "Expected a folder that this worker can also write to. Received: "
                f"{folder} ({error.strerror})"
            ) from None
        yield


def _search(tuner: "StudentTuner", folder: pathlib.Path, note: pathlib.Path) -> None:
    """Trains the trials that the chief hands out; after an error, writes a note.

    Args:
        tuner: The tuner, which asks the chief for trials.
        folder: The search's folder.
        note: Path of the note, without the suffix for the kind of error.
    """
    from tuner import chief

    try:
        with chief.refused():
            tuner.search()
    except chief.StrangerError:
        raise InputError(
            "Expected KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT of the chief "
            f"of {folder}. Received: those of another search's"
        ) from None
    except chief.UnreachableError as error:
        # The search itself is fine, and other workers continue it
        _leave_note(note.with_name(f"{note.name}.refused"), error)
        raise InputError(
            "Expected KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT of the chief "
            f"of {folder}. Received: {chief.address()}, where nobody answers"
        ) from None
    except Exception as error:
        _leave_note(note.with_name(f"{note.name}.failed"), error)
        raise


def _leave_note(path: pathlib.Path, error: Exception) -> None:
    """Writes an error to a file that the chief reads, atomically."""
    write_text(path, f"{type(error).__name__}: {in_one_line(error)}")


def main() -> int:
    """Runs a worker; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tskd_tf").setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = sys.argv[1:]
    if len(arguments) not in (1, 3) or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m tskd_tf.worker FOLDER\n")
        return 2
    # A chief passes these to the workers that it starts
    num_threads, parent_id = map(int, arguments[1:] or (0, 0))
    try:
        if num_threads:
            from tskd_tf.distillation.processes import use_share

            use_share(num_threads)
        run(pathlib.Path(arguments[0]).resolve(), parent_id or None)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0
