"""Writes TensorFlow SavedModels and runs them in TensorFlow without Keras."""

import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.data.images import Images, chunks
from tskd_tf.errors import in_one_line
from tskd_tf.export.deployment import Deployment, OpenedFile, deployed, write_labels
from tskd_tf.export.format import Format, Latencies
from tskd_tf.export.latency import latencies_us
from tskd_tf.export.record import Latency

_NUM_IMAGES = 500


def write_saved_model(model: keras.Model, path: str, deployment: Deployment) -> None:
    """Writes a SavedModel: any number of uint8 images in, float32 out.

    `labels.txt` is in the folder `assets.extra`, which TensorFlow reserves for users.

    Args:
        model: A float32 model that takes raw images and gives logits.
        path: Path of the SavedModel's folder.
        deployment: Outputs and labels.
    """
    whole = deployed(model, deployment.outputs)
    whole.export(path, format="tf_saved_model", verbose=False)
    write_labels(deployment.labels, str(pathlib.Path(path) / "assets.extra"))


def open_saved_model(path: str) -> OpenedFile:
    """Opens a SavedModel with one input and one output; it uses all threads."""
    loaded = tf.saved_model.load(path)

    def run(images: np.ndarray) -> tf.Tensor:
        return loaded.serve(tf.constant(images))

    def outputs(images: Images) -> np.ndarray:
        parts = [run(np.asarray(images[part])).numpy() for part in chunks(len(images))]
        return np.concatenate(parts)

    return OpenedFile(run, outputs)


def one_thread_latencies_us(paths: list[str], images: Images) -> Latencies:
    """Times SavedModels alternately on one thread, in a separate process.

    TensorFlow fixes its number of threads at the start of a process. This process uses
    another number.

    Args:
        paths: Folders of the SavedModels.
        images: Shape `(n, height, width, channels)`, n ≥ 1.

    Returns:
        One record per SavedModel, see `latency.latencies_us`; None, with a warning in
        the log, if timing fails.
    """
    one_thread = {
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    with tempfile.TemporaryDirectory() as folder:
        arrays = pathlib.Path(folder) / "images.npy"
        np.save(arrays, np.asarray(images[:_NUM_IMAGES]))
        finished = subprocess.run(
            [sys.executable, "-m", "tskd_tf.export.saved_model", str(arrays), *paths],
            env={**os.environ, **one_thread},
            capture_output=True,
            text=True,
            check=False,
        )
    if finished.returncode:
        logging.getLogger(__name__).warning(
            "SavedModels could not be timed: %s", in_one_line(finished.stderr[-500:])
        )
        return None
    found: list[Latency] = json.loads(finished.stdout.splitlines()[-1])
    return found


def _time(arrays: str, *paths: str) -> None:
    runs = [open_saved_model(path).run for path in paths]
    sys.stdout.write(json.dumps(latencies_us(runs, np.load(arrays))) + "\n")


SAVED_MODEL = Format(
    title="SavedModel",
    file_name="student_saved_model",
    write=write_saved_model,
    open=open_saved_model,
    time=one_thread_latencies_us,
    snippet="""\
import tensorflow as tf
model = tf.saved_model.load("{path}")
outputs = model.serve(tf.constant(image[None])).numpy()
""",
)

if __name__ == "__main__":
    _time(*sys.argv[1:])
