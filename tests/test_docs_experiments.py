"""The tables in docs/experiments are those of the counts beside them."""

import importlib
import json
import pathlib

import pytest

from tskd_tf.sweep_tables import as_csv, as_markdown

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "experiments"
FOLDERS = sorted(path.parent for path in DOCS.glob("*/sweep.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_are_recomputed_from_the_counts(folder):
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert (folder / "sweep.md").read_text(encoding="utf-8") == as_markdown(sweep)
    assert (folder / "sweep.csv").read_text(encoding="utf-8") == as_csv(sweep)
    teacher = {row["num_classes"]: row for row in sweep["teacher"]["tasks"]}
    for student in sweep["students"]:
        num_test = teacher[student["num_classes"]]["num_test"]
        assert 0 <= student["num_right"] <= student["num_right_of_task"] <= num_test


def test_the_correlations_are_recomputed_from_the_students(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS.parents[1] / "benchmarks"))
    benchmark = importlib.import_module("task_complexity")
    records = benchmark.read([DOCS / "task_complexity" / "students.jsonl"])
    rows = benchmark.table(records, (0.7, 0.8, 0.9))
    told = (DOCS / "README.md").read_text(encoding="utf-8")
    assert len(rows) == 12
    for row in rows:
        assert f"| {' | '.join(row)} |" in told


def test_there_are_experiments():
    assert FOLDERS
