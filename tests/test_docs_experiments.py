"""The tables in docs/experiments are those of the counts beside them."""

import json
import pathlib

import pytest

from tskd_tf.sweep_tables import as_csv, as_markdown

FOLDERS = sorted(
    path.parent
    for path in pathlib.Path(__file__).parents[1].glob("docs/experiments/*/sweep.json")
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_are_recomputed_from_the_counts(folder):
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert (folder / "sweep.md").read_text(encoding="utf-8") == as_markdown(sweep)
    assert (folder / "sweep.csv").read_text(encoding="utf-8") == as_csv(sweep)
    teacher = {row["num_classes"]: row for row in sweep["teacher"]["tasks"]}
    for student in sweep["students"]:
        num_test = teacher[student["num_classes"]]["num_test"]
        assert 0 <= student["num_right"] <= student["num_right_of_task"] <= num_test


def test_there_are_experiments():
    assert FOLDERS
