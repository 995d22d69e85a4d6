import errno
import json
import pathlib

import keras
import numpy as np
import pytest

from tskd_tf.data.images import fingerprint
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.files import (
    atomic_path,
    read_json,
    read_json_object,
    remove_leftovers,
    size_bytes,
    write_json,
    write_text,
)


@pytest.mark.parametrize("text", ["[]", "null", "1", "", "{"])
def test_what_is_no_object_is_told(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError, match=r"settings\.json.* use another folder"):
        read_json_object(tmp_path / "settings.json")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "notes.json"
    write_text(path, "old")
    with pytest.raises(ValueError):
        write_json(path, {"accuracy": float("nan")})
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        write_text(temporary, "half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_suffixes_kept(tmp_path):
    path = tmp_path / "new" / "student.keras"
    with atomic_path(path) as temporary:
        assert temporary.endswith(".keras")
        write_text(temporary, "model")
    assert path.read_text() == "model"


def test_a_folder_is_written_all_or_nothing(tmp_path):
    path = tmp_path / "saved_model"
    for text in ("old", "new"):
        with atomic_path(path) as temporary:
            write_text(pathlib.Path(temporary) / "variables" / "data", text)
    with pytest.raises(OSError, match="full"), atomic_path(path) as temporary:
        write_text(pathlib.Path(temporary) / "half", "half")
        raise OSError("full")
    assert [found.name for found in tmp_path.rglob("*")] == [
        "saved_model",
        "variables",
        "data",
    ]
    assert (path / "variables" / "data").read_text() == "new"
    write_text(path / "b", "12")
    assert size_bytes(path) == 5 and size_bytes(path / "b") == 2


def test_a_folder_that_a_killed_process_left_is_removed(tmp_path):
    temporary = atomic_path(tmp_path / "saved_model").__enter__()
    write_text(pathlib.Path(temporary) / "variables" / "data", "half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None]}
    json.loads((tmp_path / "a.json").read_text())


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    killed = atomic_path(tmp_path / "search" / "student.keras")
    temporary = killed.__enter__()
    names = [temporary, *("notes.json", ".hidden", ".a.1", ".a.b.json", "a.1.json")]
    for name in names:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(names[1:])


def test_a_file_that_found_no_room_is_named(tmp_path):
    with pytest.raises(OSError, match="No space left.*report.json"):
        with atomic_path(tmp_path / "report.json"):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_fingerprints_tell_apart_what_looks_alike():
    same = np.arange(6)
    marks = {
        fingerprint(same),
        fingerprint(same.reshape(2, 3)),
        fingerprint(same.astype("int32")),
        fingerprint(same[::-1]),
        fingerprint(same[:3], same[3:]),
        fingerprint(same.tolist()),
    }
    assert len(marks) == 6
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(same[::-1]) == fingerprint(same[::-1].copy())


def test_fingerprints_of_any_weights():
    """`Normalization` counts in a NumPy number; bfloat16 has no buffer of its own."""
    weights = keras.Variable(np.arange(3.0), dtype="bfloat16").numpy()
    assert fingerprint(weights) != fingerprint(weights + 1)
    assert fingerprint(np.int64(3)) != fingerprint(np.int64(4))


def test_messages_of_others_fit_a_line():
    error = ValueError("\x1b[1mOne\x1b[0m\n\n  two " + 500 * "x")
    assert in_one_line(error, 9) == "One two x"
    assert len(in_one_line(error)) == 300
