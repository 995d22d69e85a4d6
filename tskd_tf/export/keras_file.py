"""The `.keras` file of a student, to load and to train further."""

import keras

from tskd_tf.export.deployment import Deployment, OpenedFile
from tskd_tf.export.format import Format
from tskd_tf.networks.evaluate import predict_logits
from tskd_tf.networks.rebuild import load_kept_model


def write_keras(model: keras.Model, path: str, deployment: Deployment) -> None:
    """Writes a model unchanged: it takes images of any dtype and gives logits."""
    model.save(path)


def open_keras(path: str) -> OpenedFile:
    """Opens a file that `write_keras` wrote."""
    model = load_kept_model(path)
    return OpenedFile(model, lambda images: predict_logits(model, images))


KERAS = Format(
    title="Keras",
    file_name="student.keras",
    write=write_keras,
    open=open_keras,
    time=None,
    snippet="""\
import keras
model = keras.saving.load_model("{path}")
outputs = model.predict(image[None], verbose=0)
""",
    gives_logits=True,
)
