"""The types of the records of exported files in `report.json`."""

from typing import Literal, TypedDict, final


class Latency(TypedDict):
    """Time of one image on one thread, after a warm-up.

    Keys:
        p50: Median, in microseconds.
        p90: 90th percentile, in microseconds.
    """

    p50: float
    p90: float


class JudgedOutputs(TypedDict):
    """Verdict on a file by Eq. 4, from its outputs for the task's test images.

    Keys:
        accuracy: Accuracy on these images, in [0, 1].
        accuracy_loss: Teacher's accuracy minus this accuracy, in [-1, 1].
        accuracy_loss_interval: Low and high end of the interval of `accuracy_loss`.
        certified: Whether the interval excludes a larger loss than allowed.
        meets_threshold: Whether the loss is at most the allowed one (Eq. 4).
    """

    accuracy: float
    accuracy_loss: float
    accuracy_loss_interval: list[float]
    certified: bool
    meets_threshold: bool


class Comparison(TypedDict):
    """Comparison of a file's outputs with those of the student in memory.

    Keys:
        max_logit_difference: Largest absolute difference of an output, ≥ 0.
        equal_predictions: Share of images with the same predicted class, in [0, 1].
    """

    max_logit_difference: float
    equal_predictions: float


class Timing(TypedDict):
    """Time per image; None where it is not measured.

    Keys:
        latency_us: Time of the student's file, in microseconds.
        teacher_latency_us: Time of the teacher's file of the same format.
        speedup: The teacher's median divided by the student's.
    """

    latency_us: Latency | None
    teacher_latency_us: Latency | None
    speedup: float | None


@final
class TriedFile(TypedDict):
    """A successful attempt to write an integer file.

    Keys:
        method: How the file was made, one of `report.words.INT8_METHODS`.
        accuracy: Accuracy on the task's test images, in [0, 1].
        accuracy_loss: Teacher's accuracy minus this accuracy, in [-1, 1].
        accuracy_loss_interval: Low and high end of the interval of `accuracy_loss`.
        meets_threshold: Whether the loss is at most the allowed one (Eq. 4).
        size_bytes: Size of the file, in bytes.
        is_shipped: Whether it is the file in the output folder.
    """

    method: str
    accuracy: float
    accuracy_loss: float
    accuracy_loss_interval: list[float]
    meets_threshold: bool
    size_bytes: int
    is_shipped: bool


@final
class FailedTry(TypedDict):
    """A failed attempt to write an integer file.

    Keys:
        method: How the file was to be made, one of `report.words.INT8_METHODS`.
        failure: The converter's error, in one line.
        is_shipped: False.
    """

    method: str
    failure: str
    is_shipped: Literal[False]


IntegerAttempt = TriedFile | FailedTry


class ExportRow(JudgedOutputs, Comparison, Timing):
    """One exported file, opened in its own runtime and measured.

    Keys:
        format: One of `choices.FORMATS`.
        path: Path of the file in the output folder.
        size_bytes: Size of the file, or of all files of a folder, in bytes.
        outputs: `"logits"` or `"probabilities"`: what the file returns.
        arena_bytes: Peak memory for activations, in bytes; None if unknown.
        attempts: All attempts to write an integer file, in order. Empty if the first
            file was good enough.
    """

    format: str
    path: str
    size_bytes: int
    outputs: str
    arena_bytes: int | None
    attempts: list[IntegerAttempt]
