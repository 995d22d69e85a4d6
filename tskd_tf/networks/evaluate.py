"""Predictions of a network, and which of them are correct."""

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.data.images import Images, chunks

_EVALUATION_BATCH = 1000
_FEW_BATCHES = 5


def predict_logits(
    model: keras.Model, images: Images, batch_size: int = _EVALUATION_BATCH
) -> np.ndarray:
    """Logits of a model in inference mode.

    Args:
        model: Maps images to logits.
        images: Shape `(n, height, width, channels)`, 0 to 255.
        batch_size: Images per forward pass, ≥ 1. Default: 1,000.

    Returns:
        float32, shape `(n, num_outputs)`.
    """

    def run(batch: tf.Tensor) -> tf.Tensor:
        return model(batch, training=False)

    if len(images) > _FEW_BATCHES * batch_size:
        # For many batches a graph is faster than eager calls, tracing included. One
        # trace for any batch size avoids TensorFlow's warning about retracing
        spec = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
        run = tf.function(run).get_concrete_function(spec)
    logits = [
        run(tf.convert_to_tensor(np.asarray(images[part]))).numpy()
        for part in chunks(len(images), batch_size)
    ]
    return np.concatenate(logits).astype(np.float32)


def is_correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the largest of `logits (n, outputs)` is at `labels (n,)`; bool `(n,)`."""
    return np.asarray(logits.argmax(axis=-1) == labels)


def class_accuracies(
    correct: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> list[float]:
    """Accuracy by class (recall), in [0, 1].

    Args:
        correct: Whether each example is right, bool of shape `(n,)`.
        labels: Integer labels, shape `(n,)`.
        classes: The labels to report, in this order; each must occur.
    """
    return [float(correct[labels == label].mean()) for label in classes]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose largest logit is that of their label, in [0, 1]."""
    return float(is_correct(logits, labels).mean())
