"""The colours of the page and its figures, for light and dark mode."""

from typing import NamedTuple


class Palette(NamedTuple):
    """Colours as `#rrggbb`; all colours of text are readable on `paper` and `card`.

    Attributes:
        ink: Text, the control, and marks of the chosen student.
        soft: Secondary text, and curves of trials.
        line: Rules and grids; not for text.
        paper: Background of the page.
        card: Background of numbers and code.
        good: Results that meet Eq. 4.
        bad: Results that miss Eq. 4.
        teacher: Marks and curves of the teacher.
        student: Marks and curves of the student.
        band: Band of possible answers; `ink` is readable on it.
        hit: Darkest shade of right answers in a matrix; `ink` is readable on it.
        miss: Darkest shade of wrong answers in a matrix; `ink` is readable on it.
    """

    ink: str
    soft: str
    line: str
    paper: str
    card: str
    good: str
    bad: str
    teacher: str
    student: str
    band: str
    hit: str
    miss: str


LIGHT = Palette(
    ink="#1b1f24",
    soft="#57606a",
    line="#d0d7de",
    paper="#ffffff",
    card="#f6f8fa",
    good="#0a6b50",
    bad="#a8410f",
    teacher="#2b4ea0",
    student="#7b2d8e",
    band="#dfe6f3",
    hit="#a9d8c8",
    miss="#f2b48c",
)
DARK = Palette(
    ink="#e6edf3",
    soft="#9da7b1",
    line="#3d444d",
    paper="#0d1117",
    card="#161b22",
    good="#4cc9a0",
    bad="#ff9d66",
    teacher="#8fb2ff",
    student="#dd9cf0",
    band="#1d2a44",
    hit="#14553f",
    miss="#7c3a12",
)
