"""The typed record of a sweep against what sweeps have written."""

import json
import pathlib
import typing

import pytest

from tskd_tf.sweep.record import StudentRow, Sweep
from tskd_tf.sweep.students import SweptStudent
from tskd_tf.sweep.tables import num_right

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "experiments"


def test_a_student_is_a_row_of_the_sweep():
    assert typing.get_type_hints(SweptStudent) == typing.get_type_hints(StudentRow)


def unknown_and_missing(hint, value, where="sweep"):
    """Keys that only the type or only the value has."""
    if typing.is_typeddict(hint):
        fields = typing.get_type_hints(hint)
        yield from (f"{where}.{key} unknown" for key in set(value) - set(fields))
        missing = set(hint.__required_keys__) - set(value)
        yield from (f"{where}.{key} missing" for key in missing)
        for key in set(value) & set(fields):
            yield from unknown_and_missing(fields[key], value[key], f"{where}.{key}")
    elif typing.get_origin(hint) is list:
        for item in value:
            yield from unknown_and_missing(*typing.get_args(hint), item, where)


@pytest.mark.parametrize("path", sorted(DOCS.glob("*/sweep.json")), ids=str)
def test_sweeps_of_every_version_are_of_the_record(path):
    sweep = json.loads(path.read_text(encoding="utf-8"))
    assert not list(unknown_and_missing(Sweep, sweep))
    del sweep["teacher"]["tasks"][0]["num_test"]
    sweep["students"][0]["further"] = 1
    assert set(unknown_and_missing(Sweep, sweep)) == {
        "sweep.teacher.tasks.num_test missing",
        "sweep.students.further unknown",
    }


def test_the_rule_of_a_head_counts_what_is_right():
    counts = {"num_classes": 2, "num_right": 3, "num_right_of_task": 5}
    assert num_right("full", counts) == 3 and num_right("task", counts) == 5
