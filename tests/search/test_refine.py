"""The refinement of a chosen student, by itself and as part of a search."""

import dataclasses
import json
import logging

import keras
import numpy as np
import pytest
from conftest import make_data
from keras import layers
from schemas import check_schema

from tskd_tf.choices import Budgets
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training import DivergedError, TrainedStudent
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.networks.rebuild import with_policy
from tskd_tf.networks.width import layer_widths
from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.page.search import search_section
from tskd_tf.report.tensorboard import markdown
from tskd_tf.report.words import summary_table
from tskd_tf.run.config import RunConfig
from tskd_tf.run.protocols import with_protocol
from tskd_tf.run.settings import search_settings_of
from tskd_tf.search import refine as refine_module
from tskd_tf.search.refine_files import State
from tskd_tf.search.smallest_student import find_smallest_student

RECIPE = Recipe(epochs=5, batch_size=32, learning_rate=0.02)
TASK = Task([3, 1], 4, head="task")
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def splits():
    return make_data(256, 1), make_data(128, 2), make_data(120, 3)


@pytest.fixture
def steps(monkeypatch):
    """Sets the number of steps of a refinement, whatever their time."""

    def set_steps(number):
        monkeypatch.setattr(
            refine_module, "_has_time", lambda state, _: len(state.steps) < number
        )

    set_steps(3)
    return set_steps


def find(teacher, splits, **settings):
    defaults = {"rates": [0.5], "recipe": RECIPE, "verbose": 0, "refine": True}
    defaults.update(task=TASK, max_accuracy_loss=0.4)
    return find_smallest_student(teacher, *splits, **{**defaults, **settings})


def check_refined(found, splits, task=TASK):
    """That the report is about the refined student; returns the refinement."""
    report = json.loads(json.dumps(found.report))
    check_schema(report)
    refinement, student = report["refinement"], report["student"]
    cost, floor = complexity(found.student), report["search"]["validation_floor"]
    assert (student["num_params"], student["num_macs"]) == cost[:2]
    assert student["widths"] == layer_widths(found.student)
    costs = [(refinement["num_params"], refinement["num_macs"])]
    steps = refinement["steps"]
    is_refined = any(step["is_kept"] for step in steps)
    # Trained to the end, once, if anything was removed
    assert [step["num_removed"] == 0 for step in steps] == [
        is_refined and i == len(steps) - 1 for i in range(len(steps))
    ]
    for step in steps[: len(steps) - is_refined]:
        assert step["is_kept"] == (step["accuracy"] >= floor)
        # Each step starts from the student so far
        assert step["num_params"] < costs[-1][0] and step["num_macs"] < costs[-1][1]
        if step["is_kept"]:
            costs.append((step["num_params"], step["num_macs"]))
    assert costs[-1] == cost[:2]
    for split, expected in ((splits[1], None), (splits[2], student["accuracy"])):
        images, labels = task.filter(split)
        got = accuracy(predict_logits(found.student, images), labels)
        assert got >= floor if expected is None else got == expected
    return refinement


def test_a_refined_student_is_cheaper_and_still_good_enough(
    trained_teacher, splits, steps
):
    plain = find(trained_teacher, splits, refine=False)
    assert "refinement" not in plain.report
    found = find(trained_teacher, splits)
    refinement = check_refined(found, splits)
    assert any(step["is_kept"] for step in refinement["steps"])
    assert refinement["num_macs"] == plain.report["student"]["num_macs"]
    assert found.report["control"] == plain.report["control"]
    figures = draw_figures(found.report, found.wrong_images)
    page = search_section(found.report, figures)
    for text in (summary_table(found.report), markdown(found.report), page):
        assert f"{refinement['num_params']:,} to " in text
    assert "refined" not in search_section(plain.report, figures).lower()
    assert "Refined" not in summary_table(plain.report)


def residual_teacher():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(
        layers.Rescaling(1 / 255)(image)
    )
    branch = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = layers.Add()([x, layers.BatchNormalization()(branch)])
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    return keras.Model(image, layers.Dense(4)(x))


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "compact", "learning_rate": "auto"},
        pytest.param({"convolutions": "dominant"}, marks=LONG),
        pytest.param({"method": "hint", "class_weights": "balanced"}, marks=LONG),
        pytest.param({"method": "mutual", "num_students": 2}, marks=LONG),
        pytest.param(
            {"solver": "caffe_lenet", "learning_rate": "auto", "scale_soft_loss": True},
            marks=LONG,
        ),
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_students_of_all_kinds(splits, steps, changes):
    steps(2)
    recipe = dataclasses.replace(RECIPE, epochs=2, **changes)
    found = find(
        residual_teacher(), splits, recipe=recipe, max_accuracy_loss=0.99, rates=[1.0]
    )
    refinement = check_refined(found, splits)
    assert [step["is_kept"] for step in refinement["steps"][:2]] == [True, True]


@pytest.mark.long
def test_sums_keep_fitting_until_nothing_is_left(splits, steps):
    steps(100)
    found = find(
        residual_teacher(),
        splits,
        recipe=dataclasses.replace(RECIPE, epochs=1),
        max_accuracy_loss=0.99,
        rates=[1.0],
    )
    check_refined(found, splits)
    assert found.report["student"]["widths"] == [1, 1, 2]


def forget(trained_accuracy):
    """A short training after which the student has this accuracy."""

    def distil(trainer, thinner, record, number):
        return TrainedStudent(thinner, trained_accuracy, 1, 0.1, record.curve)

    return distil


def test_what_costs_accuracy_is_undone(trained_teacher, splits, steps, monkeypatch):
    steps(100)
    plain = find(trained_teacher, splits, refine=False)
    monkeypatch.setattr(refine_module, "_distil", forget(0.0))
    found = find(trained_teacher, splits)
    done = check_refined(found, splits)["steps"]
    assert not any(step["is_kept"] for step in done)
    # It halves down to one channel, for each of the two layers
    numbers = [step["num_removed"] for step in done]
    assert numbers.count(1) == 2 and numbers[-1] == 1
    for number, after in zip(numbers, numbers[1:]):
        assert number == 1 or after <= number // 2
    for got, expected in zip(
        found.student.get_weights(), plain.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    assert found.report["student"] == plain.report["student"]


def test_a_training_that_diverges_is_undone(
    trained_teacher, splits, steps, monkeypatch
):
    steps(2)

    def diverge(*arguments):
        raise DivergedError

    monkeypatch.setattr(refine_module.Trainer, "train_more", diverge)
    # The control is trained before, by the same function
    monkeypatch.setattr(
        refine_module.Trainer,
        "control",
        lambda self, record, folder: (self.builders["thin"](0.5), record.curve),
    )
    done = check_refined(find(trained_teacher, splits), splits)["steps"]
    assert [step["accuracy"] for step in done] == [0.0, 0.0]


def test_no_step_begins_that_would_end_after_the_time():
    def has_time(*seconds):
        steps = [{"seconds": value, "num_removed": 1} for value in seconds]
        return refine_module._has_time(State(steps), 10.0)

    assert has_time() and has_time(5.0) and has_time(1.0, 4.0, 1.0)
    assert not has_time(5.5) and not has_time(1.0, 4.0, 1.5) and not has_time(11.0)


def test_the_last_training_is_the_recipes_and_costs_no_accuracy(
    trained_teacher, splits, steps, monkeypatch
):
    steps(1)
    recipes, accuracies = [], [0.9, 0.8]

    def train_more(self, title, record, recipe, *others):
        recipes.append(recipe)
        student = with_policy(self.builders[record.family](record.rate), "float32")
        weights = [weight + len(recipes) for weight in student.get_weights()]
        student.set_weights(weights)
        accuracy = accuracies[len(recipes) - 1] if len(recipes) < 3 else 1.0
        return TrainedStudent(student, accuracy, 1, 0.1, record.curve)

    monkeypatch.setattr(refine_module.Trainer, "train_more", train_more)
    found = find(trained_teacher, splits)
    first, last = found.report["refinement"]["steps"]
    assert (first["is_kept"], last["is_kept"], last["num_removed"]) == (True, False, 0)
    assert [recipe.epochs for recipe in recipes[:2]] == [1, 5]
    assert [recipe.learning_rate for recipe in recipes[:2]] == [0.01, 0.02]
    # The control's training is the third; the student is that of the first
    recipes.clear()
    accuracies[1] = 0.9
    again = find(trained_teacher, splits)
    assert again.report["refinement"]["steps"][1]["is_kept"]
    for kept, undone in zip(again.student.get_weights(), found.student.get_weights()):
        np.testing.assert_allclose(kept, undone + 2, rtol=1e-5)


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("when", [1, *(pytest.param(n, marks=LONG) for n in (3, 4))])
def test_an_interrupted_refinement_goes_on(
    trained_teacher, splits, steps, monkeypatch, tmp_path, when
):
    steps(4)
    distil, calls = refine_module._distil, []

    def sometimes(trainer, thinner, record, number):
        # The second step is not good enough, whoever runs it
        calls.append(number)
        if len(calls) == stop:
            raise Interrupted
        trained = distil(trainer, thinner, record, number)
        return trained._replace(accuracy=0.0) if number == 2 else trained

    monkeypatch.setattr(refine_module, "_distil", sometimes)

    def without_seconds(refinement):
        return [
            {key: value for key, value in step.items() if key != "seconds"}
            for step in refinement["steps"]
        ]

    stop = 0
    whole = find(trained_teacher, splits, directory=str(tmp_path / "whole"))
    calls.clear()
    stop = when + 1
    with pytest.raises(Interrupted):
        find(trained_teacher, splits, directory=str(tmp_path / "cut"))
    stop = 0
    again = find(trained_teacher, splits, directory=str(tmp_path / "cut"))
    numbers = [1, 2, 3, 4, None]
    assert calls == [*numbers[: when + 1], *numbers[when:]]
    first, second = (found.report["refinement"] for found in (whole, again))
    assert without_seconds(first) == without_seconds(second)
    for got, expected in zip(
        again.student.get_weights(), whole.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    # One that has ended is not run again, nor one that is asked for later
    calls.clear()
    third = find(trained_teacher, splits, directory=str(tmp_path / "cut"))
    assert third.report == again.report and not calls
    assert len(list((tmp_path / "cut" / "refinement").glob("*.keras"))) == 1


def test_what_a_step_decides():
    def step(number, kept):
        return {"num_removed": number, "is_kept": kept}

    state = State().after(step(9, True), (0,))
    assert (state.most, state.closed, state.num_kept) == (None, [], 1)
    state = state.after(step(9, False), (0,)).after(step(4, True), (0,))
    assert (state.most, state.closed, state.num_kept) == (4, [], 2)
    state = state.after(step(1, False), (1, 2))
    assert (state.most, state.closed, len(state.steps)) == (None, [(1, 2)], 4)
    assert State() == ([], None, []) and not state.is_finished
    for is_kept in (True, False):
        end = state.after(step(0, is_kept), ())
        assert end.is_finished and end[1:] == state[1:]


def test_nothing_feasible_is_not_refined(trained_teacher, splits, caplog):
    recipe = dataclasses.replace(
        RECIPE, learning_rate=1e-6, epochs=1, initialize="random"
    )
    with caplog.at_level(logging.WARNING):
        found = find(trained_teacher, splits, recipe=recipe, max_accuracy_loss=0.0)
    assert "refinement" not in found.report
    assert "Not refined" in caplog.text


def test_a_budget_is_spent_by_the_refined_student(trained_teacher, splits, steps):
    steps(1)
    found = find(trained_teacher, splits, budgets=Budgets(max_params=2000))
    check_refined(found, splits)
    spent = found.report["budgets"]["max_params"]["student"]
    assert spent == found.student.count_params()


def test_budgets_alone_do_not_say_when_to_stop(trained_teacher, splits):
    with pytest.raises(InputError, match="max_accuracy_loss with refine"):
        find(
            trained_teacher,
            splits,
            max_accuracy_loss=None,
            budgets=Budgets(max_params=2000),
        )


def own_student(rate, is_odd=False):
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(round(8 * rate), 3)(layers.Rescaling(1 / 255)(image))
    x = layers.GlobalAveragePooling2D()(x)
    x = keras.ops.sort(x, axis=-1) if is_odd else x
    return keras.Model(image, layers.Dense(2)(x))


def test_students_of_ones_own(trained_teacher, splits, steps):
    steps(1)
    found = find(
        trained_teacher, splits, build_student=own_student, max_accuracy_loss=0.9
    )
    check_refined(found, splits)
    with pytest.raises(InputError, match="whose channels can be followed.*Sort"):
        find(
            trained_teacher,
            splits,
            build_student=lambda rate: own_student(rate, is_odd=True),
        )


def test_the_flag_is_off_and_in_no_protocol():
    assert not RunConfig().refine
    assert not with_protocol(RunConfig(protocol="paper")).refine
    assert search_settings_of(RunConfig(refine=True)).refine
