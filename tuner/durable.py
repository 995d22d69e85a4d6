"""Oracles whose files survive whatever ends the process, and workers that are lost."""

import json
import os
import pathlib
from typing import Any

import keras_tuner

Status = keras_tuner.engine.trial.TrialStatus


def write_state(path: str | os.PathLike[str], state: Any) -> None:
    """Writes JSON all or nothing, unlike KerasTuner, which leaves torn files."""
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        temporary.write_text(json.dumps(state), encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        # A write that fails does not say of which file. Without a number, an error with
        # a file's name loses its message
        if error.errno is not None:
            error.filename = error.filename or str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


class Durable:
    """What KerasTuner's oracles lack; to be inherited from before one of them.

    KerasTuner keeps a trial in a file of its own and the list of them in another,
    written one after the other: a process killed in between runs a finished trial
    again, or forgets what an engine had drawn. Here the oracle's file has the trials,
    too, all of one moment, and is the only one that counts; a trial it does not know
    was not begun. And a trial whose worker died is given out again, which KerasTuner
    leaves to wait forever.
    """

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Any:
        """As in KerasTuner, but no worker leaves while another's trial may be lost."""
        oracle: Any = self
        trial = super().create_trial(tuner_id)  # type: ignore[misc]
        if trial.status == Status.STOPPED and oracle.ongoing_trials:
            trial.status = Status.IDLE
            oracle.tuner_ids.add(tuner_id)
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        """As in KerasTuner; the end of a trial that another worker ended is ignored."""
        oracle: Any = self
        if trial.trial_id in oracle.end_order:
            return
        if trial.trial_id in oracle._retry_queue:
            oracle._retry_queue.remove(trial.trial_id)
        super().end_trial(trial)  # type: ignore[misc]

    @keras_tuner.synchronized
    def lose_worker(self, tuner_id: str) -> str | None:
        """Gives the trial of a worker that died out again.

        Returns:
            Its id; None if the worker had none.
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
        """All or nothing."""
        oracle: Any = self
        write_state(oracle._get_oracle_fname(), oracle.get_state())

    def _save_trial(self, trial: Any) -> None:
        oracle: Any = self
        folder = pathlib.Path(oracle._get_trial_dir(trial.trial_id))
        write_state(folder / "trial.json", trial.get_state())

    def get_state(self) -> dict[str, Any]:
        """As in KerasTuner, and the trials."""
        oracle: Any = self
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        state["trials"] = [trial.get_state() for trial in oracle.trials.values()]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """As in KerasTuner; the trials replace those of their own files."""
        oracle: Any = self
        trials = map(keras_tuner.engine.trial.Trial.from_state, state["trials"])
        oracle.trials = {trial.trial_id: trial for trial in trials}
        super().set_state(state)  # type: ignore[misc]

    def reload(self) -> None:
        """As in KerasTuner; what was running is run again, and nothing else."""
        oracle: Any = self
        super().reload()  # type: ignore[misc]
        running = [i for i, t in oracle.trials.items() if t.status == Status.RUNNING]
        for trial_id in running:
            trial = oracle.trials[trial_id]
            trial.metrics = type(trial.metrics)()
        # Last in, first out: what was started first is given out first
        oracle._retry_queue = sorted(running, reverse=True)
