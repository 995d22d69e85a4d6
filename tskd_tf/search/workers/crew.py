"""The chief of a search and the workers it starts on this machine."""

import logging
import pathlib
import time

from tskd_tf.distillation.processes import LocalWorkers
from tskd_tf.errors import InputError, WorkerError
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
    told = set(tuner.oracle.end_order)
    killed: set[str] = set()
    processes = LocalWorkers(trainer.plan.num_workers, workers)

    def start(port: int) -> None:
        if chief.role() == "chief":
            _logger.info("The chief listens on %s", chief.address())
            return
        processes.start(
            "tskd_tf.worker",
            [str(folder)],
            KERASTUNER_TUNER_ID="{name}",
            KERASTUNER_ORACLE_IP=chief.LOOPBACK,
            KERASTUNER_ORACLE_PORT=str(port),
        )

    def lost_workers() -> list[str]:
        _tell(trainer, tuner, told)
        for path in workers.glob("*.refused"):
            _logger.warning(
                "%s could not begin: %s", path.stem, path.read_text("utf-8")
            )
            path.unlink()
        for path in workers.glob("*.failed"):
            raise WorkerError(f"{path.stem} failed: {path.read_text('utf-8')}")
        ended = processes.killed()
        killed.update(ended)
        # Those that were killed fall silent, too
        silent = [name for name in listener.lost_workers() if name not in killed]
        return [*ended, *silent]

    def on_lost(tuner_id: str, trial_id: str | None) -> None:
        given = f"; trial {trial_id} is given out again" if trial_id else ""
        _logger.warning("%s was lost%s", tuner_id, given)

    try:
        with processes:
            chief.serve(
                tuner.oracle, search_id, chief.address(), start, lost_workers, on_lost
            )
            _tell(trainer, tuner, told)
            processes.wait(_GOODBYE_SECONDS)
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


def _tell(trainer: Trainer, tuner: StudentTuner, told: set[str]) -> None:
    """A line for each trial that ended since the last call."""
    for trial_id in list(tuner.oracle.end_order):
        if trial_id not in told:
            folder = pathlib.Path(tuner.get_trial_dir(trial_id))
            _wait_for_record(folder)
            told.add(trial_id)
            trainer.tell(folder)


def _wait_for_record(folder: pathlib.Path) -> None:
    """Waits until this machine also sees what a worker has written."""
    patience = time.monotonic() + _RECORD_SECONDS
    while not (folder / RECORD).exists():
        if time.monotonic() > patience:
            raise WorkerError(
                f"a worker says that it trained {folder.name}, but there is no "
                f"{folder / RECORD}"
            )
        time.sleep(_POLL_SECONDS)
