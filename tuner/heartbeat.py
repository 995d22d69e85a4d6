"""Signs of life of workers, by files in the folder they share with the chief."""

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
    """Shows that this worker lives while the block runs.

    Args:
        folder: Shared with the chief.
        tuner_id: The worker's name, a file name.
        on_beat: Is called at each beat, in a thread of its own.

    Raises:
        OSError: If the folder cannot be written to, before the block runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{tuner_id}{_SUFFIX}"
    # Here, because a trial of a worker that is never heard of would never be missed
    path.write_text("0", encoding="utf-8")
    ended = threading.Event()

    def beat() -> None:
        # A number, not the time: clocks of machines differ
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
    """Notices workers whose signs of life stopped, or that took them along.

    Args:
        folder: Where workers leave them.
        patience_seconds: How long one may be silent.
    """

    def __init__(
        self, folder: pathlib.Path, patience_seconds: float = LOST_AFTER_SECONDS
    ) -> None:
        self._folder = folder
        self._patience_seconds = patience_seconds
        self._last: dict[str, tuple[str | None, float]] = {}

    def lost_workers(self) -> list[str]:
        """Ids of the workers that left or have been silent too long, each once."""
        now = time.monotonic()
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        lost = sorted(self._last.keys() - {path.stem for path in paths})
        for tuner_id in lost:
            del self._last[tuner_id]
        for path in paths:
            # It may be gone by now, or out of reach on another machine for a while
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
