"""The typed record of a report against its JSON Schema: neither can drift."""

import copy
import dataclasses
import types
import typing

import pytest
from reports import make_report, with_refinement
from schemas import schema_of

from tskd_tf.choices import Budgets
from tskd_tf.report.record import ClassResult, Report, TrialRow
from tskd_tf.report.rows import INT8_METHODS
from tskd_tf.search.evidence import Trial

PLAIN = {bool: "boolean", str: "string", int: "integer", float: "number"}


def differences(hint, schema, definitions, where="report"):
    """Where a type and a schema do not say the same, in words."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if typing.is_typeddict(hint):
        yield from _of_objects(hint, schema, definitions, where)
    elif typing.get_origin(hint) in (types.UnionType, typing.Union):
        options, parts = typing.get_args(hint), schema.get("anyOf", [])
        if len(options) != len(parts):
            yield f"{where}: {len(options)} options, {len(parts)} in the schema"
        for option, part in zip(options, parts):
            yield from differences(option, part, definitions, where)
    elif typing.get_origin(hint) is list:
        if schema.get("type") != "array":
            yield f"{where}: no array in the schema"
        else:
            (item,) = typing.get_args(hint)
            yield from differences(item, schema["items"], definitions, f"{where}[]")
    elif typing.get_origin(hint) is dict:
        _, value = typing.get_args(hint)
        further = schema["additionalProperties"]
        parts = {**schema.get("properties", {}), **({"*": further} if further else {})}
        for key, part in parts.items():
            yield from differences(value, part, definitions, f"{where}.{key}")
    else:
        yield from _of_plain(hint, schema, where)


def _of_objects(hint, schema, definitions, where):
    if schema.get("type") != "object":
        yield f"{where}: no object in the schema"
        return
    fields = typing.get_type_hints(hint)
    # Without NotRequired in front of them
    for name, keys, wanted in (
        ("keys", set(fields), set(schema["properties"])),
        ("required keys", set(hint.__required_keys__), set(schema["required"])),
    ):
        if keys != wanted:
            yield f"{where}: {name} {sorted(keys ^ wanted)} are in one of them only"
    for key in set(fields) & set(schema["properties"]):
        part = schema["properties"][key]
        yield from differences(fields[key], part, definitions, f"{where}.{key}")


def _of_plain(hint, schema, where):
    if hint is type(None):
        found = schema.get("type") == "null"
    elif typing.get_origin(hint) is typing.Literal:
        (value,) = typing.get_args(hint)
        found = schema.get("const") is value
    elif "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        found = all(type(value) is hint for value in values)
    else:
        # A count is a number, too: limits of budgets are of both kinds
        names = {PLAIN[hint]} | ({"integer"} if hint is float else set())
        found = schema.get("type") in names
    if not found:
        yield f"{where}: {hint} is {schema}"


def all_differences(hint, schema):
    return list(differences(hint, schema, schema["$defs"]))


def test_the_record_is_the_schema():
    assert not all_differences(Report, schema_of())


def changed(change):
    schema = copy.deepcopy(schema_of())
    change(schema)
    return schema


CHANGES = {
    "another key": (
        lambda schema: schema["properties"].update(further={"type": "string"}),
        "report: keys ['further']",
    ),
    "a key that is not required": (
        lambda schema: schema["properties"]["control"]["required"].remove("curve"),
        "report.control: required keys ['curve']",
    ),
    "a key less in a trial": (
        lambda schema: schema["$defs"]["trial"]["properties"].pop("seed"),
        "report.search.trials[]: keys ['seed']",
    ),
    "another type in an export": (
        lambda schema: schema["$defs"]["export"]["properties"].update(
            size_bytes={"type": "string"}
        ),
        "report.exports[].size_bytes: <class 'int'>",
    ),
    "never null": (
        lambda schema: schema["$defs"]["export"]["properties"].update(
            arena_bytes={"type": "integer"}
        ),
        "report.exports[].arena_bytes: 2 options",
    ),
    "a budget of text": (
        lambda schema: schema["properties"]["budgets"]["properties"]["max_macs"][
            "properties"
        ].update(limit={"type": "string"}),
        "report.budgets.max_macs.limit: <class 'float'>",
    ),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_a_schema_that_drifts_is_found(change, told):
    assert any(told in found for found in all_differences(Report, changed(change)))


def test_names_are_those_of_the_schema():
    schema = schema_of()
    assert set(schema["properties"]["budgets"]["properties"]) == {
        field.name for field in dataclasses.fields(Budgets)
    }
    tried, failed = schema["$defs"]["export"]["properties"]["attempts"]["items"][
        "anyOf"
    ]
    for attempt in (tried, failed):
        assert attempt["properties"]["method"]["enum"] == list(INT8_METHODS)


def test_a_trial_is_a_row_of_the_report():
    assert typing.get_type_hints(Trial) == typing.get_type_hints(TrialRow)


def test_reports_made_by_hand_have_every_key():
    report = with_refinement(make_report())
    assert set(report) == set(Report.__annotations__)
    assert set(report["classes"][0]) == set(ClassResult.__annotations__)
