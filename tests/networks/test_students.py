"""Students of cheap convolutions, from one to a whole search."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from conftest import make_data
from keras import layers
from schemas import check_schema

from tskd_tf.choices import CONVOLUTIONS, Budgets
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.export.loading_snippets import snippet
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.students import thin_student
from tskd_tf.networks.width import scale_width, spaced_rates
from tskd_tf.report.page.search import search_section
from tskd_tf.report.words import summary_table
from tskd_tf.run.config import RunConfig
from tskd_tf.run.settings import check_settings
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.candidates import buildable_rates
from tskd_tf.search.smallest_student import find_smallest_student
from tskd_tf.search.student_costs import StudentCosts

TASK = Task([3, 1], 4, head="task")
HALF = Candidate("thin", 0.5)
RECIPE = Recipe(epochs=2, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def teacher():
    """Of two convolutions, so that the second can be replaced."""
    keras.utils.set_random_seed(1)
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(9, 3, name="stem")]
    stack += [layers.Conv2D(12, 3, activation="relu", name="second")]
    stack += [layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(4, name="head")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    model.fit(*make_data(256), batch_size=32, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def splits():
    return make_data(128, 1), make_data(64, 2), make_data(60, 3)


def find(teacher, splits, **settings):
    defaults = {"recipe": RECIPE, "verbose": 0, "task": TASK, "rates": (0.5, 1.0)}
    once = {"max_executions": 1}
    return find_smallest_student(teacher, *splits, **{**defaults, **once, **settings})


def test_what_is_not_replaced_starts_from_the_teacher(teacher):
    for kind in CONVOLUTIONS:
        student = thin_student(teacher, 1.0, TASK, kind, initialize="teacher")
        plain = scale_width(teacher, 1.0, TASK, initialize="teacher")
        for name in ("stem", "head"):
            np.testing.assert_array_equal(
                student.get_layer(name).kernel, plain.get_layer(name).kernel
            )
    kernel = teacher.get_layer("second").kernel.numpy()
    # One kernel a channel is the nearest to the teacher's, not a random one
    warm, cold = (
        thin_student(teacher, 1.0, TASK, "dominant", initialize=start)
        for start in ("teacher", "random")
    )
    errors = []
    for student in (warm, cold):
        first, second, _ = student.get_layer("second_dominant").get_weights()
        product = np.einsum("hwc,cn->hwcn", first[..., 0], second[0, 0])
        errors.append(np.linalg.norm(product - kernel) / np.linalg.norm(kernel))
    assert errors[0] < 1.0 < errors[1]


def test_wider_candidates_cost_more(teacher):
    """At 3 groups, 9 channels are cheaper than 8 that must be 4 groups."""
    rates = spaced_rates(0.05)
    for kind in CONVOLUTIONS:
        for groups in (3, 4) if kind == "grouped" else (None,):
            found = buildable_rates(
                teacher,
                TASK,
                rates,
                dataclasses.replace(RECIPE, convolutions=kind, groups=groups),
            )
            costs = [
                complexity(thin_student(teacher, rate, TASK, kind, groups)).num_macs
                for rate in found
            ]
            assert costs == sorted(set(costs)) and max(found) == 1.0, kind


def test_budgets_are_about_the_students_as_they_are(teacher):
    images, _ = make_data(8)

    def built_by(recipe):
        build = recipe.students_of(teacher, TASK)
        return lambda candidate: build(candidate.rate)

    shifting = dataclasses.replace(RECIPE, convolutions="shift")
    costs = StudentCosts(built_by(shifting), images, {})
    student = thin_student(teacher, 0.5, TASK, "shift")
    assert costs.cost("max_macs", HALF) == complexity(student).num_macs
    plain = StudentCosts(built_by(RECIPE), images, {})
    assert costs.cost("max_macs", HALF) < plain.cost("max_macs", HALF)


@pytest.mark.parametrize(
    "kind, groups, told",
    [
        ("shift", None, "shift convolutions"),
        ("grouped", None, "grouped convolutions in 4 groups"),
        ("plain", None, ""),
    ],
)
def test_a_search_and_its_report(teacher, splits, kind, groups, told):
    recipe = dataclasses.replace(RECIPE, convolutions=kind, groups=groups)
    limit = complexity(thin_student(teacher, 0.5, TASK, kind)).num_macs
    found = find(teacher, splits, recipe=recipe, budgets=Budgets(max_macs=limit))
    report = json.loads(json.dumps(found.report))
    check_schema(report)
    names = " ".join(layer.name for layer in found.student.layers)
    assert (f"second_{kind}" in names) == (kind != "plain")
    student = report["student"]
    assert student["rate"] == 0.5 and student["num_macs"] == limit
    assert student.get("convolutions", "plain") == kind
    line = summary_table(report).splitlines()[1]
    assert line.endswith(told) and ("convolutions" in line) == bool(told)
    assert f"in this order{told and '; ' + told}<" in search_section(report, {})


def test_the_control_is_of_the_same_layers(teacher, splits, tmp_path):
    recipe = dataclasses.replace(RECIPE, convolutions="depthwise", epochs=1)
    folder = str(tmp_path / "search")
    settings = {"recipe": recipe, "rates": (0.5,), "directory": folder}
    find(teacher, splits, **settings)
    control = keras.saving.load_model(tmp_path / "search" / "control_rate_0.5.keras")
    assert "second_depthwise" in [layer.name for layer in control.layers]
    # A search of plain convolutions is another search
    with pytest.raises(InputError, match="other recipe"):
        find(
            teacher,
            splits,
            **{**settings, "recipe": dataclasses.replace(RECIPE, epochs=1)},
        )


def test_a_search_of_before_there_were_kinds_goes_on(teacher, splits, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    folder = tmp_path / "search"
    settings = {"recipe": recipe, "rates": (0.5,), "directory": str(folder)}
    first = find(teacher, splits, **settings)
    path = folder / "settings.json"
    kept = json.loads(path.read_text())
    for name in ("convolutions", "groups", "method"):
        del kept["recipe"][name]
    path.write_text(json.dumps(kept))
    assert (
        find(teacher, splits, **settings).report["student"] == first.report["student"]
    )


def test_settings_that_do_not_fit_are_refused(teacher, trained_teacher, splits):
    for changes, message in (
        ({"convolutions": "cheap"}, "plain, dominant, shift.*Received: cheap"),
        ({"groups": 4}, "groups=4 with 'plain'"),
        ({"convolutions": "grouped", "groups": 0}, "groups of at least 1. Received: 0"),
    ):
        with pytest.raises(InputError, match=message):
            find(teacher, splits, recipe=dataclasses.replace(RECIPE, **changes))
    recipe = dataclasses.replace(RECIPE, convolutions="shift")
    with pytest.raises(InputError, match="your function decides.*convolutions=shift"):
        find(teacher, splits, recipe=recipe, build_student=lambda rate: teacher)
    # Its one convolution is that of the images
    with pytest.raises(InputError, match="which has none"):
        find(trained_teacher, splits, recipe=recipe)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"convolutions": "cheap"}, "--convolutions out of plain, dominant"),
        ({"convolutions": "grouped", "groups": 0}, "--groups of at least 1"),
        (
            {"convolutions": "shift", "student_builder": "a:b"},
            "--convolutions at their defaults.*--convolutions=shift",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RunConfig(**settings)


def test_groups_belong_to_grouped_convolutions():
    with pytest.raises(InputError, match="grouped convolutions only.*groups=4"):
        check_settings(RunConfig(groups=4))


def test_the_kinds_of_the_flag_are_all_there_are():
    (field,) = (
        field
        for field in RunConfig.__dataclass_fields__.values()
        if field.name == "convolutions"
    )
    assert field.metadata["choices"] is CONVOLUTIONS


def test_a_file_with_layers_of_this_package_says_where_they_are():
    code = snippet("keras", "student.keras", has_own_layers=True)
    assert "from tskd_tf import DominantConv2D, GroupedConv2D, ShiftConv2D" in code
    assert "tskd_tf" not in snippet("litert", "student.tflite", has_own_layers=True)
