"""Oracles that survive a killed process and lost workers."""

import json
import os
import pathlib
from typing import Any

import keras_tuner

Status = keras_tuner.engine.trial.TrialStatus


def write_state(path: str | os.PathLike[str], state: Any) -> None:
    """Writes a JSON file completely or not at all, unlike KerasTuner.

    Raises:
        OSError: If the file cannot be written; the error names the file.
    """
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        temporary.write_text(json.dumps(state), encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        # The error of a failed write has no file name. An error without a number would
        # lose its message with one
        if error.errno is not None:
            error.filename = error.filename or str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


class Durable:
    """A mixin that adds durability to an oracle of KerasTuner; inherit from it first.

    KerasTuner writes each trial to its own file, and then the list of trials to another
    one. A process killed in between runs a finished trial again, or forgets what an
    engine has drawn. Here the oracle's file also contains all trials, and only this
    file counts: a trial that is not in it has not begun. A trial whose worker died is
    handed out again; KerasTuner waits for it forever.
    """

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Any:
        """As in KerasTuner, but no worker leaves before the last trial has ended."""
        oracle: Any = self
        trial = super().create_trial(tuner_id)  # type: ignore[misc]
        if trial.status == Status.STOPPED and oracle.ongoing_trials:
            trial.status = Status.IDLE
            oracle.tuner_ids.add(tuner_id)
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        """As in KerasTuner, but ignores a trial that another worker has ended."""
        oracle: Any = self
        if trial.trial_id in oracle.end_order:
            return
        if trial.trial_id in oracle._retry_queue:
            oracle._retry_queue.remove(trial.trial_id)
        super().end_trial(trial)  # type: ignore[misc]

    @keras_tuner.synchronized
    def lose_worker(self, tuner_id: str) -> str | None:
        """Hands out the trial of a dead worker again.

        Args:
            tuner_id: Name of the worker.

        Returns:
            Id of the trial; None if the worker had none.
        """
        oracle: Any = self
        oracle.tuner_ids.discard(tuner_id)
        trial = oracle.ongoing_trials.pop(tuner_id, None)
        if trial is None or trial.status != Status.RUNNING:
            return None
        trial.metrics = type(trial.metrics)()
        oracle._retry_queue.append(trial.trial_id)
        oracle.save()
        trial_id: str = trial.trial_id
        return trial_id

    def save(self) -> None:
        """Writes the oracle's file completely or not at all."""
        oracle: Any = self
        write_state(oracle._get_oracle_fname(), oracle.get_state())

    def _save_trial(self, trial: Any) -> None:
        oracle: Any = self
        folder = pathlib.Path(oracle._get_trial_dir(trial.trial_id))
        write_state(folder / "trial.json", trial.get_state())

    def get_state(self) -> dict[str, Any]:
        """As in KerasTuner, and all trials."""
        oracle: Any = self
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        state["trials"] = [trial.get_state() for trial in oracle.trials.values()]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """As in KerasTuner, but takes the trials from `state`, not from their files."""
        oracle: Any = self
        trials = map(keras_tuner.engine.trial.Trial.from_state, state["trials"])
        oracle.trials = {trial.trial_id: trial for trial in trials}
        super().set_state(state)  # type: ignore[misc]

    def reload(self) -> None:
        """As in KerasTuner, but runs the unfinished trials again, and no others."""
        oracle: Any = self
        super().reload()  # type: ignore[misc]
        running = [i for i, t in oracle.trials.items() if t.status == Status.RUNNING]
        for trial_id in running:
            trial = oracle.trials[trial_id]
            trial.metrics = type(trial.metrics)()
        # The queue's last trial is handed out first: the one that started first
        oracle._retry_queue = sorted(running, reverse=True)
