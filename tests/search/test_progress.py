"""Messages of a search while it runs, and TensorBoard's table of its trials."""

import io
import re

import keras
import pytest
import tensorflow as tf
from conftest import make_data
from tensorboard.plugins.hparams import metadata

from tskd_tf.distillation.recipe import Recipe
from tskd_tf.search.evidence import Trial
from tskd_tf.search.hparams import write_hparams
from tskd_tf.search.progress import (
    LiveLine,
    Workload,
    duration,
    format_accuracy,
    format_verdict,
    workload,
)
from tskd_tf.search.smallest_student import find_smallest_student

CURVE = {"validation_accuracy": [0.5, 0.9872], "loss": [0.7, 0.1]}
TRIAL = Trial("thin", 0.25, [5, 10], 203_250, 29_153, 0.9872, False, 4, 12.0, 1, CURVE)


def test_time_left_is_that_of_the_trials_and_what_follows():
    # 4 epochs in 12 s: two more trials as long, and two trainings of ten epochs
    assert workload([TRIAL], 2, 10, 2).seconds_left() == pytest.approx(3 * (8 + 20))
    assert workload([TRIAL], None, 10, 2).seconds_left() is None
    assert workload([], 5, 10, 2).seconds_left() is None
    assert workload([], 5, 10, 2).epochs_left == 70


def test_words():
    assert [duration(s) for s in (0.4, 99, 100, 5940, 9000)] == [
        *("0 s", "99 s", "2 min", "99 min", "2.5 h")
    ]
    assert format_accuracy(0.9872, 0.989) == "98.72 % of 98.90 % needed"
    assert format_accuracy(0.98996, 0.99) == "98.996 % of 99.000 % needed"
    assert format_accuracy(0.99, 0.99) == "99.00 % of 99.00 % needed"
    assert format_accuracy(0.5, -0.01) == format_accuracy(0.5, None) == "50.00 %"
    assert format_verdict(False, 4, 10) == "out of reach (epoch 4 of 10)"
    assert format_verdict(False, 10, 10) == "not feasible (epoch 10 of 10)"
    assert format_verdict(True, 4, 10) == "feasible (epoch 4 of 10)"
    assert format_verdict(None, 10, 10) == "epoch 10 of 10"


class Terminal(io.StringIO):
    """Of no known width."""

    def isatty(self):
        return True


def fit(stream, accuracies, error=None):
    head = ["trial 3", "rate 0.25", "203,250 MACs"]
    with LiveLine(head, 0.989, Workload(4, 12.0, 30.0), stream) as line:
        line.set_params({"epochs": 10})
        line.on_train_begin()
        for epoch, accuracy in enumerate(accuracies):
            line.on_epoch_end(epoch, {"val_accuracy": accuracy})
        if error is not None:
            raise error


def test_the_line_is_updated_in_place_and_wiped():
    terminal = Terminal()
    fit(terminal, [0.9, 0.9872])
    assert "\n" not in terminal.getvalue()
    *shown, wiped, end = terminal.getvalue().split("\r")
    assert shown[0].startswith("trial 3  rate 0.25  203,250 MACs  epoch 0/10  0 s")
    # In 80 columns the MACs are left out; 4 epochs in 12 s, and soon 6
    assert shown[2].rstrip() == (
        "trial 3  rate 0.25  epoch 2/10  98.72 % of 98.90 % needed  0 s, "
        "about 76 s left"
    )
    assert wiped == " " * len(shown[2].rstrip()) and end == ""
    assert max(map(len, shown)) < 80


def test_the_line_is_wiped_after_an_error_too():
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt):
        fit(terminal, [0.9], KeyboardInterrupt())
    assert re.search(r"left\r +\r$", terminal.getvalue())


def test_where_no_terminal_is_nothing_is_live():
    stream = io.StringIO()
    fit(stream, [0.9, 0.9872])
    assert stream.getvalue() == ""


KINDS = {"family": "string_value", "feasible": "bool_value"}


def table(log_dir):
    """Run → what its row says, of every event file; no run twice."""
    rows = {}
    for path in sorted(log_dir.rglob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == metadata.SESSION_START_INFO_TAG:
                    content = value.metadata.plugin_data.content
                    info = metadata.parse_session_start_info_plugin_data(content)
                    run = path.parent.relative_to(log_dir).as_posix()
                    assert run not in rows
                    rows[run] = {
                        k: getattr(v, KINDS.get(k, "number_value"))
                        for k, v in info.hparams.items()
                    }
    return rows


COLUMNS = ("family", "rate", "num_macs", "seed", "epochs", "feasible", "accuracy")


def test_a_trial_written_again_has_one_row(tmp_path):
    write_hparams(tmp_path / "trial", "2_trial_0000", TRIAL, 10, 2_293_000)
    finished = TRIAL._replace(epochs=10, accuracy=0.99, feasible=True)
    write_hparams(tmp_path / "trial", "2_trial_0000", finished, 10, 2_293_000)
    expected = {name: getattr(finished, name) for name in COLUMNS}
    assert table(tmp_path) == {"trial": expected}


def test_a_search_tells_each_training_once(trained_teacher, tmp_path, capsys):
    splits = make_data(256, 1), make_data(128, 2), make_data(120, 3)

    def find():
        return find_smallest_student(
            trained_teacher,
            *splits,
            rates=[0.25, 0.5, 1.0],
            recipe=Recipe(epochs=4, batch_size=32, learning_rate=0.02),
            max_accuracy_loss=0.02,
            directory=str(tmp_path / "search"),
            log_dir=str(tmp_path / "logs"),
        ).report

    search = find()["search"]
    lines = capsys.readouterr().err.splitlines()
    for number, trial in enumerate(search["trials"], start=1):
        wanted = (
            rf"trial {number}( \(again\))?  rate {trial['rate']:g}  "
            rf"{trial['num_macs']:,} MACs  \d+\.\d+ % of \d+\.\d+ % needed  "
            rf"(not feasible|out of reach|feasible) \(epoch \d of 4\)  \d+ s"
        )
        assert sum(bool(re.match(wanted, line)) for line in lines) == 1, lines
    others = lines[len(search["trials"]) :]
    assert [line[:7] for line in others][-1] == "control" and len(others) <= 2
    assert "left" in lines[0] and "left" not in lines[-1]

    rows = {
        f"2_trial_{number:04d}_rate_{trial['rate']:g}": {
            name: {"family": "thin", **trial}[name] for name in COLUMNS
        }
        for number, trial in enumerate(search["trials"])
    }
    assert table(tmp_path / "logs") == rows
    keras.utils.clear_session()
    assert find()["search"] == search
    assert capsys.readouterr().err == ""
    assert table(tmp_path / "logs") == rows
