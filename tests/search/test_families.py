"""Searches among students of another family than thin ones."""

import dataclasses
import json

import keras
import pytest
from conftest import make_data
from schemas import check_schema

from tskd_tf.choices import FAMILIES, Budgets
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.page.search import search_section
from tskd_tf.report.tensorboard import markdown
from tskd_tf.report.words import summary_table
from tskd_tf.run.config import RunConfig
from tskd_tf.run.settings import search_settings_of
from tskd_tf.search.candidates import buildable_rates
from tskd_tf.search.settings import SearchSettings
from tskd_tf.search.smallest_student import find_smallest_student

RECIPE = Recipe(
    family="compact", epochs=2, batch_size=16, learning_rate="auto", precision="float32"
)
TASK = Task([3, 1], 4)


def find(teacher, **settings):
    splits = (make_data(n, seed=n) for n in (64, 32, 40))
    return find_smallest_student(
        teacher, *splits, task=TASK, verbose=0, **{"recipe": RECIPE, **settings}
    )


def test_a_search_among_compact_students(trained_teacher, tmp_path):
    settings = {"max_accuracy_loss": 0.9, "directory": str(tmp_path)}
    found = find(trained_teacher, **settings)
    report = json.loads(json.dumps(found.report))
    check_schema(report)
    rates = list(buildable_rates(trained_teacher, TASK, None, RECIPE))
    tried = [trial["rate"] for trial in report["search"]["trials"]]
    assert set(tried) <= set(rates) and min(tried) == report["student"]["rate"]
    assert report["student"]["family"] == "compact"
    assert {t["family"] for t in report["search"]["trials"]} == {"compact"}
    figures = draw_figures(found.report, found.wrong_images)
    page = search_section(found.report, figures)
    for text in (summary_table(found.report), markdown(found.report), page):
        assert "compact family" in text
    names = {type(layer).__name__ for layer in found.student.layers}
    assert "BatchNormalization" in names
    assert report["student"]["num_macs"] == complexity(found.student).num_macs
    assert find(trained_teacher, **settings).report == found.report
    thin = dataclasses.replace(RECIPE, family="thin")
    with pytest.raises(InputError, match="other .*recipe"):
        find(trained_teacher, recipe=thin, **settings)


def test_rates_of_ones_own(trained_teacher):
    found = find(trained_teacher, rates=[0.5, 0.25], max_accuracy_loss=0.9)
    assert found.report["student"]["rate"] == 0.25


@pytest.mark.parametrize("family", FAMILIES)
def test_students_of_a_family_cost_more_from_rate_to_rate(trained_teacher, family):
    recipe = dataclasses.replace(RECIPE, family=family)
    rates = list(buildable_rates(trained_teacher, TASK, None, recipe))
    build = recipe.students_of(trained_teacher, TASK)
    costs = [complexity(build(rate)).num_macs for rate in rates]
    assert costs == sorted(set(costs)) and len(rates) > 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "flat"}, "family out of auto, compact, thin. Received: flat"),
        ({"convolutions": "shift"}, "plain convolutions.*convolutions=shift"),
        ({"initialize": "teacher"}, "random start.*initialize=teacher"),
    ],
)
def test_what_a_family_does_not_have_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RECIPE, **changes).check()


def test_flags_choose_the_familys_own_rates():
    config = RunConfig(family="compact")
    assert search_settings_of(config).rates is None
    stepped = dataclasses.replace(config, rate_step=0.5)
    assert search_settings_of(stepped).rates == [0.5, 1.0]
    with pytest.raises(InputError, match="--family.*at their defaults"):
        RunConfig(family="compact", student_builder="a:b")


# Both families in one search


def both(teacher, loss=0.9, **settings):
    return find(
        teacher, max_accuracy_loss=loss, families=["compact", "thin"], **settings
    )


def cheapest(teacher):
    """The cheapest candidate of each family, and its multiply-adds."""
    found = {}
    for family in ("compact", "thin"):
        recipe = dataclasses.replace(RECIPE, family=family)
        rate = min(buildable_rates(teacher, TASK, None, recipe))
        student = recipe.students_of(teacher, TASK)(rate)
        found[family, rate] = complexity(student).num_macs
    return found


def test_the_answer_is_the_cheapest_of_all_families(trained_teacher):
    # Every student is good enough, so that the very cheapest is the answer
    found = both(trained_teacher)
    costs = cheapest(trained_teacher)
    student = found.report["student"]
    chosen = student.get("family", "thin"), student["rate"]
    assert chosen == min(costs, key=costs.get)
    assert student["num_macs"] == min(costs.values())
    trials = found.report["search"]["trials"]
    # Nothing dearer than the cheapest found is tried
    best = trials[0]["num_macs"]
    for trial in trials[1:]:
        assert trial["num_macs"] < best
        best = trial["num_macs"]
    check_schema(json.loads(json.dumps(found.report)))


@pytest.mark.long
def test_a_search_over_families_goes_on_and_shows_both(trained_teacher, tmp_path):
    settings = {"directory": str(tmp_path / "search"), "log_dir": str(tmp_path / "log")}
    found = both(trained_teacher, 0.0, **settings)
    trials = found.report["search"]["trials"]
    assert {trial.get("family") for trial in trials} == {"compact", None}
    assert both(trained_teacher, 0.0, **settings).report == found.report
    with pytest.raises(InputError, match="other .*families"):
        find(trained_teacher, max_accuracy_loss=0.0, **settings)
    runs = {path.name.partition("_")[2] for path in (tmp_path / "log").iterdir()}
    assert any("_compact_rate_" in run for run in runs)
    assert any(run.startswith("trial") and "compact" not in run for run in runs)
    figures = draw_figures(found.report, found.wrong_images)
    page = search_section(found.report, figures)
    assert ">family</th>" in page and "compact</td>" in page


def test_with_any_loss_allowed_the_most_accurate_of_the_widest_is_chosen(
    trained_teacher,
):
    limit = complexity(trained_teacher).num_macs // 3
    recipe = dataclasses.replace(RECIPE, family="auto")
    found = find(trained_teacher, recipe=recipe, budgets=Budgets(max_macs=limit))
    trials = found.report["search"]["trials"]
    assert {trial.get("family", "thin") for trial in trials} == {"thin", "compact"}
    assert len(trials) == 2
    best = max(trials, key=lambda trial: (trial["accuracy"], -trial["num_macs"]))
    student = found.report["student"]
    assert (student.get("family"), student["rate"]) == (
        best.get("family"),
        best["rate"],
    )
    assert all(trial["num_macs"] <= limit for trial in trials)


def test_a_budget_below_all_families_names_the_smallest_student(trained_teacher):
    costs = cheapest(trained_teacher)
    (family, rate), least = min(costs.items(), key=lambda item: item[1])
    name = f"rate {rate:g}" if family == "thin" else f"{family} rate {rate:g}"
    message = f"at {name}, fits.*max_macs=1, but it costs {least:,}"
    with pytest.raises(InputError, match=message):
        both(trained_teacher, budgets=Budgets(max_macs=1))


def test_what_cannot_be_made_compact_is_passed_over(caplog, arrays):
    model = keras.Sequential(
        [
            keras.Input(arrays[0].shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(4),
        ]
    )
    with caplog.at_level("INFO"):
        found = both(model, 0.9)
    assert "No compact students: Expected a teacher with a convolution" in caplog.text
    assert {trial.get("family") for trial in found.report["search"]["trials"]} == {None}
    with pytest.raises(InputError, match="a convolution of its images"):
        find(model, max_accuracy_loss=0.9)


@pytest.mark.parametrize(
    ("changes", "families"),
    [
        ({}, ("compact", "thin")),
        ({"convolutions": "shift"}, ("thin",)),
        ({"initialize": "teacher"}, ("thin",)),
        ({"family": "compact"}, ("compact",)),
    ],
)
def test_which_families_a_recipe_asks_for(changes, families):
    recipe = Recipe(**{"family": "auto", **changes})
    recipe.check()
    assert recipe.families == families
    with_rates = SearchSettings(recipe=recipe, rates=[0.5])
    expected = ("thin",) if recipe.family == "auto" else families
    assert with_rates.families_of_search() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": []}, "at least one family"),
        ({"families": ["auto"]}, "family out of compact, thin"),
        ({"families": ["thin"], "build_student": print}, "no students of your own"),
        ({"families": ["compact", "thin"], "rates": [0.5]}, "rates with one family"),
    ],
)
def test_families_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SearchSettings(**settings).check()
