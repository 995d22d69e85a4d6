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
# Network file systems may cache for some time that a file does not exist
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
    """Runs the chief's part of a search in several processes.

    With KerasTuner's environment variables of a chief, the chief waits for workers on
    any machine. Otherwise it starts the planned number of workers on this machine; each
    gets its share of the threads, or its own GPU. If a worker is killed, its trial is
    trained again. If a worker fails, the search ends. A finished search starts no
    worker.

    Args:
        trainer: Its plan has the number of workers.
        build_student: The user's function of the rate, or None.
        folder: Folder of the search.
        tuner: Its oracle chooses the trials.

    Raises:
        InputError: If workers cannot import the builder, or if the chief cannot listen
            on its address.
        WorkerError: If a worker failed, or all workers were killed.
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
    shown = set(tuner.oracle.end_order)
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
        _show_results(trainer, tuner, shown)
        for path in workers.glob("*.refused"):
            _logger.warning(
                "%s could not start: %s", path.stem, path.read_text("utf-8")
            )
            path.unlink()
        for path in workers.glob("*.failed"):
            raise WorkerError(f"{path.stem} failed: {path.read_text('utf-8')}")
        ended = processes.killed()
        killed.update(ended)
        # Killed workers are also silent
        silent = [name for name in listener.lost_workers() if name not in killed]
        return [*ended, *silent]

    def on_lost(tuner_id: str, trial_id: str | None) -> None:
        again = f"; trial {trial_id} is trained again" if trial_id else ""
        _logger.warning("%s was lost%s", tuner_id, again)

    try:
        with processes:
            chief.serve(
                tuner.oracle, search_id, chief.address(), start, lost_workers, on_lost
            )
            _show_results(trainer, tuner, shown)
            processes.wait(_GOODBYE_SECONDS)
    except chief.AddressError as error:
        raise address_refused(error) from None
    (folder / OVER).touch()
    stop_sharing(folder)


def address_refused(error: chief.AddressError) -> InputError:
    """The error message for an address on which the chief cannot listen."""
    return InputError(
        "Expected KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT to be a free "
        f"address of this machine. Received: {error}"
    )


def _show_results(trainer: Trainer, tuner: StudentTuner, shown: set[str]) -> None:
    """Writes a line about each finished trial that is not in `shown`; adds it there."""
    for trial_id in list(tuner.oracle.end_order):
        if trial_id not in shown:
            folder = pathlib.Path(tuner.get_trial_dir(trial_id))
            _wait_for_record(folder)
            shown.add(trial_id)
            trainer.show_result(folder)


def _wait_for_record(folder: pathlib.Path) -> None:
    """Waits until the record that a worker wrote is visible on this machine."""
    deadline = time.monotonic() + _RECORD_SECONDS
    while not (folder / RECORD).exists():
        if time.monotonic() > deadline:
            raise WorkerError(
                f"a worker reports that it trained {folder.name}, but there is no "
                f"{folder / RECORD}"
            )
        time.sleep(_POLL_SECONDS)
