"""What trials leave: each a student and its record, and a mark when all ended."""

import pathlib

import keras

from tskd_tf.errors import InputError
from tskd_tf.files import atomic_path, read_json, write_json
from tskd_tf.search.evidence import Trial

STUDENT = "student.keras"
RECORD = "result.json"
# In the folder of the search
OVER = "over"


def kept_records(search_dir: pathlib.Path) -> list[Trial]:
    """Of the trials that ended, in any process."""
    paths = sorted(search_dir.glob(f"trial_*/{RECORD}"))
    return [read_record(path) for path in paths]


def kept_record(folder: pathlib.Path, rate: float, seed: int) -> Trial | None:
    """What was trained before the process ended, if the oracle did not hear of it."""
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_record(path)
    return record if (record.rate, record.seed) == (rate, seed) else None


def read_record(path: pathlib.Path) -> Trial:
    """The record of a trial.

    Raises:
        InputError: If it is missing or damaged.
    """
    found = read_json(path)
    if not isinstance(found, dict) or set(found) != set(Trial._fields):
        raise InputError(
            f"Expected {path} to be the record of a trial. Received: another file, or "
            "one of an earlier version, so its run cannot go on; use another folder"
        )
    return Trial(**found)


def keep(student: keras.Model, record: Trial, folder: pathlib.Path) -> None:
    """The record comes last: where there is one, there is its student."""
    save_model(student, folder / STUDENT)
    write_json(folder / RECORD, record._asdict())


def save_model(model: keras.Model, path: pathlib.Path) -> None:
    """All or nothing."""
    with atomic_path(path) as temporary:
        model.save(temporary)
