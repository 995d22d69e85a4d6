"""The search on made-up accuracy curves: no training."""

import json
import pathlib

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.oracle import SmallestFeasibleOracle
from tuner.student_tuner import StudentTuner


def search(curve, floor, directory, tried=None):
    oracle = SmallestFeasibleOracle(len(curve), floor)

    def train_candidate(attempt, trial_dir):
        if tried is not None:
            tried.append(attempt.candidate)
        return {"val_accuracy": curve[attempt.candidate]}

    tuner = StudentTuner(oracle, train_candidate, str(directory), "search")
    tuner.search()
    return tuner


@settings(deadline=None, max_examples=60)
@given(
    curve=st.lists(st.floats(0, 1), min_size=1, max_size=40).map(sorted),
    floor=st.floats(0, 1),
)
def test_exact_answer_on_every_rising_curve(curve, floor, tmp_path_factory):
    tried = []
    tuner = search(curve, floor, tmp_path_factory.mktemp("search"), tried)
    feasible = [i for i, accuracy in enumerate(curve) if accuracy >= floor]
    assert tuner.oracle.smallest_feasible() == (feasible[0] if feasible else None)
    # Bisection of n candidates decides among n + 1 answers
    assert len(tried) <= len(curve).bit_length()
    assert len(set(tried)) == len(tried)


def test_the_floor_itself_is_feasible(tmp_path):
    assert search([0.1, 0.5, 0.9], 0.5, tmp_path).oracle.smallest_feasible() == 1


def test_nothing_feasible_is_said_after_the_dearest_was_tried(tmp_path):
    tried = []
    tuner = search([0.1, 0.2, 0.3], 0.5, tmp_path, tried)
    assert tuner.oracle.smallest_feasible() is None
    assert 2 in tried
    statuses = {trial.status for trial in tuner.oracle.trials.values()}
    assert statuses == {"COMPLETED"}


def test_an_error_in_a_trial_stops_the_search_at_once(tmp_path):
    tried = []

    def train_candidate(attempt, trial_dir):
        tried.append(attempt.candidate)
        raise ZeroDivisionError("a defect of ours")

    oracle = SmallestFeasibleOracle(20, 0.5)
    tuner = StudentTuner(oracle, train_candidate, str(tmp_path), "search")
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match="a defect of ours"):
        tuner.search()
    assert len(tried) == 1


def test_a_score_that_is_not_a_number_stops_the_search(tmp_path):
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match="no score"):
        search([float("nan")] * 5, 0.5, tmp_path)


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="at least one candidate"):
        SmallestFeasibleOracle(0, 0.5)


@pytest.mark.parametrize("interrupted_trial", [1, 2, 3])
def test_an_interrupted_search_goes_on(tmp_path, interrupted_trial):
    curve = [i / 20 for i in range(20)]
    undisturbed = []
    search(curve, 0.33, tmp_path / "undisturbed", undisturbed)
    tried = []

    def train_candidate(attempt, trial_dir):
        if len(tried) + 1 == interrupted_trial:
            raise KeyboardInterrupt
        tried.append(attempt.candidate)
        return {"val_accuracy": curve[attempt.candidate]}

    oracle = SmallestFeasibleOracle(20, 0.33)
    tuner = StudentTuner(oracle, train_candidate, str(tmp_path), "search")
    with pytest.raises(KeyboardInterrupt):
        tuner.search()
    tuner = search(curve, 0.33, tmp_path, tried)
    assert tried == undisturbed
    assert tuner.oracle.smallest_feasible() == 7


def test_a_finished_search_is_not_run_again(tmp_path):
    curve = [0.1, 0.6, 0.9]
    first = search(curve, 0.5, tmp_path)
    tried = []
    again = search(curve, 0.5, tmp_path, tried)
    assert tried == []
    assert again.oracle.smallest_feasible() == first.oracle.smallest_feasible() == 1
    last = again.oracle.end_order[-1]
    trial_dir = pathlib.Path(again.get_trial_dir(last))
    state = json.loads((trial_dir / "trial.json").read_text())
    assert state["score"] == curve[state["hyperparameters"]["values"]["candidate"]]
