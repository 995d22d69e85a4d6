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


@pytest.fixture
def benchmark(monkeypatch):
    """Gives a benchmark, by its name."""
    monkeypatch.syspath_prepend(str(DOCS.parents[1] / "benchmarks"))
    return importlib.import_module


def test_the_correlations_are_recomputed_from_the_students(benchmark):
    task_complexity = benchmark("task_complexity")
    records = task_complexity.read([DOCS / "task_complexity" / "students.jsonl"])
    rows = task_complexity.table(records, (0.7, 0.8, 0.9))
    assert len(rows) == 12
    check_told(rows, DOCS / "README.md")


def test_the_comparison_of_methods_is_recomputed_from_the_students(benchmark):
    methods = benchmark("methods")
    records = methods.read([DOCS / "methods" / "students.jsonl"])
    rows = methods.table(records)
    assert len(rows) == 3 * len(methods.CONTESTANTS)
    check_told(rows, DOCS / "methods.md")


def check_told(rows, page):
    """Each row stands in a table of the page."""
    told = page.read_text(encoding="utf-8")
    for row in rows:
        assert f"| {' | '.join(map(str, row))} |" in told


def test_there_are_experiments():
    assert FOLDERS
