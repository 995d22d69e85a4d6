"""Signs of life of workers, by files in the folder they share with the chief."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator

BEAT_SECONDS = 2.0
LOST_AFTER_SECONDS = 30.0
_SUFFIX = ".alive"


@contextlib.contextmanager
def beating(folder: pathlib.Path, tuner_id: str) -> Iterator[None]:
    """Shows that this worker lives while the block runs.

    The process also ends at once when its parent does, if `stop_with` names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{tuner_id}{_SUFFIX}"
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while True:
            # A number, not the time: clocks of machines differ
            path.write_text(str(count), encoding="utf-8")
            count += 1
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
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._last: dict[str, tuple[str, float]] = {}

    def lost_workers(self) -> list[str]:
        """Ids of the workers not heard of for `LOST_AFTER_SECONDS`, each once."""
        now, lost = time.monotonic(), []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                tuner_id, beat = path.stem, path.read_text(encoding="utf-8")
                if self._last.get(tuner_id, ("", 0.0))[0] != beat:
                    self._last[tuner_id] = (beat, now)
                elif now - self._last[tuner_id][1] > LOST_AFTER_SECONDS:
                    path.unlink(missing_ok=True)
                    del self._last[tuner_id]
                    lost.append(tuner_id)
        return lost
