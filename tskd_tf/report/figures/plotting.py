"""What all figures have in common: size of text, colours, grid and legend."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure

from tskd_tf.report.figures.palette import DARK, LIGHT, Palette

# Of more, the numbers at the marks would run into each other
MOST_NUMBERS = 14
# Of the names in one row of a legend
_MOST_LETTERS = 45


class Canvas(NamedTuple):
    """An empty figure.

    Attributes:
        figure: Where to save it from.
        axes: Those of its panels, from the top; in the colours of `palette`.
        palette: The colours to draw with.
    """

    figure: Figure
    axes: list[Any]
    palette: Palette


def blank_figure(dark: bool, height: float) -> tuple[Figure, Palette]:
    """A figure without panels, as wide as all others, so that text is of one size.

    Args:
        dark: For a dark page.
        height: In inches; the width is 5.6.

    Returns:
        The figure, and the colours to draw with.
    """
    palette = DARK if dark else LIGHT
    figure = Figure(
        figsize=(5.6, height), layout="constrained", dpi=160, facecolor=palette.paper
    )
    return figure, palette


def empty_figure(dark: bool, height: float, num_panels: int = 1) -> Canvas:
    """A figure with axes.

    Args:
        dark: For a dark page.
        height: In inches.
        num_panels: One above the other, with one horizontal axis.
    """
    figure, palette = blank_figure(dark, height)
    panels = figure.subplots(num_panels, sharex=True, squeeze=False)
    axes = [row[0] for row in panels]
    for panel in axes:
        panel.set_facecolor(palette.paper)
        panel.tick_params(colors=palette.ink)
        for part in (panel.xaxis.label, panel.yaxis.label, panel.title):
            part.set_color(palette.ink)
        panel.spines[:].set_color(palette.soft)
        panel.spines[["top", "right"]].set_visible(False)
    return Canvas(figure, axes, palette)


def add_grid(canvas: Canvas) -> None:
    """Thin lines behind all marks."""
    for panel in canvas.axes:
        panel.grid(True, which="major", color=canvas.palette.line, linewidth=0.6)
        panel.set_axisbelow(True)


def add_legend(canvas: Canvas) -> None:
    """The names of what the first panel shows, above it."""
    handles, names = canvas.axes[0].get_legend_handles_labels()
    in_one_row = sum(map(len, names)) <= _MOST_LETTERS
    canvas.figure.legend(
        handles,
        names,
        frameon=False,
        fontsize=9,
        labelcolor=canvas.palette.ink,
        loc="outside upper left",
        columnspacing=1.0,
        handletextpad=0.5,
        ncols=len(names) if in_one_row else 3,
    )


def short_name(name: str, longest: int) -> str:
    """A class name in at most so many letters."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
