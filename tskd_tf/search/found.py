"""The results of a search."""

from typing import NamedTuple

import keras
import numpy as np

from tskd_tf.data.splits import Split
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.report.record import Report
from tskd_tf.report.words import summary_table


class FoundStudent(NamedTuple):
    """The student that a search found, and its report.

    Attributes:
        student: The smallest student that met Eq. 4 on the validation data; if none
            did, the most accurate one. It gives logits.
        report: The evidence, as in `report.json`; `report["meets_threshold"]` is the
            verdict on the test data.
        wrong_images: The pictures of `report["wrong_images"]`, in its order: uint8,
            shape `(n, height, width, channels)`.
    """

    student: keras.Model
    report: Report
    wrong_images: np.ndarray

    def __str__(self) -> str:
        return summary_table(self.report).rstrip("\n")


class SearchResults(NamedTuple):
    """A found student, and the data that its exports need.

    Attributes:
        found: The student and its report.
        transfer: D(θ) with the teacher's logits.
        validation: The task's validation images, with the student's labels.
        test: The task's test images, with the student's labels.
        teacher_logits: All logits of the teacher for these test images, float32 of
            shape `(n, num_classes)`.
    """

    found: FoundStudent
    transfer: TransferSet
    validation: Split
    test: Split
    teacher_logits: np.ndarray
