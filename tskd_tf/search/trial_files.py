"""Files of the trials: a student and a record each, and a mark of a finished search."""

import pathlib

import keras

from tskd_tf.choices import THIN
from tskd_tf.errors import InputError
from tskd_tf.files import atomic_path, read_json, write_json
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.evidence import Trial

STUDENT = "student.keras"
RECORD = "result.json"
# Marks a finished search, in the search's folder
OVER = "over"


def kept_records(search_dir: pathlib.Path) -> list[Trial]:
    """Records of all finished trials, of any process."""
    paths = sorted(search_dir.glob(f"trial_*/{RECORD}"))
    return [read_record(path) for path in paths]


def kept_record(folder: pathlib.Path, candidate: Candidate, seed: int) -> Trial | None:
    """The record of an earlier training of the same candidate and seed, or None.

    A process may end after a training and before the oracle gets its result.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_record(path)
    same = (record.candidate, record.seed) == (candidate, seed)
    return record if same else None


def read_record(path: pathlib.Path) -> Trial:
    """Reads the record of a trial.

    Raises:
        InputError: If the record is missing or damaged.
    """
    found = read_json(path)
    if isinstance(found, dict):
        # Earlier versions had thin students and the user's only
        found.setdefault("family", THIN)
        if "num_params" not in found and (path.parent / STUDENT).exists():
            student = load_kept_model(path.parent / STUDENT)
            found["num_params"] = student.count_params()
    if not isinstance(found, dict) or set(found) != set(Trial._fields):
        raise InputError(
            f"Expected {path} to be the record of a trial. Received: another file, or "
            "one of an earlier version, so the run cannot resume; use another folder"
        )
    return Trial(**found)


def keep(student: keras.Model, record: Trial, folder: pathlib.Path) -> None:
    """Saves a student, then its record: a record always has its student."""
    save_model(student, folder / STUDENT)
    write_json(folder / RECORD, record._asdict())


def save_model(model: keras.Model, path: pathlib.Path) -> None:
    """Saves a model atomically."""
    with atomic_path(path) as temporary:
        model.save(temporary)
