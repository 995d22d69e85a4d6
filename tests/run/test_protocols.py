"""Settings that go together."""

import pytest

from tskd_tf.errors import InputError
from tskd_tf.run.config import RunConfig
from tskd_tf.run.protocols import with_protocol


@pytest.mark.parametrize(
    ("teacher", "batch_size", "epochs", "learning_rate"),
    [
        ("lenet", 64, 11, 0.01),
        ("cifar10_full", 100, 140, 1e-3),
        ("cifar10_quick", 100, 10, 1e-3),
    ],
)
def test_the_papers_protocol_is_caffes(teacher, batch_size, epochs, learning_rate):
    config = with_protocol(RunConfig(protocol="paper", teacher=teacher))
    assert config.solver == f"caffe_{teacher}"
    assert config.batch_size == batch_size
    assert config.epochs == config.teacher_epochs == epochs
    assert config.learning_rate == learning_rate
    assert (config.head, config.initialize, config.augmentation) == (
        "full",
        "random",
        (),
    )
    assert (config.temperature, config.soft_loss_weight) == (3.0, 0.9)


@pytest.mark.parametrize("protocol", ["paper", "best"])
def test_what_the_user_gives_counts_more(protocol):
    config = RunConfig(protocol=protocol, epochs=3, learning_rate=0.5)
    found = with_protocol(config)
    assert (found.epochs, found.learning_rate) == (3, 0.5)
    assert found.teacher_epochs != config.teacher_epochs
    # A run's own settings do not change when they are read again
    assert with_protocol(found) == found


def test_without_a_protocol_nothing_changes():
    assert with_protocol(RunConfig()) == RunConfig()


def test_best_works_with_any_teacher():
    found = with_protocol(RunConfig(protocol="best", teacher="mine.keras"))
    assert found.head == "task" and found.initialize == "teacher"


def test_caffe_has_no_solver_for_a_teacher_of_ones_own():
    with pytest.raises(InputError, match="lenet, cifar10_full, cifar10_quick"):
        with_protocol(RunConfig(protocol="paper", teacher="mine.keras"))


@pytest.mark.parametrize(
    "settings",
    [
        {"task_sizes": ("1",)},
        {"task_sizes": ("two",)},
        {"rates": ("0",)},
        {"rates": ("1.5",)},
        {"rates": ("nan",)},
        {"seeds": ("-1",)},
        {"seeds": ()},
        {"seeds": ("1.5",)},
        {"normalized_accuracies": ("99.8",)},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_named(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"--{name}"):
        RunConfig(**settings)
