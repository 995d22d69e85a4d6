"""What a report says of an exported file, as it stands in `report.json`."""

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
    """Outputs for the task's test images, held to Eq. 4.

    Keys:
        accuracy: In [0, 1].
        accuracy_loss: The teacher's accuracy less this one, in [-1, 1].
        accuracy_loss_interval: Low and high end of its interval.
        certified: Whether the interval rules out a larger loss than allowed.
        meets_threshold: Whether the loss is at most the one allowed, Eq. 4.
    """

    accuracy: float
    accuracy_loss: float
    accuracy_loss_interval: list[float]
    certified: bool
    meets_threshold: bool


class Comparison(TypedDict):
    """A file's outputs against those of the student in memory, image by image.

    Keys:
        max_logit_difference: The largest difference of an output, ≥ 0.
        equal_predictions: Share of images with the same answer, in [0, 1].
    """

    max_logit_difference: float
    equal_predictions: float


class Timing(TypedDict):
    """What an image takes; None where it is not measured.

    Keys:
        latency_us: Of the student's file.
        teacher_latency_us: Of the teacher's file of the same format.
        speedup: The teacher's median over the student's.
    """

    latency_us: Latency | None
    teacher_latency_us: Latency | None
    speedup: float | None


@final
class TriedFile(TypedDict):
    """An attempt at an integer file that gave one.

    Keys:
        method: How the file was made, one of `report.words.INT8_METHODS`.
        accuracy: As in `JudgedOutputs`.
        accuracy_loss: As in `JudgedOutputs`.
        accuracy_loss_interval: As in `JudgedOutputs`.
        meets_threshold: As in `JudgedOutputs`.
        size_bytes: Of the file.
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
    """An attempt at an integer file that gave none.

    Keys:
        method: How the file was to be made.
        failure: What the converter said.
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
        path: In the output folder.
        size_bytes: Of the file, or of all files of a folder.
        outputs: What the file gives.
        arena_bytes: Peak memory for activations; None where the runtime does not say.
        attempts: All ways to an integer file that were tried, in their order; empty
            where the first was enough.
    """

    format: str
    path: str
    size_bytes: int
    outputs: str
    arena_bytes: int | None
    attempts: list[IntegerAttempt]
