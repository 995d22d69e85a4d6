"""A search by several processes, with KerasTuner's chief: real workers on loopback."""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import types

import keras
import pytest
import worker_students
from conftest import NUM_CLASSES, make_data

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import capture
from tskd_tf.errors import InputError, WorkerError
from tskd_tf.search import preparation, prepared
from tskd_tf.search.builders import student_builders
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.plan import SearchPlan
from tskd_tf.search.smallest_student import find_smallest_student
from tskd_tf.search.trainer import Trainer
from tskd_tf.search.workers import crew, worker
from tskd_tf.search.workers.shared import (
    check_importable,
    importable_name,
    own_modules,
    share,
)
from tuner import chief
from tuner.oracle import SmallestFeasibleOracle
from tuner.student_tuner import StudentTuner

RECIPE = Recipe(epochs=4, batch_size=32, learning_rate=0.02)
RATES = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]


@pytest.fixture(scope="module")
def splits():
    return make_data(256, 1), make_data(128, 2), make_data(120, 3)


def find(teacher, splits, **settings):
    defaults = {"rates": RATES, "recipe": RECIPE, "verbose": 0}
    # Judged by one execution each, because workers may differ in which they repeat
    once = {"max_executions": 1, "max_accuracy_loss": 0.05}
    return find_smallest_student(teacher, *splits, **{**defaults, **once, **settings})


def answer(report):
    """What must not depend on who trained it."""
    names = ("teacher", "student", "control", "accuracy_loss", "meets_threshold")
    told = {name: report[name] for name in names}
    # Whose losses differ in the last digit by the number of threads
    curves = {name: {**told[name], "curve": None} for name in names[:3]}
    return {**told, **curves}


@pytest.mark.long
def test_workers_give_the_answer_of_one_process(trained_teacher, splits, tmp_path):
    settings = {"rates": RATES[1::2]}
    alone = find(trained_teacher, splits, **settings).report
    folder = tmp_path / "search"
    settings["directory"] = str(folder)
    together = find(trained_teacher, splits, **settings, num_workers=2).report
    assert answer(together) == answer(alone)
    trials = together["search"]["trials"]
    kept = list(folder.glob("trial_*/result.json"))
    assert len(kept) == len(trials)
    by_rate = {t["rate"]: t["accuracy"] for t in alone["search"]["trials"]}
    for trial in trials:
        if trial["rate"] in by_rate:
            assert trial["accuracy"] == by_rate[trial["rate"]]
    # The images are not left there twice
    assert not (folder / "shared").exists()
    # And the trials are not trained again
    again = find(trained_teacher, splits, **settings).report
    assert again == together


@pytest.mark.long
def test_workers_search_several_families(trained_teacher, splits, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate="auto")
    settings = {"rates": None, "families": ["compact", "thin"], "recipe": recipe}
    alone = find(trained_teacher, splits, **settings).report
    settings["directory"] = str(tmp_path / "search")
    together = find(trained_teacher, splits, **settings, num_workers=2).report
    assert together["search"]["trials"] and answer(together) == answer(alone)


@pytest.mark.long
def test_a_killed_worker_costs_its_trial_only(
    trained_teacher, splits, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv(worker_students.FOLDER, str(tmp_path))
    alone = find(
        trained_teacher, splits, rates=[0.5, 1.0], build_student=worker_students.thin
    )
    caplog.set_level("WARNING", "tskd_tf")
    together = find(
        trained_teacher,
        splits,
        rates=[0.5, 1.0],
        build_student=worker_students.killed_once,
        num_workers=2,
    )
    assert (tmp_path / "killed").exists()
    assert "was lost; trial 0000 is trained again" in caplog.text
    assert answer(together.report) == answer(alone.report)


def test_an_error_in_a_worker_ends_the_search_at_once(
    trained_teacher, splits, monkeypatch
):
    with pytest.raises(WorkerError, match="a defect in a worker"):
        find(
            trained_teacher,
            splits,
            build_student=worker_students.failing,
            num_workers=2,
        )


@pytest.mark.long
def test_what_a_worker_lacks_is_said(trained_teacher, splits, monkeypatch):
    monkeypatch.setattr(
        "tskd_tf.search.workers.shared.own_modules", lambda teacher: {"nix"}
    )
    with pytest.raises(WorkerError, match="status 2: error: Expected a module nix"):
        find(trained_teacher, splits, rates=[0.5, 1.0], num_workers=2)


@pytest.mark.long
def test_when_all_workers_are_killed_it_is_said(trained_teacher, splits, tmp_path):
    with pytest.raises(WorkerError, match="all workers were killed"):
        find(
            trained_teacher,
            splits,
            build_student=worker_students.always_killed,
            num_workers=2,
        )


@pytest.mark.long
def test_a_chief_of_kerastuner_and_workers_that_come_when_they_like(
    trained_teacher, splits, tmp_path, monkeypatch
):
    folder = tmp_path / "search"
    variables = {
        "KERASTUNER_TUNER_ID": "chief",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(_free_port()),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="directory that the chief shares"):
        find(trained_teacher, splits)
    early = _start_worker(folder, {**variables, "KERASTUNER_TUNER_ID": "early"})
    # Of another search, whose files are there, but sent to this one's chief
    stranger = _start_worker(
        _share_elsewhere(trained_teacher, splits, tmp_path / "elsewhere"),
        {**variables, "KERASTUNER_TUNER_ID": "early"},
        stderr=subprocess.PIPE,
    )
    try:
        report = find(trained_teacher, splits, directory=str(folder)).report
        assert early.wait(60) == 0
        told = stranger.communicate(timeout=120)[1].decode()
        assert stranger.returncode == 2 and "those of another search's" in told
    finally:
        early.kill()
        stranger.kill()
    monkeypatch.undo()
    assert answer(report) == answer(find(trained_teacher, splits).report)
    late = _start_worker(folder, {**variables, "KERASTUNER_TUNER_ID": "late"})
    assert late.wait(60) == 0


CHIEF = """
import sys
import keras
from conftest import NUM_CLASSES, make_data
from tskd_tf.search.smallest_student import find_smallest_student
from tskd_tf.distillation.recipe import Recipe

teacher = keras.saving.load_model(sys.argv[1])
find_smallest_student(
    teacher, make_data(256, 1), make_data(128, 2), make_data(120, 3),
    rates=[i / 8 for i in range(1, 9)], verbose=0, max_executions=1,
    recipe=Recipe(epochs=4, batch_size=32, learning_rate=0.02),
    max_accuracy_loss=0.05, directory=sys.argv[2], num_workers=2,
)
"""


@pytest.mark.long
def test_a_killed_chief_takes_its_workers_along_and_can_be_resumed(
    trained_teacher, splits, tmp_path
):
    path, folder = tmp_path / "teacher.keras", tmp_path / "search"
    trained_teacher.save(path)
    paths = [str(pathlib.Path(__file__).parents[1]), *filter(None, sys.path)]
    process = subprocess.Popen(
        [sys.executable, "-c", CHIEF, str(path), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    first = _wait_for(folder, "trial_*/result.json", process)
    process.kill()
    process.wait()
    trained = first.stat().st_mtime_ns
    _wait_until_silent(folder / "workers")
    report = find(trained_teacher, splits, directory=str(folder), num_workers=2).report
    assert answer(report) == answer(find(trained_teacher, splits).report)
    chosen = json.loads(first.read_text())["rate"] == report["student"]["rate"]
    assert chosen or first.stat().st_mtime_ns == trained


def test_an_address_that_is_taken_is_said(
    trained_teacher, splits, tmp_path, monkeypatch
):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(listener.getsockname()[1]))
        with pytest.raises(InputError, match="a free address of this machine"):
            find(trained_teacher, splits, directory=str(tmp_path / "search"))


def test_only_modules_that_the_teacher_is_made_of_are_wanted(trained_teacher):
    keras.saving.register_keras_serializable("elsewhere")(
        type("Other", (keras.layers.ReLU,), {"__module__": "nowhere"})
    )
    assert own_modules(trained_teacher) == set()
    own = keras.saving.register_keras_serializable("mine")(
        type("Own", (keras.layers.ReLU,), {"__module__": "somewhere"})
    )
    inner = keras.Sequential([keras.Input((8, 8, 1)), own()])
    assert own_modules(keras.Sequential([inner])) == {"somewhere"}


def test_builders_that_no_worker_can_import_are_refused(trained_teacher, splits):
    with pytest.raises(InputError, match="that worker processes can import"):
        find(trained_teacher, splits, build_student=lambda rate: None, num_workers=2)
    assert importable_name(worker_students.thin) == "worker_students:thin"


def test_layers_that_no_worker_can_import_are_refused(teacher):
    check_importable(teacher, None)
    own = type("Own", (keras.layers.ReLU,), {"__module__": "__main__"})
    model = keras.Sequential([keras.Input((4,)), own(name="mine")])
    with pytest.raises(InputError, match="a layer of the script that runs"):
        check_importable(model, None)


def test_a_search_that_was_over_starts_no_worker(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "over").touch()
    # Without a trainer and a tuner nothing else could be done
    crew.search_with_workers(None, None, tmp_path, None)
    assert not (tmp_path / "shared").exists()


def test_a_search_without_workers_needs_none_to_go_on(
    trained_teacher, splits, tmp_path, monkeypatch
):
    folder = tmp_path / "search"
    settings = {"rates": RATES[:3], "directory": str(folder)}
    report = find(trained_teacher, splits, **settings).report
    # Ended while the control was trained
    (path,) = folder.glob("control_rate_*.keras")
    path.unlink()
    monkeypatch.setattr(crew.LocalWorkers, "start", None)
    again = find(trained_teacher, splits, **settings, num_workers=2).report
    assert answer(again) == answer(report)


def test_a_record_that_is_seen_late_or_never(tmp_path, monkeypatch):
    folder, shown = tmp_path / "trial_0000", []
    folder.mkdir()
    tuner = types.SimpleNamespace(
        oracle=types.SimpleNamespace(end_order=["0000"]),
        get_trial_dir=lambda trial_id: str(tmp_path / f"trial_{trial_id}"),
    )
    trainer = types.SimpleNamespace(show_result=shown.append)
    with monkeypatch.context() as patches:
        patches.setattr(crew, "_RECORD_SECONDS", 0.0)
        with pytest.raises(WorkerError, match="trained trial_0000, but there is no"):
            crew._show_results(trainer, tuner, set())
    # As if another machine's file came into sight
    appear = (folder / "result.json").touch
    monkeypatch.setattr(crew.time, "sleep", lambda seconds: appear())
    crew._show_results(trainer, tuner, set())
    assert shown == [folder]


def test_a_single_student_is_trained_without_workers(
    trained_teacher, splits, tmp_path, monkeypatch
):
    # As an interrupted search by workers leaves it
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(prepared, "search_with_workers", None)
    settings = {"rates": [0.25], "directory": str(tmp_path), "num_workers": 2}
    assert find(trained_teacher, splits, **settings).report["student"]["rate"] == 0.25
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize(
    "variables,address",
    [
        ({"ORACLE_IP": "10.0.0.1", "ORACLE_PORT": "8000"}, "127.0.0.1:0"),
        ({"TUNER_ID": "chief", "ORACLE_IP": "::", "ORACLE_PORT": "8000"}, ":::8000"),
        ({"TUNER_ID": "chief", "ORACLE_IP": "::"}, "no KERASTUNER_ORACLE_PORT"),
    ],
)
def test_only_a_chief_listens_where_kerastuner_says(monkeypatch, variables, address):
    for name, value in variables.items():
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    try:
        assert chief.address() == address
    except chief.AddressError as error:
        assert str(error) == address


@pytest.mark.parametrize("port", ["none", "70000", "0"])
def test_a_port_that_there_is_not_is_told_at_once(teacher, monkeypatch, port):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", port)
    with pytest.raises(InputError, match=f"free address.* 127.0.0.1:{port}"):
        preparation.is_by_others("folder", teacher, None, 1)


@pytest.fixture
def as_worker(monkeypatch):
    """Gives this process the environment of a worker of that name."""

    def set_variables(name):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")

    return set_variables


def test_a_worker_that_cannot_write_says_so(tmp_path, as_worker):
    as_worker("worker0")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "plan.json").touch()
    (tmp_path / "workers").touch()
    with pytest.raises(InputError, match="this worker can also write to"):
        worker.run(tmp_path)


# Lost ones are known again by their names, which are those of files
@pytest.mark.parametrize("name", ["", "a/b", ".hidden", ".."])
def test_a_worker_without_a_name_for_files_is_refused(tmp_path, as_worker, name):
    as_worker(name)
    with pytest.raises(InputError, match="KERASTUNER_TUNER_ID to name this worker"):
        worker.run(tmp_path)


def test_a_worker_that_nobody_answers_ends_no_search(
    trained_teacher, splits, tmp_path, as_worker, monkeypatch, caplog
):
    as_worker("lonely")
    folder = _share_elsewhere(trained_teacher, splits, tmp_path / "search")
    monkeypatch.setattr("keras_tuner.src.distribute.oracle_client.TIMEOUT", 1)
    with pytest.raises(InputError, match="127.0.0.1:1, where nobody answers"):
        worker.run(folder)
    assert "lonely: nobody answers at 127.0.0.1:1; it waits" in caplog.text
    assert [path.name for path in (folder / "workers").iterdir()] == ["lonely.refused"]


def test_the_name_of_a_worker_overwrites_no_file(tmp_path, as_worker):
    as_worker("settings")
    (tmp_path / "settings.json").write_text("[1]")
    StudentTuner(SmallestFeasibleOracle(3, 0.5), None, str(tmp_path), ".").save()
    assert (tmp_path / "settings.json").read_text() == "[1]"


def test_a_worker_whose_search_ends_while_it_reads_leaves(
    tmp_path, as_worker, monkeypatch
):
    as_worker("late")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "plan.json").touch()

    def end_the_search(folder):
        (folder / "over").touch()
        raise FileNotFoundError(folder / "shared" / "plan.json")

    monkeypatch.setattr("tskd_tf.search.workers.shared.load_shared", end_the_search)
    assert worker.run(tmp_path) == 0
    assert list((tmp_path / "workers").iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--help"], ["folder", "2"]])
def test_what_is_no_folder_of_a_search_is_answered_by_the_usage(
    arguments, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["worker", *arguments])
    assert worker.main() == 2
    assert capsys.readouterr().err == "usage: python -m tskd_tf.worker FOLDER\n"


def test_a_worker_needs_the_environment_of_one(tmp_path, monkeypatch, trained_teacher):
    done = subprocess.run(
        [sys.executable, "-m", "tskd_tf.worker", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "KERASTUNER_ORACLE_PORT" in done.stderr
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    with pytest.raises(InputError, match="python -m tskd_tf.worker DIRECTORY"):
        find(trained_teacher, (make_data(),) * 3)


def _start_worker(folder, variables, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "tskd_tf.worker", str(folder)],
        env={**os.environ, **variables},
        **settings,
    )


def _share_elsewhere(teacher, splits, folder):
    """The folder of a search that waits for its workers."""
    task = Task(range(NUM_CLASSES), NUM_CLASSES)
    transfer = capture(teacher, *splits[0], task)
    candidates = [Candidate("thin", rate) for rate in RATES]
    builders = student_builders(teacher, transfer, task, RECIPE, candidates)
    plan = SearchPlan(candidates, 0.9)
    trainer = Trainer(
        teacher, transfer, Split(*splits[1]), task, RECIPE, plan, None, 0, builders
    )
    folder.mkdir()
    share(trainer, None, folder)
    return folder


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(folder, pattern, process):
    for _ in range(1200):
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError(f"no {pattern}")


def _wait_until_silent(workers):
    """Until no worker gives a sign of life any more."""
    for _ in range(30):
        before = [path.stat().st_mtime_ns for path in workers.glob("*.alive")]
        time.sleep(3)
        if before == [path.stat().st_mtime_ns for path in workers.glob("*.alive")]:
            return
    raise AssertionError("workers outlive their chief")
