"""Students that teach each other: losses and updates against NumPy, and the choice."""

import keras
import numpy as np
import pytest
from conftest import make_data, make_network

from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.online import OnlineDistiller
from tskd_tf.distillation.methods.peers import build_fused_head, build_students
from tskd_tf.errors import InputError

RATE, TEMPERATURE, NUM_OUTPUTS = 0.1, 2.0, 4


def probabilities(logits, temperature=1.0):
    scaled = np.asarray(logits, np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def cross_entropy(labels, logits):
    return -np.log(probabilities(logits)[np.arange(len(labels)), labels])


def divergence(target, logits):
    p, q = probabilities(target, TEMPERATURE), probabilities(logits, TEMPERATURE)
    return (p * np.log(p / q)).sum(axis=-1)


def fused_logits(distiller, images):
    """Of the fused head in training: batch statistics, in float64."""
    maps = []
    for student in distiller.students():
        maps.append(keras.Model(student.inputs[0], student.layers[1].output)(images))
    joint = np.concatenate(maps, axis=-1).astype(np.float64)
    normal, *_, dense = distiller.fused_head.layers
    mean, variance = joint.mean((0, 1, 2)), joint.var((0, 1, 2))
    joint = (joint - mean) / np.sqrt(variance + normal.epsilon)
    joint = np.maximum(joint * normal.gamma.numpy() + normal.beta.numpy(), 0)
    return joint.mean((1, 2)) @ dense.kernel.numpy() + dense.bias.numpy()


@pytest.fixture
def make_distiller():
    """Makes a compiled distiller of three students; the step is plain SGD."""

    def make(fused_head, num_students=3, **settings):
        students = build_students(make_network, num_students)
        distiller = OnlineDistiller(students, fused_head=fused_head)
        distiller.compile(
            keras.optimizers.SGD(RATE),
            temperature=TEMPERATURE,
            run_eagerly=True,
            metrics=["accuracy"],
            **settings,
        )
        return distiller

    return make


def moves(distiller, heads, images, labels):
    """The logs of a step, and the gradient that each head's bias got."""
    before = [head.bias.numpy() for head in heads]
    logs = distiller.train_on_batch(images, labels, return_dict=True)
    return logs, [(b - h.bias.numpy()) / RATE for h, b in zip(heads, before)]


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("kl_weight", [None, 0.7])
def test_an_online_step(make_distiller, arrays, kl_weight, stop_gradient):
    images, labels = arrays
    distiller = make_distiller(True, kl_weight=kl_weight, stop_gradient=stop_gradient)
    students = distiller.students()
    logits = [np.asarray(student(images)) for student in students]
    fused = fused_logits(distiller, images)
    weight = TEMPERATURE**2 / NUM_OUTPUTS if kl_weight is None else kl_weight
    hard = [cross_entropy(labels, z).mean() for z in logits]
    soft = [weight * divergence(fused, z).mean() for z in logits]
    teacher_loss = cross_entropy(labels, fused).mean()
    heads = [
        *(student.layers[-1] for student in students),
        distiller.fused_head.layers[-1],
    ]

    logs, (*gradients, fused_gradient) = moves(distiller, heads, images, labels)

    expected = {
        "loss": teacher_loss + sum(hard) + sum(soft),
        "hard_loss": np.mean(hard),
        "soft_loss": np.mean(soft),
        "teacher_loss": teacher_loss,
        "accuracy": (logits[0].argmax(-1) == labels).mean(),
    }
    assert logs == pytest.approx(expected, rel=1e-4)
    truth, target = np.eye(NUM_OUTPUTS)[labels], probabilities(fused, TEMPERATURE)
    for z, gradient in zip(logits, gradients):
        distance = probabilities(z, TEMPERATURE) - target
        of_logits = probabilities(z) - truth + weight / TEMPERATURE * distance
        np.testing.assert_allclose(gradient, of_logits.mean(0), atol=1e-5)
    of_logits = probabilities(fused) - truth
    for z in () if stop_gradient else logits:
        ratio = np.log(target / probabilities(z, TEMPERATURE))
        ratio -= divergence(fused, z)[:, None]
        of_logits = of_logits + weight / TEMPERATURE * target * ratio
    np.testing.assert_allclose(fused_gradient, of_logits.mean(0), atol=1e-5)


@pytest.mark.parametrize("kl_weight", [None, 0.7])
def test_a_mutual_step(make_distiller, arrays, kl_weight):
    images, labels = arrays
    distiller = make_distiller(False, kl_weight=kl_weight)
    students = distiller.students()
    logits = [np.asarray(student(images)) for student in students]
    weight = TEMPERATURE**2 if kl_weight is None else kl_weight
    others = [[z for z in logits if z is not own] for own in logits]
    hard = [cross_entropy(labels, z).mean() for z in logits]
    soft = [
        weight * np.mean([divergence(other, z).mean() for other in peers])
        for z, peers in zip(logits, others)
    ]

    heads = [student.layers[-1] for student in students]
    logs, gradients = moves(distiller, heads, images, labels)

    expected = {
        "loss": sum(hard) + sum(soft),
        "hard_loss": np.mean(hard),
        "soft_loss": np.mean(soft),
        "accuracy": (logits[0].argmax(-1) == labels).mean(),
    }
    assert logs == pytest.approx(expected, rel=1e-4)
    truth = np.eye(NUM_OUTPUTS)[labels]
    for z, peers, gradient in zip(logits, others, gradients):
        target = np.mean([probabilities(peer, TEMPERATURE) for peer in peers], axis=0)
        distance = probabilities(z, TEMPERATURE) - target
        of_logits = probabilities(z) - truth + weight / TEMPERATURE * distance
        np.testing.assert_allclose(gradient, of_logits.mean(0), atol=1e-5)


def test_a_student_learns_by_the_fused_head_what_its_own_head_does_not_tell(
    make_distiller, arrays
):
    """The loss of the fused head reaches the students' convolutions."""
    distiller = make_distiller(True)
    for student in distiller.students():
        student.layers[-1].set_weights(
            [np.zeros_like(w) for w in student.layers[-1].get_weights()]
        )
    before = [s.layers[1].kernel.numpy() for s in distiller.students()]
    distiller.train_on_batch(*arrays)
    for student, kernel in zip(distiller.students(), before):
        assert np.abs(student.layers[1].kernel.numpy() - kernel).max() > 1e-6


def test_the_fused_head_is_as_large_as_in_the_source():
    head = build_fused_head((8, 8, 64), 4, 10)
    assert sum(w.numpy().size for w in head.trainable_variables) == 3082


@pytest.fixture
def chosen(make_distiller, trained_teacher):
    """After an epoch at a learning rate of 0; the last student is a trained one."""
    distiller = make_distiller(True)
    distiller.optimizer.learning_rate = 0.0
    distiller.students()[2].set_weights(trained_teacher.get_weights())
    history = distiller.fit(
        *make_data(16), validation_data=make_data(40, seed=5), verbose=0
    )
    return distiller, history.history


def test_validation_chooses_the_student_that_is_kept(chosen, trained_teacher):
    distiller, history = chosen
    images, labels = make_data(40, seed=5)
    logits = trained_teacher(images).numpy()
    assert distiller.best_student() is distiller.students()[2]
    accuracy = (logits.argmax(-1) == labels).mean()
    assert history["val_accuracy"] == [pytest.approx(accuracy)]
    assert accuracy > history["accuracy"][0] + 0.3
    np.testing.assert_allclose(distiller.predict(images, verbose=0), logits, atol=1e-5)


def test_an_evaluation_chooses_nothing(chosen, trained_teacher, arrays):
    distiller, _ = chosen
    images, labels = arrays
    # All wrong: another student would be better on these
    wrong = (trained_teacher(images).numpy().argmax(-1) + 1) % NUM_OUTPUTS
    results = distiller.evaluate(images, wrong, verbose=0, return_dict=True)
    assert results["accuracy"] == 0.0
    assert distiller.best_student() is distiller.students()[2]


def test_the_choice_is_saved(chosen, tmp_path, arrays):
    distiller, _ = chosen
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    for a, b in zip(loaded.get_weights(), distiller.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        loaded.best_student()(arrays[0]), distiller.best_student()(arrays[0]), atol=1e-6
    )


def test_a_distiller_of_one_student_keeps_it(teacher):
    student = make_network()
    assert Distiller(student, teacher).best_student() is student


def test_what_cannot_learn_together_is_refused(make_distiller, arrays):
    student = make_network()
    with pytest.raises(InputError, match="at least 2 students.*1"):
        build_students(make_network, 1)
    with pytest.raises(InputError, match="at least 2 students.*1"):
        OnlineDistiller([student])
    with pytest.raises(InputError, match="different random weights"):
        build_students(lambda: student, 2)
    with pytest.raises(InputError, match="one architecture"):
        OnlineDistiller([student, make_network(3)])
    with pytest.raises(InputError, match="kl_weight from 0 on"):
        make_distiller(False, kl_weight=float("nan"))
    flat = [
        keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
        )
        for _ in range(2)
    ]
    with pytest.raises(InputError, match="the students to have feature maps"):
        OnlineDistiller(flat)
    # The maps are the fused head's business only
    OnlineDistiller(flat, fused_head=False)
