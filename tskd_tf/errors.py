"""The one error class of the package."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    Raised at the door, before any training. The message is one line: what was
    expected, what was received, what to do. The command line ends with exit
    status 2 on it; any other exception is a defect and ends with 1.
    """
