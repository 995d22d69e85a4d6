"""Signs of life of workers: heard, missed, taken along."""

import pytest

from tuner import heartbeat
from tuner.heartbeat import Listener, beating


def test_a_worker_that_leaves_is_missed_at_once_and_once(tmp_path):
    listener = Listener(tmp_path)
    with beating(tmp_path, "stays"):
        with beating(tmp_path, "leaves"):
            assert listener.lost_workers() == []
        assert listener.lost_workers() == ["leaves"]
        assert listener.lost_workers() == []


def test_a_worker_that_falls_silent_is_missed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 60.0)
    listener = Listener(tmp_path, patience_seconds=0.0)
    with beating(tmp_path, "hangs"):
        assert listener.lost_workers() == []
        assert listener.lost_workers() == ["hangs"]
        assert listener.lost_workers() == []


def test_who_cannot_be_heard_does_not_begin(tmp_path):
    with pytest.raises(OSError):
        with beating(tmp_path, "no/such/folder"):
            raise AssertionError("it began")
