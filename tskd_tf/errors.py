"""The one error class of the package, and others' errors in a line."""

import errno
import os
import re

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(ValueError):
    """Something the user gave cannot be used.

    Raised at the door, before any training. The message is one line: what was
    expected, what was received, what to do. The command line ends with exit
    status 2 on it; any other exception is a defect and ends with 1.
    """


class WorkerError(RuntimeError):
    """A worker of a search failed, as every other would, or none is left."""


def in_one_line(error: BaseException | str, max_length: int = 300) -> str:
    """Another library's message without line breaks and terminal codes, cut short."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return " ".join(text.split())[:max_length]


def full_disk(error: BaseException) -> str | None:
    """What found no room on a disk, by an error or those that it arose from.

    Returns:
        The file, if it is known, and the reason; None if that was not it.
    """
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        if isinstance(found, OSError) and found.errno in _FULL:
            return f"{found.filename or 'a file'} ({found.strerror})"
        # TensorFlow has errors of its own
        told = re.search(rf"(\S+); ({os.strerror(errno.ENOSPC)})", str(found))
        if told:
            return f"{told[1]} ({told[2]})"
        seen.append(found)
        found = found.__cause__ or found.__context__
    return None
