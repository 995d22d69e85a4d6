"""The accuracy of a student's integer file, by which a search may decide."""

import pathlib
import tempfile

import keras

from tskd_tf.data.images import Images
from tskd_tf.data.splits import Split
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.litert import open_litert, write_litert_int8
from tskd_tf.networks.evaluate import accuracy


def int8_accuracy(student: keras.Model, examples: Images, validation: Split) -> float:
    """Accuracy of a student's int8 LiteRT file, run in LiteRT.

    Args:
        student: A trained float32 student that gives logits.
        examples: Images that set the ranges of activations, shape
            `(n, height, width, channels)`, 0 to 255.
        validation: Images, and the positions of their classes among the outputs.

    Returns:
        A fraction in [0, 1].
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "student.tflite")
        write_litert_int8(student, path, Deployment("logits", [], examples))
        outputs = open_litert(path).outputs(validation.images)
    return accuracy(outputs, validation.class_ids)
