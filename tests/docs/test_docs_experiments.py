"""The tables in docs/experiments are those of the counts beside them."""

import importlib
import json
import pathlib

import pytest

from tskd_tf.sweep.students import DISTILLED, HARD_LABELS
from tskd_tf.sweep.tables import as_csv, as_markdown, in_points, summarise_cells

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "experiments"
# Points that the paper's students of rate 0.1 lose
PAPER = {("mnist", 2): "0.05", ("mnist", 10): "0.48", ("cifar10", 10): "19.69"}
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


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_a_tenth_of_the_width_loses_is_recomputed_from_the_counts(folder):
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    dataset = sweep["data"]["source"].split()[1].split("/")[0]
    cells = {
        (cell.num_classes, cell.method): cell
        for cell in summarise_cells(sweep)
        if cell.rate == 0.1
    }
    label = f"{dataset}, {sweep['protocol']}"
    if sweep.get("scale_soft_loss"):
        label += ", τ²"
    rows = []
    for num_classes in (2, 10):
        if (num_classes, DISTILLED) not in cells:
            continue
        distilled = cells[num_classes, DISTILLED]
        teacher = distilled.accuracy.mean + distilled.accuracy_loss.mean
        rows.append(
            [
                f"[{label}]({folder.name}/sweep.md)",
                sweep["students"][0]["epochs"],
                num_classes,
                PAPER.get((dataset, num_classes), ""),
                f"{100 * teacher:.2f} %",
                in_points(distilled.accuracy_loss),
                in_points(cells[num_classes, HARD_LABELS].accuracy_loss),
            ]
        )
    assert rows
    check_told(rows, DOCS / "README.md")


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


@pytest.mark.parametrize(
    "name", ["searches.jsonl", "searches_one_core.jsonl", "workers.jsonl"]
)
def test_the_comparison_of_searches_is_recomputed_from_them(benchmark, name):
    search = benchmark("search")
    told = (DOCS / "search" / name).read_text(encoding="utf-8")
    searches = [json.loads(line) for line in told.splitlines()]
    pairs = dict.fromkeys((row["task"], row["contestant"]) for row in searches)
    rows = [
        search.table_row(search.summarise(searches, *pair, "ours"), "ours")
        for pair in pairs
    ]
    assert len(rows) == 3 * len({task for task, _ in pairs})
    check_told(rows, DOCS / "search.md")


def test_the_smallest_students_are_summarised_from_their_searches(benchmark):
    smallest = benchmark("smallest")
    text = (DOCS / "smaller" / "students.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    table = smallest.summarise(rows)
    assert {row["work"] for row in rows} <= set(smallest.WORKS) and len(table) > 3
    check_told(table, DOCS / "smaller.md")


def check_told(rows, page):
    """Each row stands in a table of the page."""
    told = page.read_text(encoding="utf-8")
    for row in rows:
        assert f"| {' | '.join(map(str, row))} |" in told


def test_there_are_experiments():
    assert FOLDERS
