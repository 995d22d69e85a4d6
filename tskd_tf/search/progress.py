"""What a search prints while it runs: one line per training."""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

import keras

from tskd_tf.search.evidence import Trial

_DEFAULT_COLUMNS = 80


class Workload(NamedTuple):
    """What is done and what is left of a search, in epochs of one of its students.

    Attributes:
        epochs: Trained so far, in all trainings.
        seconds: These took.
        epochs_left: Yet to be trained, at most; None if nobody can tell.
    """

    epochs: int
    seconds: float
    epochs_left: float | None

    def after(self, epochs: int, seconds: float) -> "Workload":
        """With another training done, which was none of those left."""
        return self._replace(
            epochs=self.epochs + epochs, seconds=self.seconds + seconds
        )

    def seconds_left(self) -> float | None:
        """At the pace so far; None if there is no telling."""
        if not self.epochs or self.epochs_left is None:
            return None
        return self.epochs_left * self.seconds / self.epochs


def workload(
    records: Sequence[Trial],
    num_rounds_left: int | None,
    num_epochs: int,
    num_full_trainings: int,
) -> Workload:
    """What a search has done and has left.

    Args:
        records: Of the trials so far.
        num_rounds_left: Trials that are still to be run one after the other, each
            taken to be as long as those so far were; None if nobody can tell.
        num_epochs: Of a training that is not stopped.
        num_full_trainings: That follow the trials, such as the control's.
    """
    epochs = sum(record.epochs for record in records)
    left = None
    if num_rounds_left is not None:
        mean_epochs = epochs / len(records) if records else num_epochs
        left = num_rounds_left * mean_epochs + num_full_trainings * num_epochs
    return Workload(epochs, sum(record.seconds for record in records), left)


def duration(seconds: float) -> str:
    """In the unit that suits it, to two digits or so: `"45 s"`, `"3 min"`, `"2.5 h"`.

    Args:
        seconds: ≥ 0.
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_time(seconds: float, workload: Workload) -> str:
    """What a training took, and what the search has left, about."""
    left = workload.seconds_left()
    # After the last training nothing is left, which needs no telling
    return duration(seconds) + (f", about {duration(left)} left" if left else "")


def format_accuracy(accuracy: float, floor: float | None) -> str:
    """An accuracy against the floor, with as many decimals as tell the two apart.

    Args:
        accuracy: In [0, 1].
        floor: Smallest that meets Eq. 4; None, or not above 0, where none is asked for.
    """
    if floor is None or floor <= 0.0:
        return f"{100 * accuracy:.2f} %"
    for decimals in range(2, 6):
        told, needed = (f"{100 * x:.{decimals}f} %" for x in (accuracy, floor))
        if accuracy >= floor or told != needed:
            break
    return f"{told} of {needed} needed"


def format_verdict(feasible: bool | None, epochs: int, num_epochs: int) -> str:
    """The verdict on a training, and the epoch at which it was known.

    Args:
        feasible: None where none is asked for.
        epochs: Trained.
        num_epochs: Of a training that is not stopped.
    """
    epoch = f"epoch {epochs} of {num_epochs}"
    if feasible is None:
        return epoch
    infeasible = "out of reach" if epochs < num_epochs else "not feasible"
    return f"{'feasible' if feasible else infeasible} ({epoch})"


def in_columns(parts: Sequence[str]) -> str:
    """The parts of a line, set apart."""
    return "  ".join(part for part in parts if part)


class LiveLine(keras.callbacks.Callback):
    """A line on a training under way, updated in place after each epoch.

    Nothing is written where no terminal is. As a context it wipes the line when the
    block ends, so that whatever is written next has a line of its own.

    Args:
        head: Parts that say what is trained; where the terminal is narrow, the last
            of them is left out.
        floor: Smallest accuracy that meets Eq. 4; None where none is asked for.
        others: What is done and left besides this training.
        stream: To write to.

    Example:

    >>> with LiveLine(["trial 1", "rate 0.5"], 0.99, others, sys.stderr) as line:
    ...     model.fit(examples, validation_data=validation, callbacks=[line], verbose=0)
    """

    def __init__(
        self,
        head: Sequence[str],
        floor: float | None,
        others: Workload,
        stream: TextIO,
    ) -> None:
        super().__init__()
        self._head = head
        self._floor = floor
        self._others = others
        self._stream = stream
        self._is_live = stream.isatty()
        self._num_shown = 0
        self._start = time.monotonic()

    def __enter__(self) -> "LiveLine":
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._num_shown:
            self._show("")

    def on_train_begin(self, logs: Any = None) -> None:
        """Says what is trained."""
        self._update(0, None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Says how accurate it is by now."""
        self._update(epoch + 1, float(logs["val_accuracy"]))

    def _update(self, num_done: int, accuracy: float | None) -> None:
        if not self._is_live:
            return
        num_epochs, seconds = self.params["epochs"], time.monotonic() - self._start
        left = self._others.epochs_left
        workload = Workload(
            self._others.epochs + num_done,
            self._others.seconds + seconds,
            None if left is None else left + num_epochs - num_done,
        )
        tail = [
            f"epoch {num_done}/{num_epochs}",
            "" if accuracy is None else format_accuracy(accuracy, self._floor),
            format_time(seconds, workload),
        ]
        line, num_columns = in_columns([*self._head, *tail]), _columns(self._stream)
        if len(line) > num_columns:
            line = in_columns([*self._head[:-1], *tail])[:num_columns]
        self._show(line)

    def _show(self, line: str) -> None:
        # Spaces, because not every terminal knows how to clear a line. The cursor is
        # left in front of it, so that a warning is written over it, not after it
        self._stream.write(line.ljust(self._num_shown) + "\r")
        self._stream.flush()
        self._num_shown = len(line)


def _columns(stream: TextIO) -> int:
    """Characters that fit in a line; the last column would wrap some terminals."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    # A terminal without a window says 0
    return (columns or _DEFAULT_COLUMNS) - 1
