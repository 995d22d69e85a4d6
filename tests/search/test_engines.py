"""KerasTuner's own engines on made-up accuracy curves, and one real search of each."""

import dataclasses
import pathlib
import types

import keras_tuner
import pytest
from conftest import make_data
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.files import write_json
from tskd_tf.run.config import RunConfig
from tskd_tf.search import plan, trainer, trials
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.evidence import Trial
from tskd_tf.search.smallest_student import find_smallest_student
from tuner.engines import BARGAIN, ENGINES, bargain_score, build_engine
from tuner.oracle import CANDIDATE
from tuner.student_tuner import StudentTuner

# Bayesian optimisation fits a noiseless curve: its length scale runs to a bound
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FLOOR = 0.6
MAX_EPOCHS = 9


def search(name, num_candidates, folder, seed=1, interrupt_at=None):
    """Candidates and epochs as they were trained, and the tuner."""
    tried = []

    def train_candidate(attempt, trial_dir):
        if len(tried) == interrupt_at:
            raise KeyboardInterrupt
        tried.append((attempt.candidate, attempt.epochs))
        accuracy = (attempt.candidate + 1) / num_candidates
        accuracy *= 1 - 0.01 / (attempt.epochs or MAX_EPOCHS)
        score = bargain_score(attempt.candidate, accuracy, FLOOR, num_candidates)
        return {"val_accuracy": accuracy, BARGAIN: score}

    oracle = build_engine(name, num_candidates, seed, MAX_EPOCHS)
    tuner = StudentTuner(oracle, train_candidate, str(folder), "search")
    try:
        tuner.search()
    except KeyboardInterrupt:
        pass
    return tried, tuner


@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 49), st.floats(0, 1)), min_size=2, max_size=2
    ),
    floor=st.floats(-1, 1),
)
def test_the_largest_bargain_is_the_cheapest_feasible(pairs, floor):
    first, second = (bargain_score(*pair, floor, 50) for pair in pairs)
    (cheap, _), (dear, _) = pairs
    is_feasible = [accuracy >= floor for _, accuracy in pairs]
    if is_feasible == [True, False]:
        assert first > second
    elif all(is_feasible):
        assert (first > second) == (cheap < dear) and (first == second) == (
            cheap == dear
        )
    elif not any(is_feasible):
        assert [first, second] == [accuracy for _, accuracy in pairs]


@pytest.mark.parametrize("name", ENGINES)
def test_every_candidate_can_be_drawn_once_and_then_the_search_ends(name, tmp_path):
    tried, tuner = search(name, 7, tmp_path)
    first_round = [candidate for candidate, epochs in tried if epochs in (None, 1)]
    assert len(first_round) == len(set(first_round))
    # Hyperband's later brackets start with more epochs
    assert {candidate for candidate, _ in tried} == set(range(7))
    assert len(tried) == len(set(tried))
    # What is infeasible is a score like any other
    finished = tuner.oracle.trials.values()
    assert {trial.status for trial in finished} == {"COMPLETED"}
    scores = [trial.score for trial in finished]
    assert min(scores) < 1 < max(scores)
    (best,) = tuner.oracle.get_best_trials()
    # Four sevenths and less are below the floor
    assert best.hyperparameters.values[CANDIDATE] == 4


@pytest.mark.parametrize("name", ENGINES)
def test_seeds_from_0_on_give_the_same_search_each_time(name, tmp_path):
    searches = [
        search(name, 4, tmp_path / str(number), seed)[0]
        for number, seed in enumerate((0, 0, 1, 2**32 - 1))
    ]
    assert searches[0] == searches[1]
    assert (searches[0] == searches[2]) == (name == "grid")


@pytest.mark.parametrize("name", ENGINES)
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(name, tmp_path):
    # Bayesian optimisation takes a second from the fourth trial on
    num_candidates = 5 if name == "bayesian" else 8
    undisturbed, tuner = search(name, num_candidates, tmp_path / "undisturbed")
    moments = (2, 4) if name == "bayesian" else range(len(undisturbed))
    for interrupt_at in moments:
        folder = tmp_path / str(interrupt_at)
        before, _ = search(name, num_candidates, folder, interrupt_at=interrupt_at)
        after, resumed = search(name, num_candidates, folder)
        assert before + after == undisturbed
        assert resumed.oracle.end_order == tuner.oracle.end_order


@pytest.mark.parametrize("num_candidates", [1, 2, 4, 15, 22, 40])
def test_hyperband_trains_the_best_of_few_candidates_to_the_end(
    num_candidates, tmp_path
):
    tried, tuner = search("hyperband", num_candidates, tmp_path)
    (best,) = tuner.oracle.get_best_trials()
    assert (best.hyperparameters.values[CANDIDATE], MAX_EPOCHS) in tried


def test_an_engine_that_there_is_not():
    with pytest.raises(ValueError, match="grid, random, bayesian, hyperband"):
        build_engine("annealing", 5, 1, 1)


def test_the_flag_names_every_oracle(monkeypatch):
    (field,) = (f for f in dataclasses.fields(RunConfig) if f.name == "oracle")
    assert field.metadata["choices"] == (plan.SMALLEST, *ENGINES)
    assert RunConfig().max_executions == plan.DEFAULT_MAX_EXECUTIONS


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(plan, "missing_packages", lambda name: ["sklearn"])
    with pytest.raises(InputError, match=r"needs sklearn: pip.*tskd_tf\[bayesian\]"):
        plan.SearchPlan([], 0.0, "bayesian").check()


# What KerasTuner 1.4.8 does on its own; these tests fail when it does so no more


def space(values):
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice(CANDIDATE, values, ordered=True)
    return {
        "objective": keras_tuner.Objective(BARGAIN, "max"),
        "hyperparameters": hyperparameters,
        "seed": 1,
    }


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
    tried: list

    def run_trial(self, trial):
        if len(self.tried) == 3:
            raise KeyboardInterrupt
        self.tried.append(trial.hyperparameters.values[CANDIDATE])
        return {BARGAIN: float(self.tried[-1] == 1)}


def run_plain(oracle, folder):
    tuner = _Tuner(oracle, directory=str(folder), project_name="plain")
    tuner.tried = []
    try:
        tuner.search()
    except KeyboardInterrupt:
        pass
    return tuner.tried


def test_kerastuner_cannot_resume_a_grid(tmp_path):
    for _ in range(2):
        oracle = keras_tuner.oracles.GridSearchOracle(**space(list(range(9))))
        if not (tmp_path / "plain").exists():
            assert run_plain(oracle, tmp_path) == [0, 1, 2]
    with pytest.raises(KeyError):
        run_plain(oracle, tmp_path)


def test_kerastuner_never_draws_the_largest_of_a_range():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("rate", 0.1, 1.0, step=0.1)
    (rate,) = hyperparameters.space
    drawn = [rate.random_sample(seed) for seed in range(500)]
    assert max(drawn) == pytest.approx(0.9)


def test_kerastuner_takes_0_for_no_seed():
    oracles = [
        keras_tuner.oracles.RandomSearchOracle(**{**space([1, 2]), "seed": 0})
        for _ in range(5)
    ]
    assert len({oracle.seed for oracle in oracles}) > 1


def test_of_equally_good_trials_the_longest_is_chosen(tmp_path, monkeypatch):
    candidates = [Candidate("thin", rate) for rate in (0.5, 1.0)]
    searched = plan.SearchPlan(candidates, FLOOR, "hyperband")

    def train(attempt, trial_dir):
        candidate = searched.candidates[attempt.candidate]
        curve = {"validation_accuracy": [0.9], "loss": [0.1]}
        record = Trial(*candidate, [1], 1, 1, 0.9, True, attempt.epochs, 1.0, 1, curve)
        write_json(pathlib.Path(trial_dir) / "result.json", record._asdict())
        score = bargain_score(attempt.candidate, 0.9, FLOOR, 2)
        return {"val_accuracy": 0.9, BARGAIN: score}

    made_up = types.SimpleNamespace(
        plan=searched,
        oracle=lambda: searched.build_oracle(0.0, 1, MAX_EPOCHS),
        trial=train,
        finish=lambda record, folder: record,
    )
    monkeypatch.setattr(trials, "load_kept_model", lambda path: None)
    _, chosen, tried = trials.search_widths(made_up, tmp_path)
    assert {trial.epochs for trial in tried if trial.rate == 0.5} > {MAX_EPOCHS}
    assert (chosen.rate, chosen.epochs) == (0.5, MAX_EPOCHS)


# One real search of each


@pytest.fixture(scope="module")
def find(trained_teacher):
    splits = make_data(256, 1), make_data(128, 2), make_data(120, 3)

    def find_student(folder, **settings):
        return find_smallest_student(
            trained_teacher,
            *splits,
            rates=[0.25, 1.0],
            recipe=Recipe(epochs=3, batch_size=32, learning_rate=0.02),
            max_accuracy_loss=0.1,
            verbose=0,
            directory=str(folder),
            **settings,
        ).report

    return find_student


@pytest.fixture(scope="module")
def bisection(find, tmp_path_factory):
    """The folder of a search, and its report."""
    folder = tmp_path_factory.mktemp("bisection")
    return folder, find(folder)


def keys(value):
    """The keys of a report, and of all that it contains."""
    if isinstance(value, dict):
        return {key: keys(part) for key, part in value.items()}
    return keys(value[0]) if isinstance(value, list) and value else None


@pytest.mark.parametrize("name", ENGINES)
def test_a_real_search_and_its_report(name, find, bisection, tmp_path):
    report = find(tmp_path, oracle=name)
    assert keys(report) == keys(bisection[1])
    accuracies = {}
    for trial in report["search"]["trials"]:
        accuracies.setdefault(trial["rate"], []).append(trial["accuracy"])
    assert set(accuracies) == {0.25, 1.0}
    floor = report["search"]["validation_floor"]
    feasible = [rate for rate in accuracies if max(accuracies[rate]) >= floor]
    assert report["student"]["rate"] == min(feasible)
    # The student handed over was trained to the end
    chosen = [t for t in report["search"]["trials"] if t["rate"] == min(feasible)]
    assert 3 in [trial["epochs"] for trial in chosen]


def test_a_search_is_continued_by_its_own_oracle_only(find, bisection, monkeypatch):
    folder, report = bisection
    monkeypatch.setattr(trainer, "train_student", None)
    for settings in ({"oracle": "grid"}, {"max_executions": 7}):
        (name,) = settings
        with pytest.raises(InputError, match=f"other {name}"):
            find(folder, **settings)
    assert find(folder) == report
