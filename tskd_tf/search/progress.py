"""The progress of a search on the terminal: one line per training."""

import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

import keras

from tskd_tf.search.candidate import Candidate
from tskd_tf.search.evidence import Trial

_DEFAULT_COLUMNS = 80


class Workload(NamedTuple):
    """Finished and remaining work of a search, in epochs.

    Attributes:
        epochs: Number of epochs trained so far, in all trainings.
        seconds: Time of these epochs, in seconds.
        epochs_left: Largest number of remaining epochs; None if unknown.
    """

    epochs: int
    seconds: float
    epochs_left: float | None

    def after(self, epochs: int, seconds: float) -> "Workload":
        """The workload after another training, which is not among the remaining."""
        return self._replace(
            epochs=self.epochs + epochs, seconds=self.seconds + seconds
        )

    def seconds_left(self) -> float | None:
        """Remaining time at the speed so far, in seconds; None if unknown."""
        if not self.epochs or self.epochs_left is None:
            return None
        return self.epochs_left * self.seconds / self.epochs


def workload(
    records: Sequence[Trial],
    num_rounds_left: int | None,
    num_epochs: int,
    num_full_trainings: int,
) -> Workload:
    """Finished and remaining work of a search.

    Args:
        records: Records of the trials so far.
        num_rounds_left: Number of remaining trials in sequence; None if unknown. Each
            is assumed to take the mean of the epochs so far.
        num_epochs: Number of epochs of a training that is not stopped early.
        num_full_trainings: Number of trainings after the trials, e.g. the control's.
    """
    epochs = sum(record.epochs for record in records)
    left = None
    if num_rounds_left is not None:
        mean_epochs = epochs / len(records) if records else num_epochs
        left = num_rounds_left * mean_epochs + num_full_trainings * num_epochs
    return Workload(epochs, sum(record.seconds for record in records), left)


def duration(seconds: float) -> str:
    """A duration in a suitable unit: `"45 s"`, `"3 min"`, `"2.5 h"`.

    Args:
        seconds: Duration in seconds, ≥ 0.
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_time(seconds: float, workload: Workload) -> str:
    """Time of a training in seconds, and the estimated remaining time of the search."""
    left = workload.seconds_left()
    # After the last training, "0 s left" would only distract
    return duration(seconds) + (f", about {duration(left)} left" if left else "")


def format_accuracy(accuracy: float, floor: float | None) -> str:
    """An accuracy and the floor in percent, with enough decimals to tell them apart.

    Args:
        accuracy: Accuracy in [0, 1].
        floor: Smallest accuracy that meets Eq. 4. None, 0 or less: no floor is shown.
    """
    if floor is None or floor <= 0.0:
        return f"{100 * accuracy:.2f} %"
    for decimals in range(2, 6):
        reached, needed = (f"{100 * x:.{decimals}f} %" for x in (accuracy, floor))
        if accuracy >= floor or reached != needed:
            break
    return f"{reached} of {needed} needed"


def format_verdict(feasible: bool | None, epochs: int, num_epochs: int) -> str:
    """The verdict on a training, and the epoch at which it was decided.

    Args:
        feasible: Whether the student meets the floor; None if there is no floor.
        epochs: Number of epochs trained.
        num_epochs: Number of epochs of a training that is not stopped early.
    """
    epoch = f"epoch {epochs} of {num_epochs}"
    if feasible is None:
        return epoch
    infeasible = "out of reach" if epochs < num_epochs else "not feasible"
    return f"{'feasible' if feasible else infeasible} ({epoch})"


def in_columns(parts: Sequence[str]) -> str:
    """Joins the non-empty parts of a line by two spaces."""
    return "  ".join(part for part in parts if part)


def line_head(title: str, candidate: Candidate, num_macs: int) -> list[str]:
    """The parts of a line that say what is trained."""
    return [title, f"{candidate}", f"{num_macs:,} MACs"]


def trial_head(
    folder: pathlib.Path, candidate: Candidate, num_macs: int, again: bool
) -> list[str]:
    """Start of a trial's line; KerasTuner counts from 0: `trial_0002` is trial 3."""
    number = int(folder.name.removeprefix("trial_")) + 1
    return line_head(f"trial {number}" + " (again)" * again, candidate, num_macs)


def capitalized(candidate: Candidate) -> str:
    """The candidate at the start of a sentence."""
    return f"{candidate}".capitalize()


def write_line(line: str) -> None:
    """Writes a line to standard error at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class LiveLine(keras.callbacks.Callback):
    """A line about a training in progress, updated in place after each epoch.

    Nothing is written if the stream is not a terminal. As a context manager, it clears
    the line at the end, so that the next output starts on an empty line.

    Args:
        head: Parts of the line that say what is trained. On a narrow terminal the last
            part is left out.
        floor: Smallest accuracy that meets Eq. 4; None if there is no floor.
        others: Finished and remaining work besides this training.
        stream: Stream for the line, e.g. `sys.stderr`.

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
        """Shows what is trained."""
        self._update(0, None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Shows the validation accuracy so far."""
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
        # Spaces, because not every terminal can clear a line. The cursor goes back to
        # the start, so that a warning overwrites the line
        self._stream.write(line.ljust(self._num_shown) + "\r")
        self._stream.flush()
        self._num_shown = len(line)


def _columns(stream: TextIO) -> int:
    """Characters per line, without the last column, which wraps on some terminals."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    # A terminal without a window reports 0
    return (columns or _DEFAULT_COLUMNS) - 1
