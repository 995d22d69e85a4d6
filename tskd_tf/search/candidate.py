"""One candidate of a search: a family of students and a width rate."""

from typing import NamedTuple

from tskd_tf.choices import THIN

# The family of students that a user's function builds
OWN = "own"


class Candidate(NamedTuple):
    """A student that can be built.

    Attributes:
        family: A name in `choices.FAMILIES`, or `OWN`.
        rate: Width rate, above 0.

    Example:

    >>> str(Candidate("compact", 0.5))
    'compact rate 0.5'
    """

    family: str
    rate: float

    def __str__(self) -> str:
        name = "" if self.family in (THIN, OWN) else f"{self.family} "
        return f"{name}rate {self.rate:g}"

    @property
    def file_part(self) -> str:
        """The candidate as a part of a file's name, e.g. `"rate_0.25"`."""
        return str(self).replace(" ", "_")
