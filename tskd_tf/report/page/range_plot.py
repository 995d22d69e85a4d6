"""Numbers with their intervals, drawn in SVG that takes the colours of the page."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from tskd_tf.report.page.html import text

_ROW_HEIGHT = 46
_MARKS = {
    "teacher": "M0 -6 L6 0 L0 6 L-6 0 Z",
    "student": "M-5 0 A5 5 0 1 0 5 0 A5 5 0 1 0 -5 0 Z",
    "control": "M-5 -5 H5 V5 H-5 Z",
}


class Range(NamedTuple):
    """A measured number and its interval, in the unit of the axis.

    Attributes:
        name: Whose it is, with the numbers in words.
        who: `"teacher"`, `"student"` or `"control"`, for shape and colour.
        low: Lower end of the interval.
        value: As measured.
        high: Upper end.
    """

    name: str
    who: str
    low: float
    value: float
    high: float


def range_plot(
    description: str, ranges: Sequence[Range], limit: tuple[float, str] | None = None
) -> str:
    """Ranges one below the other over one axis.

    Places are shares of the width and sizes are pixels, so that text stays as large as
    it is on the page, whatever the width.

    Args:
        description: What it shows, for who cannot see it.
        ranges: At least one.
        limit: Where a line crosses all of them, and its name. The axis then shows 0.
    """
    ends = [end for r in ranges for end in (r.low, r.high)]
    ends += [0.0, limit[0]] if limit else []
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - margin, max(ends) + margin
    bottom = _ROW_HEIGHT * len(ranges)

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    ticks = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    names = _told_apart(ticks)
    drawn = [_line("limit", place(limit[0]), bottom + 22)] if limit else []
    drawn += [
        _line("tick", place(tick), bottom) + _name(place(tick), bottom + 16, name, 5)
        for tick, name in zip(ticks, names, strict=True)
    ]
    if limit:
        drawn.append(_name(place(limit[0]), bottom + 36, limit[1], 25))
    drawn += [_range(r, _ROW_HEIGHT * i, place) for i, r in enumerate(ranges)]
    return (
        f'<svg class="ranges" role="img" aria-label="{text(description)}" '
        f'width="100%" height="{bottom + (44 if limit else 22)}">'
        f'{"".join(drawn)}</svg>\n'
    )


def _told_apart(ticks: Sequence[float]) -> list[str]:
    """The numbers at an axis, with as many decimals as they need."""
    for decimals in range(6):
        names = [f"{tick:.{decimals}f}" for tick in ticks]
        exact = all(abs(float(n) - t) < 1e-9 for n, t in zip(names, ticks))
        if exact:
            break
    return [name.replace("-", "−") for name in names]


def _line(kind: str, place: float, bottom: int) -> str:
    x = f"{place:.2f}%"
    return f'<line class="{kind}" x1="{x}" x2="{x}" y1="0" y2="{bottom}"/>'


def _name(place: float, y: int, name: str, reach: int) -> str:
    """A name below a place, kept within the width.

    Args:
        place: In percent of it.
        y: In pixels.
        name: What to write.
        reach: Percent of a phone's width that the name takes on either side.
    """
    anchor = "start" if place < reach else "end" if place > 100 - reach else "middle"
    return (
        f'<text class="place" x="{place:.2f}%" y="{y}" text-anchor="{anchor}">'
        f"{text(name)}</text>"
    )


def _range(shown: Range, top: int, place: Callable[[float], float]) -> str:
    ends = (place(shown.low), place(shown.high))
    y = top + 30
    across = '<line class="span" x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}"/>'
    lines = across.format(*ends, y, y) + "".join(
        across.format(end, end, y - 6, y + 6) for end in ends
    )
    return (
        f'<text x="0" y="{top + 15}">{text(shown.name)}</text>'
        f'<g class="{shown.who}">{lines}'
        f'<svg x="{place(shown.value):.2f}%" y="{y}" overflow="visible">'
        f'<path d="{_MARKS[shown.who]}"/></svg></g>'
    )
