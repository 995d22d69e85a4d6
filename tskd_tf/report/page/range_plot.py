"""A plot of numbers with their intervals, as SVG in the colours of the page."""

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
        name: Label, with the numbers as text.
        who: `"teacher"`, `"student"` or `"control"`; sets shape and colour.
        low: Lower end of the interval.
        value: The measured number.
        high: Upper end of the interval.
    """

    name: str
    who: str
    low: float
    value: float
    high: float


def range_plot(
    description: str, ranges: Sequence[Range], limit: tuple[float, str] | None = None
) -> str:
    """Draws ranges in rows over a common axis.

    Horizontal positions are percentages and sizes are pixels, so that text has the
    size of the page's text at any width.

    Args:
        description: Text alternative for readers who cannot see it.
        ranges: The ranges, at least one.
        limit: Position and name of a line across all ranges; the axis then includes 0.
            Default: none.
    """
    ends = [end for r in ranges for end in (r.low, r.high)]
    ends += [0.0, limit[0]] if limit else []
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - margin, max(ends) + margin
    bottom = _ROW_HEIGHT * len(ranges)

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    ticks = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    names = _tick_names(ticks)
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


def _tick_names(ticks: Sequence[float]) -> list[str]:
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
    """A text below a position, kept within the width.

    Args:
        place: Horizontal position, in percent of the width.
        y: Vertical position, in pixels.
        name: The text.
        reach: Half of the text's width, in percent of a phone's width.
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
