"""The command line: a run that goes on, or is drawn anew."""

import json
import shutil

import check_report
import pytest
from digits import PRESET_COST, SMALL

from tskd_tf.export import litert

DISTILLED = (*SMALL, "--mode=distill", "--rate=0.3", "--exports=keras")


@pytest.mark.long
def test_budgets_with_a_loss_allowed_and_resumed(run, tmp_path, monkeypatch):
    given = (*PRESET_COST, "--classes=4,9", "--exports=keras", "--rate_step=0.05")
    given += ("--epochs=1", "--max_accuracy_loss=0", "--max_latency_us=1000000")
    # LeNet 1-3-25-10, which one epoch leaves behind its teacher
    status, out, _ = run(*given, "--max_params=1589")
    report = check_report.check(tmp_path / "run")
    assert status == 3 and "contradict each other" in out
    assert [trial["rate"] for trial in report["search"]["trials"]] == [0.05]
    assert report["budgets"]["max_params"] == {"limit": 1589, "student": 1589}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Budgets</h2>" in page and "contradict each other" in page
    status, _, err = run(*given, "--max_params=1590", "--resume")
    assert status == 2 and "--max_params was 1589, is 1590" in err
    # The latency that was measured is kept: noise changes no candidate on the way
    monkeypatch.setattr(litert, "litert_latency_us", None)
    status, *_ = run(*given, "--max_params=1589", "--resume")
    again = json.loads((tmp_path / "run" / "report.json").read_text())
    assert status == 3 and again["budgets"] == report["budgets"]


def test_teacher_mode_then_a_search_with_that_teacher(run, tmp_path):
    status, out, _ = run(*SMALL, "--mode=teacher")
    assert status == 0 and "1000 test images" in out
    stamp = (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns
    status, *_ = run(*DISTILLED, "--resume")
    assert status in (0, 3)
    assert (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns == stamp
    # Its curve was kept beside it
    report = check_report.check(tmp_path / "run")
    assert len(report["teacher"]["curve"]["loss"]) == 2


def test_a_teacher_of_an_earlier_version_is_one_without_a_curve(run, tmp_path):
    run(*SMALL, "--mode=teacher")
    path = tmp_path / "run" / "search" / "teacher.json"
    note = json.loads(path.read_text())
    assert len(note.pop("curve")["validation_accuracy"]) == 2
    path.write_text(json.dumps(note))
    status, *_ = run(*SMALL, "--mode=teacher", "--resume")
    assert status == 0
    for damage in ({}, [], {**note, "data": "other"}):
        path.write_text(json.dumps(damage))
        status, _, err = run(*SMALL, "--mode=teacher", "--resume")
        assert status == 2 and "a teacher of others" in err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Where the first test that asks for a finished run leaves it for the others."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def distilled(run, tmp_path, finished):
    """The flags of a finished run of two classes, in a folder of its own."""
    # A run continues only with its own data
    given = (*DISTILLED, f"--data_dir={finished}/d")
    if not (finished / "run").exists():
        run(*given, "--classes=0,1")
        shutil.copytree(tmp_path / "run", finished / "run")
    else:
        shutil.copytree(finished / "run", tmp_path / "run")
    return given


def test_report_mode_draws_a_run_anew(run, tmp_path, distilled):
    page = tmp_path / "run" / "report.html"
    before = page.read_text()
    page.unlink()
    evidence = (tmp_path / "run" / "report.json").read_bytes()
    (summary,) = (tmp_path / "run" / "tensorboard" / "5_report").iterdir()
    summary.unlink()
    status, out, _ = run("--mode=report")
    assert status in (0, 3) and "Student: rate 0.3" in out
    assert len(list(summary.parent.iterdir())) == 1
    assert len(page.read_text()) == len(before)
    assert (tmp_path / "run" / "report.json").read_bytes() == evidence
    status, _, err = run("--mode=report", output="nowhere")
    assert status == 2 and "report.json" in err


def test_a_run_killed_before_its_first_file_can_be_resumed(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.123.json").write_text("{")
    status, *_ = run(*SMALL, "--mode=teacher")
    assert status == 2
    status, *_ = run(*SMALL, "--mode=teacher", "--resume")
    assert status == 0 and not list(folder.glob(".*"))


def test_resuming_with_other_settings_is_refused(run, tmp_path, distilled):
    before = (tmp_path / "run" / "report.json").read_text()
    again = (*distilled, "--resume")
    status, _, err = run(*again, "--classes=0,2")
    assert status == 2 and "--classes was ['0', '1'], is ['0', '2']" in err
    assert (tmp_path / "run" / "report.json").read_text() == before
    # A run of an earlier version knew fewer flags
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    del settings["solver"]
    path.write_text(json.dumps(settings))
    status, *_ = run(*again, "--classes=0,1")
    assert status in (0, 3)
    check_report.check(tmp_path / "run")
