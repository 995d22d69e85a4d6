"""Knowledge pre-regression: the loss and the gradients of all heads against NumPy."""

import keras
import numpy as np
import pytest
from test_distiller import reference_loss

from tskd_tf.distillation.methods.pre_regression import PreRegressionDistiller
from tskd_tf.errors import InputError

RATE, TEMPERATURE = 0.1, 2.0


def network(width):
    """Two stages, whose ends are the convolutions."""
    layers = keras.layers
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
    x = layers.Conv2D(2 * width, 3, padding="same")(layers.MaxPooling2D(2)(x))
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


def probabilities(logits, temperature=1.0):
    exponents = np.exp(np.asarray(logits, np.float64) / temperature)
    return exponents / exponents.sum(axis=-1, keepdims=True)


def scores(model, heads, images):
    """Of a 1x1 convolution, then the mean over the places: what a head stands for."""
    layers = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    maps = keras.Model(model.inputs[0], [layer.output for layer in layers])(images)
    return [
        (np.asarray(values, np.float64) @ head.kernel.numpy() + head.bias.numpy()).mean(
            axis=(1, 2)
        )
        for values, head in zip(maps, heads, strict=True)
    ]


def compiled(student, teacher, **settings):
    distiller = PreRegressionDistiller(student, teacher)
    distiller.compile(
        keras.optimizers.SGD(RATE),
        temperature=TEMPERATURE,
        soft_loss_weight=0.7,
        run_eagerly=True,
        **settings,
    )
    return distiller


@pytest.mark.parametrize("weights", [[0.5, 0.0], [2.0, 2.0]])
def test_a_step(arrays, weights):
    images, labels = arrays
    teacher, student = network(6), network(3)
    is_one = weights[0] == weights[1]
    distiller = compiled(
        student, teacher, stage_weights=weights[0] if is_one else weights
    )
    taught = scores(teacher, distiller.teacher_heads, images)
    learnt = scores(student, distiller.student_heads, images)
    rows, truth = np.arange(len(labels)), np.eye(4)[labels]
    targets = [probabilities(q, TEMPERATURE) for q in taught]
    compared = sum(
        -weight * (p * np.log(probabilities(q, TEMPERATURE))).sum(-1).mean()
        for weight, p, q in zip(weights, targets, learnt)
    )
    of_teacher = -sum(np.log(probabilities(q)[rows, labels]).mean() for q in taught)
    plain, hard, soft = reference_loss(
        teacher(images), student(images), labels, TEMPERATURE, 0.7
    )
    heads = [*distiller.teacher_heads, *distiller.student_heads]
    before = [head.bias.numpy() for head in heads]
    old, frozen = student.get_weights(), teacher.get_weights()

    logs = distiller.train_on_batch(images, labels, return_dict=True)

    expected = {
        "loss": plain + compared + of_teacher,
        "hard_loss": hard,
        "soft_loss": soft,
        "pre_regression_loss": compared,
        "teacher_heads_loss": of_teacher,
    }
    assert logs == pytest.approx(expected, rel=1e-4)
    of_logits = [probabilities(q) - truth for q in taught]
    of_logits += [
        weight / TEMPERATURE * (probabilities(q, TEMPERATURE) - p)
        for weight, p, q in zip(weights, targets, learnt)
    ]
    for head, bias, gradient in zip(heads, before, of_logits, strict=True):
        expected = bias - RATE * gradient.mean(0)
        np.testing.assert_allclose(head.bias, expected, atol=1e-6)
    for a, b in zip(teacher.get_weights(), frozen, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all((a != b).any() for a, b in zip(student.get_weights(), old, strict=True))


def test_the_scores_reach_the_student_but_not_through_the_teachers_heads(arrays):
    """With Eq. 8 at rest, the student moves by β alone."""
    images, labels = arrays
    teacher = network(6)
    moved = {}
    for weight in (0.0, 1.0):
        student = network(3)
        student.layers[-1].kernel.assign(np.zeros((6, 4)))
        before = student.layers[2].kernel.numpy()
        distiller = compiled(student, teacher, stage_weights=weight)
        distiller.train_on_batch(images, labels)
        moved[weight] = np.abs(student.layers[2].kernel.numpy() - before).max()
    assert moved[0.0] == 0 < moved[1.0]


def test_what_cannot_be_compared_is_refused(arrays):
    with pytest.raises(InputError, match="live teacher, as PreRegressionDistiller"):
        PreRegressionDistiller(network(3))
    distiller = PreRegressionDistiller(network(3), network(4), stages=[1])
    assert len(distiller.student_heads) == len(distiller.teacher_heads) == 1
    for weights in (-1.0, [0.5, 0.5], [float("inf")]):
        with pytest.raises(
            InputError, match="stage_weights from 0 on, one number or 1"
        ):
            distiller.compile(stage_weights=weights)
