"""Searches among students of another family than thin ones."""

import dataclasses
import json

import pytest
from conftest import make_data
from schemas import check_schema

from tskd_tf.choices import FAMILIES
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.page.search import search_section
from tskd_tf.report.tensorboard import markdown
from tskd_tf.report.words import summary_table
from tskd_tf.run import sweep_job
from tskd_tf.run.config import RunConfig
from tskd_tf.run.settings import search_settings_of
from tskd_tf.search.candidates import buildable_rates
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
    rates = buildable_rates(trained_teacher, TASK, None, RECIPE)
    tried = [trial["rate"] for trial in report["search"]["trials"]]
    assert set(tried) <= set(rates) and min(tried) == report["student"]["rate"]
    assert report["student"]["family"] == "compact"
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
    rates = buildable_rates(trained_teacher, TASK, None, recipe)
    build = recipe.students_of(trained_teacher, TASK)
    costs = [complexity(build(rate)).num_macs for rate in rates]
    assert costs == sorted(set(costs)) and len(rates) > 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "flat"}, "family out of thin, compact. Received: flat"),
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


def test_a_sweep_is_of_thin_students(tmp_path):
    config = RunConfig(mode="sweep", family="compact", output_dir=str(tmp_path / "run"))
    with pytest.raises(InputError, match="--family=thin in a sweep"):
        sweep_job.run(config)
