"""The error classes of the package, and one-line texts of other errors."""

import errno
import os
import re

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(ValueError):
    """An input of the user cannot be used.

    It is raised before any training. The message is one line: what was expected, what
    was received, what to do. The command line ends with exit status 2 on this error,
    and with 1 on any other.
    """


class WorkerError(RuntimeError):
    """A worker failed in a way that all workers would, or no worker is left."""


def in_one_line(error: BaseException | str, max_length: int = 300) -> str:
    """Another library's message without line breaks and terminal codes, cut short."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return " ".join(text.split())[:max_length]


def full_disk(error: BaseException) -> str | None:
    """The file that a full disk could not hold, from an error or its causes.

    Returns:
        The file, if known, and the reason; None if the disk was not full.
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
