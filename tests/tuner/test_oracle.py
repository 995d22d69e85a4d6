"""The search on made-up accuracy curves: no training."""

import copy
import json
import pathlib

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.durable import Status
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
    error = keras_tuner.errors.FatalRuntimeError
    with pytest.raises(error, match="expected finite metrics"):
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


def oracle_in(directory, num_candidates, num_workers=1):
    """Within 0.1 of the floor no execution decides alone."""
    oracle = SmallestFeasibleOracle(
        num_candidates, 0.5, margin=0.1, max_executions=3, num_workers=num_workers
    )
    oracle.verbose = 0
    oracle._set_project_dir(str(directory), "search")
    return oracle


def end(oracle, trial, accuracy):
    oracle.update_trial(trial.trial_id, {"val_accuracy": accuracy})
    trial.status = Status.COMPLETED
    oracle.end_trial(trial)


def test_each_execution_is_a_trial_of_its_own(tmp_path):
    oracle = oracle_in(tmp_path, 1)
    for execution, accuracy in enumerate([0.49, 0.52, 0.51]):
        trial = oracle.create_trial("worker")
        assert trial.hyperparameters.values == {"candidate": 0, "execution": execution}
        end(oracle, trial, accuracy)
    assert oracle.create_trial("worker").status == Status.STOPPED
    assert oracle.scores() == {0: [0.49, 0.52, 0.51]}
    assert len(oracle.trials) == 3
    assert oracle.smallest_feasible() == 0


def test_executions_at_the_same_time_have_seeds_of_their_own(tmp_path):
    oracle = oracle_in(tmp_path, 1, num_workers=2)
    end(oracle, oracle.create_trial("a"), 0.49)
    trials = [oracle.create_trial(tuner_id) for tuner_id in ("a", "b")]
    assert [t.hyperparameters.values["execution"] for t in trials] == [1, 2]


def test_a_worker_idles_while_anything_runs(tmp_path):
    oracle = oracle_in(tmp_path, 1, num_workers=2)
    trial = oracle.create_trial("a")
    assert oracle.populate_space("1")["status"] == Status.IDLE
    assert oracle.create_trial("b").status == Status.IDLE
    end(oracle, trial, 0.9)
    assert oracle.create_trial("b").status == Status.STOPPED
    assert list(oracle.trials) == [trial.trial_id]


def test_the_trial_of_a_lost_worker_is_given_out_again_first(tmp_path):
    oracle = oracle_in(tmp_path, 20, num_workers=2)
    lost, other = oracle.create_trial("a"), oracle.create_trial("b")
    oracle.update_trial(lost.trial_id, {"val_accuracy": 0.1})
    assert oracle.lose_worker("a") == lost.trial_id
    assert oracle.lose_worker("a") is None
    end(oracle, other, 0.9)
    again = oracle.create_trial("b")
    assert again.trial_id == lost.trial_id
    assert again.hyperparameters.values == lost.hyperparameters.values
    assert oracle.create_trial("c").trial_id not in (lost.trial_id, other.trial_id)
    # What the lost worker reported is not averaged into it
    end(oracle, again, 0.7)
    assert oracle.scores()[lost.hyperparameters.values["candidate"]] == [0.7]


@pytest.mark.parametrize("given_out_again", [False, True])
def test_of_two_ends_of_a_trial_the_first_counts(tmp_path, given_out_again):
    oracle = oracle_in(tmp_path, 20)
    late = copy.deepcopy(oracle.create_trial("a"))
    oracle.lose_worker("a")
    if given_out_again:
        again = copy.deepcopy(oracle.create_trial("b"))
    end(oracle, late, 0.7)
    if given_out_again:
        end(oracle, again, 0.2)
    candidate = late.hyperparameters.values["candidate"]
    assert oracle.scores() == {candidate: [0.7]}
    assert oracle.end_order == [late.trial_id]
    following = oracle.create_trial("b")
    assert following.trial_id != late.trial_id
    assert following.hyperparameters.values["candidate"] < candidate


def test_a_failed_trial_is_no_score_and_stops_the_search(tmp_path):
    oracle = oracle_in(tmp_path, 20)
    trial = oracle.create_trial("worker")
    trial.status, trial.message = Status.FAILED, "out of memory"
    with pytest.raises(RuntimeError, match="out of memory"):
        oracle.end_trial(trial)
    assert oracle.scores() == {}


def test_executions_survive_the_process(tmp_path):
    oracle = oracle_in(tmp_path, 1)
    end(oracle, oracle.create_trial("worker"), 0.49)
    running = oracle.create_trial("worker")
    again = oracle_in(tmp_path, 1)
    again.reload()
    trial = again.create_trial("worker")
    assert trial.trial_id == running.trial_id
    assert trial.hyperparameters.values["execution"] == 1
    end(again, trial, 0.52)
    assert again.scores() == {0: [0.49, 0.52]}


def test_no_executions_are_refused():
    with pytest.raises(ValueError, match="at least one execution"):
        SmallestFeasibleOracle(5, 0.5, max_executions=0)
