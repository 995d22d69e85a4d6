"""Files of a search: cut off between any two, damaged, or without room on the disk."""

import errno
import json
import pathlib
import resource
import types

import pytest
from conftest import make_data

from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError, full_disk
from tskd_tf.search import trainer
from tskd_tf.search.plan import ORACLES, SearchPlan
from tskd_tf.search.smallest_student import find_smallest_student
from tskd_tf.search.trials import build_tuner
from tuner import durable
from tuner.engines import BARGAIN, bargain_score

ACCURACIES = [0.5, 0.58, 0.62, 0.8, 0.9]
NUM_CANDIDATES = len(ACCURACIES)
FLOOR = 0.6


class Killed(BaseException):
    """What no one catches, as SIGKILL."""


class Search:
    """A search of made-up students that are kept as real ones are.

    Args:
        folder: Of the search.
        oracle: One of `ORACLES`.
    """

    def __init__(self, folder, oracle="smallest"):
        self.folder = folder
        self.oracle = oracle
        self.trained = []

    def train(self, attempt, trial_dir):
        path = pathlib.Path(trial_dir) / "result.json"
        if not path.exists():
            self.trained.append((pathlib.Path(trial_dir).name, *attempt))
            durable.write_state(path, ACCURACIES[attempt.candidate])
        accuracy = json.loads(path.read_text())
        score = bargain_score(attempt.candidate, accuracy, FLOOR, NUM_CANDIDATES)
        return {"val_accuracy": accuracy, BARGAIN: score}

    def tuner(self):
        plan = SearchPlan(
            list(range(NUM_CANDIDATES)), FLOOR, self.oracle, max_executions=3
        )
        # 0.58 and 0.62 are close to the floor, and executed again
        trainer = types.SimpleNamespace(
            oracle=lambda: plan.build_oracle(0.06, seed=1, max_epochs=4),
            trial=self.train,
        )
        return build_tuner(trainer, self.folder)

    def run(self):
        tuner = self.tuner()
        tuner.search()
        return [
            (trial_id, tuner.oracle.trials[trial_id].hyperparameters.values)
            for trial_id in tuner.oracle.end_order
        ]


def kill_after(monkeypatch, num_files):
    """Ends the search when it has written so many files, of whatever kind."""
    replace, count = durable.os.replace, iter(range(1, 10_000))

    def replace_and_die(*paths):
        replace(*paths)
        if next(count) == num_files:
            raise Killed

    monkeypatch.setattr(durable.os, "replace", replace_and_die)


# Bayesian optimisation takes half a second a trial; test_engines.py interrupts it
@pytest.mark.parametrize("oracle", sorted(set(ORACLES) - {"bayesian"}))
def test_killed_between_any_two_files(oracle, tmp_path, monkeypatch):
    undisturbed = Search(tmp_path / "undisturbed", oracle)
    expected = undisturbed.run()
    assert len(expected) >= 5
    for num_files in range(1, 10_000):
        search = Search(tmp_path / str(num_files), oracle)
        with monkeypatch.context() as patches:
            kill_after(patches, num_files)
            try:
                search.run()
                break
            except Killed:
                pass
        assert search.run() == expected
        assert search.trained == undisturbed.trained
    # Begun, trained, reported, ended: a trial leaves eight files, one after the other
    assert num_files > 8 * len(expected)


def test_a_tuner_file_that_was_not_written(tmp_path, monkeypatch):
    search = Search(tmp_path / "search")
    with monkeypatch.context() as patches:
        kill_after(patches, 15)
        with pytest.raises(Killed):
            search.run()
    (tmp_path / "search" / "tuner0.json").unlink()
    undisturbed = Search(tmp_path / "undisturbed")
    assert search.run() == undisturbed.run()
    assert search.trained == undisturbed.trained


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DAMAGES = {
    "empty": lambda text: "",
    "torn": lambda text: text[: len(text) // 2],
    "zeros": lambda text: "\0" * len(text),
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "without its keys": lambda text: "{}",
    "other keys": lambda text: '{"trials": [1]}',
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["oracle.json", "trial_0000/trial.json"])
def test_damaged_files_are_told_and_left(name, damage, tmp_path):
    search = Search(tmp_path / "search")
    search.run()
    path = tmp_path / "search" / name
    path.write_text(DAMAGES[damage](path.read_text()))
    before = contents(tmp_path)
    with pytest.raises(InputError) as caught:
        search.run()
    assert str(tmp_path / "search") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_an_oracle_file_that_is_gone_is_told(tmp_path):
    search = Search(tmp_path / "search")
    search.run()
    (tmp_path / "search" / "oracle.json").unlink()
    with pytest.raises(InputError, match="damaged"):
        search.run()


def test_a_full_disk_leaves_old_files_whole(tmp_path, monkeypatch):
    undisturbed = Search(tmp_path / "undisturbed")
    expected = undisturbed.run()
    write_text, count = pathlib.Path.write_text, iter(range(10_000))
    search = Search(tmp_path / "search")

    def write_until_full(path, text, **settings):
        if next(count) < 18:
            return write_text(path, text, **settings)
        write_text(path, text[:10], **settings)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(pathlib.Path, "write_text", write_until_full)
        with pytest.raises(OSError, match=f"No space left.*{tmp_path}/search/"):
            search.run()
    left = contents(tmp_path / "search")
    assert {path.name for path in left} == {
        "oracle.json",
        "result.json",
        "trial.json",
        "tuner0.json",
    }
    for content in left.values():
        json.loads(content)
    assert search.run() == expected
    assert search.trained == undisturbed.trained


@pytest.fixture(scope="module")
def find(trained_teacher):
    splits = make_data(256, 1), make_data(128, 2), make_data(120, 3)

    def find_student(folder):
        found = find_smallest_student(
            trained_teacher,
            *splits,
            rates=[0.25, 1.0],
            # From random weights, the smaller student is not enough
            recipe=Recipe(
                epochs=2, batch_size=32, learning_rate=0.02, initialize="random"
            ),
            max_accuracy_loss=0.2,
            verbose=0,
            directory=str(folder),
        )
        search = found.report["search"]
        for timed in (search, *search["trials"]):
            del timed["seconds"]
        return found.report

    return find_student


@pytest.fixture(scope="module")
def undisturbed_report(find, tmp_path_factory):
    return find(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.long
def test_a_real_search_without_room(find, undisturbed_report, tmp_path):
    folder = tmp_path / "search"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for the smaller student, not for the other
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, old[1]))
    try:
        with pytest.raises(Exception) as caught:
            find(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    path = folder / "trial_0001" / "student.keras"
    assert full_disk(caught.value) == f"{path} (File too large)"
    left = contents(folder)
    assert not any(path.name.startswith(".") for path in left)
    for path, content in left.items():
        if path.suffix == ".json":
            json.loads(content)
    assert find(folder) == undisturbed_report


def test_torn_records_of_trials_are_told_before_training(find, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "train_student", None)
    for number, damage in enumerate(DAMAGES):
        path = tmp_path / str(number) / "trial_0000" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(DAMAGES[damage]('{"rate": 0.25}'))
        with pytest.raises(InputError, match=rf"{path}.*another folder"):
            find(tmp_path / str(number))
        assert path.read_text() == DAMAGES[damage]('{"rate": 0.25}')


def test_only_a_full_disk_is_one():
    chained = ValueError("the archive is open")
    chained.__context__ = OSError(errno.ENOSPC, "No space left on device", "here")
    assert full_disk(chained) == "here (No space left on device)"
    tensorflows = RuntimeError("{{node}} /runs/events.v2; No space left on device\n\tx")
    assert full_disk(tensorflows) == "/runs/events.v2 (No space left on device)"
    assert full_disk(OSError(errno.EACCES, "Permission denied")) is None
    loop = ValueError()
    loop.__cause__ = loop
    assert full_disk(loop) is None
