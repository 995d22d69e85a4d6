"""The state of a refinement, and its files, from which an interrupted one goes on."""

import pathlib
from typing import NamedTuple

import keras

from tskd_tf.files import read_json_object, write_json
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.report.record import RefinementStep
from tskd_tf.search.trial_files import save_model

_FOLDER = "refinement"
_STATE = "state.json"


class State(NamedTuple):
    """What decides the next step of a refinement, besides the student.

    Attributes:
        steps: All steps so far.
        most: Largest number of sets that the next step may remove, ≥ 1; None: any.
        closed: The blocks that stay as they are, by their `makers`.
    """

    steps: list[RefinementStep] = []
    most: int | None = None
    closed: list[tuple[int, ...]] = []

    def after(self, step: RefinementStep, makers: tuple[int, ...]) -> "State":
        """The state after a step.

        Args:
            step: The step.
            makers: What identifies the block of the first set that it removes.
        """
        state = self._replace(steps=[*self.steps, step])
        if step["is_kept"] or step["num_removed"] == 0:
            return state
        if step["num_removed"] > 1:
            return state._replace(most=step["num_removed"] // 2)
        return state._replace(most=None, closed=[*self.closed, makers])

    @property
    def is_finished(self) -> bool:
        """Whether the student was trained to the end, which is the last step."""
        return bool(self.steps) and self.steps[-1]["num_removed"] == 0

    @property
    def num_kept(self) -> int:
        """Number of steps that were kept."""
        return sum(step["is_kept"] for step in self.steps)


def kept_state(folder: pathlib.Path, student: keras.Model) -> tuple[keras.Model, State]:
    """The student and the state of an earlier refinement; a new state if there is none.

    Args:
        folder: Folder of the search.
        student: The chosen student.

    Raises:
        InputError: If the files are damaged.
    """
    path = folder / _FOLDER / _STATE
    if not path.exists():
        return student, State()
    found = read_json_object(path)
    state = State(
        found["steps"], found["most"], [tuple(makers) for makers in found["closed"]]
    )
    if state.num_kept:
        student = load_kept_model(_student_path(folder, state))
    return student, state


def keep_state(folder: pathlib.Path, student: keras.Model, state: State) -> None:
    """Saves the student, if the last step was kept, then the state.

    Each student has its own file, so that a state always has its student.
    """
    path = _student_path(folder, state)
    if state.steps[-1]["is_kept"]:
        save_model(student, path)
    write_json(folder / _FOLDER / _STATE, state._asdict())
    for other in path.parent.glob("student_*.keras"):
        if other != path:
            other.unlink()


def _student_path(folder: pathlib.Path, state: State) -> pathlib.Path:
    return folder / _FOLDER / f"student_{state.num_kept}.keras"
