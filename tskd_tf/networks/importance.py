"""The importance of a teacher's channels, so that a student starts from the best.

*Magnitude* is the mean absolute weight of a channel's kernel, divided by the mean of
the layer. So layers that share channels count equally. It does not depend on the task.
Source: Li et al. 2017, "Pruning filters for efficient ConvNets", section 3.1 (a sum).

*Taylor* is the first-order change of the task's loss if the channel were zero, squared
and summed over batches of D(θ). All weights of a channel form one gate. Source:
Molchanov et al. 2019, "Importance estimation for neural network pruning", section 3.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.data.batches import batches, check_images
from tskd_tf.data.images import Images
from tskd_tf.data.task import Task, check_class_ids, check_num_outputs, check_task
from tskd_tf.errors import InputError
from tskd_tf.networks.channels import Channels, Use, last_axis
from tskd_tf.networks.graph import check_logits, check_model
from tskd_tf.networks.rebuild import unfreeze, with_policy
from tskd_tf.networks.weight_axes import axes_of_weights

MEASURES = ("magnitude", "taylor")
_BATCH_SIZE = 32
_NUM_EXAMPLES = 4096


def channel_importance(
    teacher: keras.Model,
    task: Task,
    images: Images,
    labels: np.ndarray,
    measure: str = "taylor",
) -> np.ndarray:
    """The importance of a teacher's channels for a task, for `scale_width`.

    Args:
        teacher: A Functional or Sequential model with a logit for each class of the
            data.
        task: θ and the head.
        images: The images of D(θ), shape `(n, height, width, channels)`, 0 to 255. At
            most 4,096 of them are used, evenly spaced.
        labels: Integers of shape `(n,)`, in the student's label space.
        measure: One of `MEASURES`; `"magnitude"` does not use images. Default:
            `"taylor"`.

    Returns:
        float64 of shape `(num_channels,)`, ≥ 0, in the order of `channels.Channels`.

    Raises:
        InputError: If the measure or a layer is unknown, or teacher, task and examples
            do not fit each other.
    """
    if measure not in MEASURES:
        raise InputError(
            f"Expected a measure out of {', '.join(MEASURES)}. Received: {measure!r}"
        )
    check_task(task)
    check_model(teacher, "the teacher")
    check_num_outputs(teacher.name, teacher.outputs[0].shape[-1], task)
    if measure == "magnitude":
        return magnitude(Channels(teacher))
    check_logits(teacher, "the teacher")
    if len(images) == 0:
        raise InputError("Expected images to look at. Received: none")
    check_images(images, tuple(teacher.inputs[0].shape[1:]))
    check_class_ids(np.asarray(labels), len(images), task.num_outputs)
    model = with_policy(teacher, "float32")
    unfreeze(model)
    step = -(-len(images) // _NUM_EXAMPLES)
    arrays = images[np.arange(0, len(images), step)], labels[::step]
    return _taylor(model, Channels(model), task, arrays)


def magnitude(channels: Channels) -> np.ndarray:
    """Mean absolute weights of the channels' kernels; see `channel_importance`."""
    scores = np.zeros(channels.num_channels)
    for use in channels.weighted():
        if id(use.call.layer) not in channels.made:
            continue
        gates = _gates(use)
        weight, axis, own = [gate for gate in gates if len(gate[0].shape) > 1][-1]
        sizes = np.abs(np.asarray(weight)).astype(np.float64)
        of_channel = np.moveaxis(sizes, axis, -1).reshape(-1, own.shape[-1]).mean(0)
        scores[own[0]] += of_channel / max(of_channel.mean(), np.finfo(float).tiny)
    return scores


def _taylor(
    model: keras.Model,
    channels: Channels,
    task: Task,
    arrays: tuple[Images, np.ndarray],
) -> np.ndarray:
    gates = [
        [gate for gate in _gates(use) if gate[0].trainable]
        for use in channels.weighted()
    ]
    weights = [weight for layer in gates for weight, _, _ in layer]

    @tf.function
    def products(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = task.select_logits(model(images, training=False))
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, tf.cast(logits, tf.float32)
                )
            )
        gradients = tape.gradient(
            loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return [weight * gradient for weight, gradient in zip(weights, gradients)]

    scores = np.zeros(channels.num_channels)
    examples = batches(arrays, _BATCH_SIZE)
    of_batch = products.get_concrete_function(*examples.element_spec)
    for images, labels in examples:
        left = iter(of_batch(images, labels))
        for layer in gates:
            change = np.zeros_like(scores)
            for (_, axis, own), product in zip(layer, left):
                sums = np.moveaxis(product.numpy(), axis, -1).reshape(-1, own.shape[-1])
                np.add.at(change, own, sums.sum(axis=0) / len(own))
            scores += change**2
    return scores


def _gates(use: Use) -> list[tuple[Any, int, np.ndarray]]:
    """For each weight of a layer: weight, axis of the layer's channels, channels."""
    gates = []
    output = last_axis(use.output)
    for weight, axes in zip(use.call.layer.weights, axes_of_weights(use)):
        known = {i: axis for i, axis in enumerate(axes) if axis is not None}
        own = [i for i, axis in known.items() if np.array_equal(axis, output)]
        axis = (own or list(known))[-1]
        gates.append((weight, axis, known[axis]))
    return gates
