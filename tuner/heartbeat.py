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
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{tuner_id}{_SUFFIX}"
    ended = threading.Event()

    def beat() -> None:
        # A number, not the time: clocks of machines differ
        for count in itertools.count():
            with contextlib.suppress(OSError):
                path.write_text(str(count), encoding="utf-8")
            if on_beat is not None:
                on_beat()
            if ended.wait(BEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)


class Listener:
    """Notices workers whose signs of life stopped.

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
        """Ids of the workers that have been silent too long, each once."""
        now, lost = time.monotonic(), []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):
                tuner_id, beat = path.stem, path.read_text(encoding="utf-8")
                last, heard_at = self._last.get(tuner_id, (None, now))
                if beat != last:
                    self._last[tuner_id] = (beat, now)
                elif now - heard_at > self._patience_seconds:
                    path.unlink(missing_ok=True)
                    del self._last[tuner_id]
                    lost.append(tuner_id)
        return lost
