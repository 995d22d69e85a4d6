"""Reports against the JSON Schemas that ship with the package."""

import importlib.resources
import json

from jsonschema import Draft202012Validator

VERSION = 2


def schema_of(version=VERSION):
    folder = importlib.resources.files("tskd_tf.report")
    return json.loads((folder / f"report_schema_{version}.json").read_text("utf-8"))


def check_schema(report):
    """Raises AssertionError, which says where, if it is not as its version says."""
    assert "schema_version" in report, "no schema_version"
    validator = Draft202012Validator(schema_of(report["schema_version"]))
    errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(report)]
    assert not errors, "\n".join(errors)
