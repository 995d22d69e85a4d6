"""Other ways to write an integer file, if the plain one misses Eq. 4."""

import dataclasses
import logging
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np

from tskd_tf.data.images import Images
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.methods.method import DISTILLATION
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.distillation.training import train_student
from tskd_tf.errors import in_one_line
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.fake_quantization import (
    quantization_aware,
    without_fake_quantization,
)
from tskd_tf.export.litert import (
    NUM_EXAMPLES,
    open_litert,
    write_litert_int8,
    write_litert_int16x8,
)
from tskd_tf.export.record import (
    FailedTry,
    IntegerAttempt,
    JudgedOutputs,
    TriedFile,
)
from tskd_tf.files import atomic_path, size_bytes

_MORE_EXAMPLES = 5000
_EPOCHS = 5
_logger = logging.getLogger(__name__)


class Retraining(NamedTuple):
    """Data and settings for training a student again for its integer file.

    Attributes:
        teacher: Runs only if the recipe needs a live teacher.
        transfer: D(θ) with the teacher's logits, as in the search.
        validation: The task's validation images, with labels as class ids.
        task: θ.
        recipe: The recipe of the student's first training.
    """

    teacher: keras.Model
    transfer: TransferSet
    validation: Split
    task: Task
    recipe: Recipe


class _Try(NamedTuple):
    method: str
    path: pathlib.Path
    outputs: np.ndarray
    judged: JudgedOutputs
    num_bytes: int


class _Failure(NamedTuple):
    method: str
    reason: str


def rescue(
    student: keras.Model,
    path: pathlib.Path,
    plain_outputs: np.ndarray,
    deployment: Deployment,
    judge: Callable[[np.ndarray], JudgedOutputs],
    images: Images,
    retraining: Retraining | None,
) -> tuple[np.ndarray, list[IntegerAttempt]]:
    """Tries other ways to write an integer file, until one meets Eq. 4.

    The order is: more examples for the ranges of activations; 16 bits for activations;
    a short quantisation-aware distillation, whose weights only this file gets. In all
    of them, each channel of the weights has its own scale.

    Args:
        student: A float32 model; it does not change.
        path: Path of the plain file. The best file replaces it: one that meets Eq. 4,
            else the most accurate.
        plain_outputs: Outputs of the plain file for the test images, float32 of shape
            `(n, num_outputs)`.
        deployment: Outputs, labels and typical images.
        judge: Maps such outputs to accuracy, loss and verdict.
        images: The test images, shape `(n, height, width, channels)`.
        retraining: Data and settings of the distillation; None leaves it out.

    Returns:
        The outputs of the file that is now at `path`, and one record per attempt, as in
        the report's `attempts`. The plain file comes first.
    """
    plain = _Try("int8", path, plain_outputs, judge(plain_outputs), size_bytes(path))
    tries: list[_Try | _Failure] = [plain]
    best = plain
    with tempfile.TemporaryDirectory() as folder:
        for method, write in _ways(student, deployment, retraining):
            _logger.info("%s loses too much accuracy: trying %s", path.name, method)
            attempt = pathlib.Path(folder) / f"{method}.tflite"
            try:
                write(str(attempt))
            except OSError:
                raise
            except Exception as error:  # the converter may raise anything
                tries.append(_Failure(method, in_one_line(error)))
                _logger.warning("%s failed: %s", *tries[-1])
                continue
            outputs = open_litert(str(attempt)).outputs(images)
            judged = judge(outputs)
            found = _Try(method, attempt, outputs, judged, size_bytes(attempt))
            tries.append(found)
            best = max(best, found, key=_merit)
            if judged["meets_threshold"]:
                break
        if best is not plain:
            with atomic_path(path) as temporary:
                shutil.copyfile(best.path, temporary)
    return best.outputs, [_record(attempt, attempt is best) for attempt in tries]


def _merit(attempt: _Try) -> tuple[bool, float]:
    return attempt.judged["meets_threshold"], attempt.judged["accuracy"]


def _record(attempt: _Try | _Failure, is_shipped: bool) -> IntegerAttempt:
    if isinstance(attempt, _Failure):
        return FailedTry(
            method=attempt.method, failure=attempt.reason, is_shipped=False
        )
    judged = attempt.judged
    return TriedFile(
        method=attempt.method,
        accuracy=judged["accuracy"],
        accuracy_loss=judged["accuracy_loss"],
        accuracy_loss_interval=judged["accuracy_loss_interval"],
        meets_threshold=judged["meets_threshold"],
        size_bytes=attempt.num_bytes,
        is_shipped=is_shipped,
    )


def _ways(
    student: keras.Model, deployment: Deployment, retraining: Retraining | None
) -> Iterator[tuple[str, Callable[[str], None]]]:
    if len(deployment.images) > NUM_EXAMPLES:
        yield "int8_more_examples", lambda path: write_litert_int8(
            student, path, deployment, _MORE_EXAMPLES
        )
    yield "int16x8", lambda path: write_litert_int16x8(
        student, path, deployment, _MORE_EXAMPLES
    )
    if retraining is not None:
        yield "int8_distilled", lambda path: write_litert_int8(
            _retrained(student, retraining), path, deployment, _MORE_EXAMPLES
        )


def _retrained(student: keras.Model, retraining: Retraining) -> keras.Model:
    """The student after some epochs of quantisation-aware distillation."""
    # Every method's student is trained from soft targets here: its own method is done
    recipe = dataclasses.replace(
        retraining.recipe, method=DISTILLATION, epochs=_EPOCHS, precision="float32"
    )
    trained = train_student(
        retraining.teacher,
        1.0,
        retraining.transfer,
        retraining.validation,
        retraining.task,
        recipe,
        verbose=0,
        build_student=lambda rate: quantization_aware(student),
    )
    return without_fake_quantization(trained.student)
