"""Heartbeats of workers: files in the folder that they share with the chief."""

import contextlib
import itertools
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

BEAT_SECONDS = 2.0
LOST_AFTER_SECONDS = 30.0
_SUFFIX = ".alive"


@contextlib.contextmanager
def beating(
    folder: pathlib.Path, tuner_id: str, on_beat: Callable[[], None] | None = None
) -> Iterator[None]:
    """Shows that this worker is alive while the `with` block runs.

    Args:
        folder: Folder that the worker shares with the chief.
        tuner_id: Name of the worker; it must be a valid file name.
        on_beat: Function that is called at each beat, in a separate thread.

    Raises:
        OSError: If the folder cannot be written to. The block does not run then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{tuner_id}{_SUFFIX}"
    # Before the first trial: a worker without a file would never be missed
    path.write_text("0", encoding="utf-8")
    ended = threading.Event()

    def beat() -> None:
        # A counter, not the time, as the clocks of machines differ
        for count in itertools.count(1):
            if on_beat is not None:
                on_beat()
            if ended.wait(BEAT_SECONDS):
                return
            with contextlib.suppress(OSError):
                path.write_text(str(count), encoding="utf-8")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)


class Listener:
    """Notices workers whose heartbeat has stopped, or that have left.

    Args:
        folder: Folder of the workers' files, see `beating`.
        patience_seconds: Seconds without a beat after which a worker counts as lost.
    """

    def __init__(
        self, folder: pathlib.Path, patience_seconds: float = LOST_AFTER_SECONDS
    ) -> None:
        self._folder = folder
        self._patience_seconds = patience_seconds
        self._last: dict[str, tuple[str | None, float]] = {}

    def lost_workers(self) -> list[str]:
        """Ids of workers that left or were silent for too long since the last call."""
        now = time.monotonic()
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        lost = sorted(self._last.keys() - {path.stem for path in paths})
        for tuner_id in lost:
            del self._last[tuner_id]
        for path in paths:
            # The file may be gone by now, or a shared folder out of reach for a while
            with contextlib.suppress(OSError):
                tuner_id, beat = path.stem, path.read_text(encoding="utf-8")
                last, heard_at = self._last.get(tuner_id, (None, now))
                if beat != last:
                    self._last[tuner_id] = (beat, now)
                elif now - heard_at > self._patience_seconds:
                    path.unlink(missing_ok=True)
                    del self._last[tuner_id]
                    lost.append(tuner_id)
        return lost
