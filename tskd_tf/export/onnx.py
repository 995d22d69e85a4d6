"""Writes ONNX files and runs them in ONNX Runtime."""

import warnings
from typing import Any

import keras
import numpy as np

from tskd_tf.data.images import Images, chunks
from tskd_tf.export.deployment import Deployment, OpenedFile, deployed, lines_of
from tskd_tf.export.format import Format, Latencies
from tskd_tf.export.latency import latencies_us
from tskd_tf.networks.layers.grouped import GroupedConv2D
from tskd_tf.networks.rebuild import copy_weights, rebuild, same_layer


def write_onnx(model: keras.Model, path: str, deployment: Deployment) -> None:
    """Writes an ONNX file: any number of uint8 images in, float32 out.

    The metadata entry `labels` has the class names, one per line.

    Args:
        model: A float32 model that takes raw images and gives logits.
        path: Path of the file, ending with `.onnx`.
        deployment: Outputs, labels and images.
    """
    import onnx

    copy = rebuild(model, _exportable)
    copy_weights(model, copy)
    whole = deployed(copy, deployment.outputs)
    # Keras exports only models that have been called
    whole(np.asarray(deployment.images[:1]))
    with warnings.catch_warnings():
        # Keras's bridge to tf2onnx uses a name that NumPy has removed
        warnings.filterwarnings("ignore", category=FutureWarning)
        whole.export(path, format="onnx", verbose=False)
    file = onnx.load(path)
    onnx.helper.set_model_props(file, {"labels": lines_of(deployment.labels)})
    onnx.save(file, path)


def _exportable(layer: Any) -> Any:
    if isinstance(layer, keras.layers.Normalization):
        # Its constants would become inputs of the ONNX graph
        deviation = np.maximum(np.sqrt(layer.variance), keras.config.epsilon())
        offset = -np.asarray(layer.mean) / deviation
        return keras.layers.Rescaling((1 / deviation)[0], offset[0], name=layer.name)
    if type(layer) is keras.layers.Conv2D and layer.groups > 1:
        # Keras compiles it by XLA, which cannot be converted to ONNX
        return GroupedConv2D.from_config(layer.get_config())
    return same_layer(layer)


def open_onnx(path: str) -> OpenedFile:
    """Opens an ONNX file with one input and one output, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def run(images: np.ndarray) -> Any:
        return session.run(None, {source.name: images})[0]

    def outputs(images: Images) -> np.ndarray:
        parts = [run(np.asarray(images[part])) for part in chunks(len(images))]
        return np.concatenate(parts)

    return OpenedFile(run, outputs)


def _time(paths: list[str], images: Images) -> Latencies:
    return latencies_us([open_onnx(path).run for path in paths], images)


ONNX = Format(
    title="ONNX",
    file_name="student.onnx",
    write=write_onnx,
    open=open_onnx,
    time=_time,
    snippet="""\
import onnxruntime
session = onnxruntime.InferenceSession("{path}")
[source] = session.get_inputs()
[outputs] = session.run(None, {{source.name: image[None]}})
""",
    needs=("onnx", "onnxruntime", "tf2onnx"),
)
