"""TensorBoard files of a run. Each writer replaces its earlier files.

The names of TensorBoard's runs sort in the order of the work: teacher, trials, the
training to the end, control, report.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

TEACHER_RUN = "1_teacher"
REPORT_RUN = "5_report"
_LOSS = "_loss"
# In online distillation, the fused head is the students' teacher
_FUSED_HEAD = "teacher_loss"


def curve_tag(name: str) -> str | None:
    """TensorBoard's tag for a value that Keras logs; None if it is not written.

    The tags of a method's `training_losses` contain their names.
    """
    if name == "accuracy":
        return "accuracy/training"
    if name == "val_accuracy":
        return "accuracy/validation"
    if name == "loss":
        return "loss/training"
    if name == _FUSED_HEAD:
        return "loss/training_fused_head"
    # The validation loss uses the hard labels only, unlike a student's training loss.
    # It adds nothing to the accuracy
    if name.endswith(_LOSS) and not name.startswith("val_"):
        return f"loss/training_{name.removesuffix(_LOSS)}"
    return None


def trial_run(trial: str, student: str) -> str:
    """Name of the TensorBoard run of a search trial.

    Args:
        trial: Name of the trial's folder.
        student: Name of its student, e.g. `"rate_0.25"`.
    """
    return f"2_{trial}_{student}"


def finishing_run(student: str) -> str:
    """Name of the TensorBoard run of the chosen student's training to the end."""
    return f"3_to_the_end_{student}"


def control_run(student: str) -> str:
    """Name of the TensorBoard run of the training on hard labels only."""
    return f"4_control_{student}"


@contextlib.contextmanager
def fresh_events(run_dir: pathlib.Path, suffix: str) -> Iterator[Any]:
    """Opens a `tf.summary` writer; it replaces the earlier files of its suffix.

    Args:
        run_dir: The run's folder.
        suffix: End of the file name, different for each writer of a run.
    """
    earlier = list(run_dir.glob(f"*tfevents*{suffix}"))
    writer = tf.summary.create_file_writer(str(run_dir), filename_suffix=suffix)
    try:
        yield writer
    finally:
        writer.close()
    for path in earlier:
        path.unlink(missing_ok=True)


class CurveWriter(keras.callbacks.Callback):
    """Writes a training curve for TensorBoard, a point after each epoch.

    Keras's own callback writes two runs per training and some numbers twice. It also
    appends to the files of an interrupted training.

    Args:
        run_dir: The run's folder. Files of an earlier training in it are removed.
    """

    def __init__(self, run_dir: pathlib.Path) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        for path in self._run_dir.glob("*tfevents*"):
            path.unlink()
        self._writer = tf.summary.create_file_writer(
            str(self._run_dir), filename_suffix=".curve"
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self._writer.as_default(step=epoch + 1):
            for name, value in logs.items():
                tag = curve_tag(name)
                if tag is not None:
                    tf.summary.scalar(tag, value)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()
