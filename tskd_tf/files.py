"""Writing files so that an interrupted run never leaves half of one."""

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from tskd_tf.errors import InputError

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[str]:
    """Yields a temporary path beside `path`, moved onto it when the block succeeds.

    The temporary name keeps the suffix, because Keras chooses the file format by
    it. When the block raises, the temporary file is removed and `path` does not
    change. The block may also create a folder there.
    """
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = target.suffix or ".folder"
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{suffix}")
    try:
        yield str(temporary)
        if temporary.is_dir():
            # A folder that is not empty cannot be replaced
            _remove(target)
        os.replace(temporary, target)
    except OSError as error:
        # A failed write does not name its file. An error without an errno would lose
        # its message if it were given a file name
        if error.errno is not None:
            error.filename = error.filename or str(target)
        raise
    finally:
        _remove(temporary)


def _remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def remove_leftovers(folder: PathLike) -> None:
    """Removes the temporary files of processes that were killed, at any depth."""
    for path in list(pathlib.Path(folder).rglob(".*")):
        if re.fullmatch(r"\..+\.\d+\.\w+", path.name):
            _remove(path)


def size_bytes(path: PathLike) -> int:
    """Bytes of a file, or of all files in a folder."""
    path = pathlib.Path(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def write_text(path: PathLike, text: str) -> None:
    """Writes `text` as UTF-8; an interrupted write leaves `path` unchanged."""
    with atomic_path(path) as temporary:
        pathlib.Path(temporary).write_text(text, encoding="utf-8")


def write_json(path: PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; NaN raises ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot read {path} ({type(error).__name__}), so its run cannot go on; "
            "use another folder"
        ) from None


def read_json_object(path: PathLike) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        InputError: If it is missing, damaged, or holds anything else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(
            f"Expected {path} to hold a JSON object. Received: {found!r:.40}, so its "
            "run cannot go on; use another folder"
        )
    return found
