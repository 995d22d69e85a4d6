"""The JSON Schemas of report.json: what they describe, and what they refuse."""

import copy
import json

import pytest
from conftest import make_data
from jsonschema import Draft202012Validator
from reports import make_report, make_report_2, with_budgets, with_trials
from schemas import VERSION, check_schema, schema_of

from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.search.evidence import SCHEMA_VERSION
from tskd_tf.search.smallest_student import find_smallest_student


def objects_of(schema):
    """Every description of an object with keys of its own."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects_of(part)


def test_every_key_is_described_and_no_other_allowed():
    schema = schema_of()
    Draft202012Validator.check_schema(schema)
    found = list(objects_of(schema))
    assert len(found) > 10
    for described in found:
        # Another budget than ours is known by its limit and its cost
        others = described["additionalProperties"]
        assert others is False or others["description"] == "Another budget."
        for key, value in described["properties"].items():
            assert value.get("description"), key


@pytest.mark.parametrize(
    "made",
    [
        make_report(),
        with_budgets(make_report()),
        with_trials(make_report(), (0.5, 0.99, 1), (0.25, 0.9, 2)),
        make_report_2()[0],
        make_report_2(num_classes=30, num_wrong=0)[0],
    ],
)
def test_reports_made_by_hand_are_whole(made):
    check_schema(made)


@pytest.fixture(scope="module")
def report(trained_teacher):
    found = find_smallest_student(
        trained_teacher,
        *(make_data(128, seed) for seed in (1, 2, 3)),
        task=Task([3, 1], 4),
        rates=[0.1],
        recipe=Recipe(epochs=1, batch_size=32),
        verbose=0,
    )
    # As it is read from a file
    return json.loads(json.dumps(found.report))


def paths_of_objects(value, path=()):
    if isinstance(value, dict):
        yield path
        for key, part in value.items():
            yield from paths_of_objects(part, (*path, key))
    elif isinstance(value, list) and value:
        yield from paths_of_objects(value[0], (*path, 0))


# Earlier reports of the same version lack these
NEWER = {"num_params"}


def test_a_report_is_of_the_newest_version_and_strict(report):
    assert report["schema_version"] == SCHEMA_VERSION == VERSION
    assert report["wrong_images"]
    check_schema(report)
    paths = list(paths_of_objects(report))
    assert {(), ("search", "trials", 0, "curve"), ("wrong_images", 0)} <= set(paths)
    for path in paths:
        for change in ("further", *at(report, path)):
            if change in NEWER and path[:2] == ("search", "trials"):
                continue
            changed = copy.deepcopy(report)
            if change == "further":
                at(changed, path)[change] = 1
            else:
                del at(changed, path)[change]
            with pytest.raises(AssertionError, match=change):
                check_schema(changed)


def at(value, path):
    for key in path:
        value = value[key]
    return value


def test_a_command_line_says_all_of_its_run(report):
    with pytest.raises(AssertionError, match="exports.*required"):
        check_schema({**report, "command": "python -m tskd_tf.main"})
    with pytest.raises(AssertionError, match="labels"):
        check_schema({**report, "labels": "labels.txt"})
