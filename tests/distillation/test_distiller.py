"""The Distiller's step against NumPy, and its ways of running against each other.

What Keras's own distiller gets wrong has its tests in test_keras_defects.py.
"""

import keras
import numpy as np
import pytest
from conftest import make_network

from tskd_tf.data.task import Task
from tskd_tf.distillation.distiller import Distiller, Update
from tskd_tf.distillation.soft_targets import transfer_set
from tskd_tf.errors import InputError
from tskd_tf.networks.width import scale_width


def reference_loss(teacher_logits, student_logits, labels, temperature, weight):
    """Eq. 8 in float64, mean over the batch."""

    def log_softmax(logits):
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    teacher_logits = np.asarray(teacher_logits, np.float64)
    student_logits = np.asarray(student_logits, np.float64)
    hard = -log_softmax(student_logits)[np.arange(len(labels)), labels]
    targets = np.exp(log_softmax(teacher_logits / temperature))
    soft = -(targets * log_softmax(student_logits / temperature)).sum(axis=-1)
    return ((1 - weight) * hard + weight * soft).mean(), hard.mean(), soft.mean()


def train(distiller, data, epochs=2, **settings):
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"], **settings)
    history = distiller.fit(data, epochs=epochs, verbose=0, shuffle=False)
    return history.history, distiller.student.get_weights()


def copy_of(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def assert_same_weights(first, second, atol=0.0):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("head", ["full", "task"])
@pytest.mark.parametrize("scale_soft_loss", [False, True])
def test_one_step_is_equation_8(arrays, teacher, head, scale_soft_loss):
    task = Task([2, 0], 4, head=head)
    student = scale_width(teacher, 0.5, task)
    images, labels = task.filter(arrays)
    teacher_logits = task.select_logits(teacher(images).numpy())
    before = student(images).numpy()
    expected, hard, soft = reference_loss(teacher_logits, before, labels, 4.0, 0.7)
    distiller = Distiller(student, teacher, task=task)
    distiller.compile(
        keras.optimizers.SGD(0.1),
        temperature=4.0,
        soft_loss_weight=0.7,
        scale_soft_loss=scale_soft_loss,
        metrics=["accuracy"],
    )
    logs = distiller.train_on_batch(images, labels, return_dict=True)
    if scale_soft_loss:
        soft, expected = 16 * soft, 0.3 * hard + 0.7 * 16 * soft
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["hard_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_loss"] == pytest.approx(soft, rel=1e-5)
    assert logs["accuracy"] == pytest.approx((before.argmax(-1) == labels).mean())
    assert set(logs) == {"loss", "hard_loss", "soft_loss", "accuracy"}


@pytest.fixture
def make_batches(arrays, teacher, small_task):
    """Makes the same series of shuffled batches each time it is called."""
    return lambda size=8: transfer_set(arrays, teacher, small_task, size, seed=3)


def test_stored_logits_train_like_a_live_teacher(teacher, small_task, make_batches):
    student = scale_width(teacher, 0.5, small_task)
    twin = copy_of(student)
    live = make_batches().map(lambda inputs, labels: (inputs["images"], labels))
    first, weights = train(Distiller(student, task=small_task), make_batches())
    second, twin_weights = train(Distiller(twin, teacher, task=small_task), live)
    assert_same_weights(weights, twin_weights, atol=1e-5)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)


def test_weight_zero_is_plain_cross_entropy(teacher, small_task, make_batches):
    student = scale_width(teacher, 0.5, small_task)
    twin = copy_of(student)
    _, weights = train(Distiller(student), make_batches(), soft_loss_weight=0.0)
    twin.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    plain = make_batches().map(lambda inputs, labels: (inputs["images"], labels))
    twin.fit(plain, epochs=2, verbose=0, shuffle=False)
    assert_same_weights(weights, twin.get_weights(), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"run_eagerly": True},
        {"steps_per_execution": 3},
        {"jit_compile": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_way_of_running_is_the_same(teacher, small_task, make_batches, settings):
    student = scale_width(teacher, 0.5, small_task)
    twin = copy_of(student)
    expected, weights = train(Distiller(student), make_batches())
    got, twin_weights = train(Distiller(twin), make_batches(), **settings)
    assert_same_weights(weights, twin_weights, atol=1e-5)
    for name in expected:
        assert got[name] == pytest.approx(expected[name], rel=1e-4), name


def test_schedules_by_callback_take_effect_without_a_retrace(
    arrays, teacher, small_task
):
    steps = []

    class Traced(Distiller):
        def compute_losses(self, batch):
            steps.append(batch)
            return super().compute_losses(batch)

    class Schedule(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.temperature.assign(1.0 + epoch)
            self.model.soft_loss_weight.assign(1.0)

    student = scale_width(teacher, 0.5, small_task)
    distiller = Traced(student)
    # A rate of zero: only the schedule changes the losses
    distiller.compile(keras.optimizers.SGD(0.0))
    data = transfer_set(arrays, teacher, small_task, batch_size=32)
    history = distiller.fit(
        data, epochs=3, verbose=0, shuffle=False, callbacks=[Schedule()]
    ).history
    # It is Python's once a trace, not once a batch
    assert len(steps) <= 2
    images, labels = small_task.filter(arrays)
    logits = small_task.select_logits(teacher(images).numpy())
    for epoch, loss in enumerate(history["loss"]):
        expected, *_ = reference_loss(logits, student(images), labels, 1.0 + epoch, 1.0)
        assert loss == pytest.approx(expected, rel=1e-4)


def test_several_updates_a_step_with_their_own_optimizers(
    teacher, small_task, make_batches
):
    """What an adversarial method needs: alternating updates inside the one step."""

    class WithCritic(Distiller):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.critic = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            self.critic_optimizer = keras.optimizers.SGD(0.5)

        def updates(self):
            critic = Update(
                self.critic_optimizer,
                self.critic.trainable_variables,
                self.compute_critic_losses,
            )
            student = Update(
                self.optimizer, self.student.trainable_variables, self.compute_losses
            )
            return [critic, student]

        def compute_critic_losses(self, batch):
            logits = keras.ops.stop_gradient(self.student(batch.images, training=True))
            loss = self.critic(logits)[:, 0] - self.critic(batch.teacher_logits)[:, 0]
            return {"loss": loss}, logits

    student = scale_width(teacher, 0.5, small_task)
    distiller = WithCritic(student)
    critic_before = distiller.critic.get_weights()
    twin = copy_of(student)
    _, weights = train(distiller, make_batches(), epochs=1)
    _, expected = train(Distiller(twin), make_batches(), epochs=1)
    assert_same_weights(weights, expected, atol=1e-6)
    assert any((a != b).any() for a, b in zip(critic_before, distiller.critic.weights))


def test_mixed_float16_scales_its_loss_and_learns(trained_teacher, arrays, small_task):
    student = scale_width(
        trained_teacher, 0.5, small_task, dtype_policy="mixed_float16"
    )
    distiller = Distiller(student)
    distiller.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    data = transfer_set(arrays, trained_teacher, small_task, batch_size=16)
    history = distiller.fit(data, epochs=20, verbose=0, shuffle=False).history
    assert history["accuracy"][-1] == 1.0
    # The tracked loss is the true one, not the scaled one
    assert history["loss"][0] < 5


def test_predict_and_evaluate_are_the_students(arrays, teacher, small_task):
    student = scale_width(teacher, 0.5, small_task)
    distiller = Distiller(student, teacher, task=small_task)
    distiller.compile(metrics=["accuracy"])
    images, labels = small_task.filter(arrays)
    logits = student(images).numpy()
    np.testing.assert_allclose(distiller.predict(images, verbose=0), logits, atol=1e-5)
    got = distiller.evaluate(images, labels, verbose=0, return_dict=True)
    _, hard, _ = reference_loss(logits, logits, labels, 3.0, 0.9)
    assert got["loss"] == pytest.approx(hard, rel=1e-5)
    assert got["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean())
    assert set(got) == {"loss", "accuracy"}


def test_pairs_that_do_not_fit_are_refused(teacher, small_task, full_task):
    student = scale_width(teacher, 0.5, small_task)
    with pytest.raises(InputError, match="4 outputs.*full head.*2"):
        Distiller(student, teacher, task=full_task)
    with pytest.raises(InputError, match="2 outputs.*pass the task"):
        Distiller(student, teacher)
    with pytest.raises(InputError, match="4 outputs.*3"):
        Distiller(student, make_network(3), task=small_task)
    with pytest.raises(InputError, match="the student to give logits.*softmax"):
        Distiller(make_network(activation="softmax"), teacher)
    with pytest.raises(InputError, match="the teacher to give logits.*sigmoid"):
        Distiller(make_network(), make_network(activation="sigmoid"))
    student.trainable = False
    with pytest.raises(InputError, match="frozen"):
        Distiller(student)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature above 0"),
        ({"temperature": float("nan")}, "temperature above 0"),
        ({"soft_loss_weight": 1.1}, "from 0 to 1"),
        ({"soft_loss_weight": float("nan")}, "from 0 to 1"),
        ({"loss": "mse"}, "no loss"),
    ],
)
def test_bad_settings_are_refused(teacher, settings, message):
    with pytest.raises(InputError, match=message):
        Distiller(make_network(), teacher).compile(**settings)


def test_batches_that_do_not_fit_are_refused(arrays, teacher):
    images, class_ids = arrays
    distiller = Distiller(make_network())
    distiller.compile(run_eagerly=True)
    with pytest.raises(InputError, match="set_teacher"):
        distiller.fit(images, class_ids, verbose=0)
    distiller.set_teacher(teacher)
    with pytest.raises(InputError, match="one integer label"):
        distiller.fit(images, np.eye(4)[class_ids], verbose=0)
    with pytest.raises(InputError, match="one integer label.*float32"):
        distiller.fit(images, class_ids.astype("float32"), verbose=0)
    for other in (np.repeat(images, 3, axis=-1), images[:, :4], images[..., 0]):
        with pytest.raises(InputError, match=r"\(None, 8, 8, 1\), as the student"):
            distiller.fit(other, class_ids, verbose=0)
        with pytest.raises(InputError, match="as the student takes them"):
            distiller.evaluate(other, class_ids, verbose=0)
    # On a CPU, where TensorFlow looks; task.filter and transfer_set look everywhere
    with pytest.raises(InputError, match="labels from 0 to 3.*Received: 4"):
        distiller.fit(images, class_ids + 1, verbose=0)
    distiller.fit(images, class_ids[:, None], verbose=0)
    distiller.fit(images, class_ids.astype("uint8"), verbose=0)
