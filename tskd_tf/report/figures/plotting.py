"""Text size, colours, grid and legend of all figures."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure

from tskd_tf.report.figures.palette import DARK, LIGHT, Palette

# With more marks, the numbers at them would overlap
MOST_NUMBERS = 14
# Letters of all names in one row of a legend
_MOST_LETTERS = 45


class Canvas(NamedTuple):
    """An empty figure.

    Attributes:
        figure: The figure of Matplotlib.
        axes: Axes of its panels from top to bottom, in the colours of `palette`.
        palette: The colours to draw with.
    """

    figure: Figure
    axes: list[Any]
    palette: Palette


def blank_figure(dark: bool, height: float) -> tuple[Figure, Palette]:
    """A figure without panels. All figures are equally wide, so text has one size.

    Args:
        dark: Whether the figure is for a dark page.
        height: Height in inches; the width is 5.6.

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
        dark: Whether the figure is for a dark page.
        height: Height in inches.
        num_panels: Number of panels in a column, with a shared horizontal axis.
            Default: 1.
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
    """Adds thin grid lines behind all marks."""
    for panel in canvas.axes:
        panel.grid(True, which="major", color=canvas.palette.line, linewidth=0.6)
        panel.set_axisbelow(True)


def add_legend(canvas: Canvas) -> None:
    """Adds a legend for the first panel, above it."""
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
    """A class name, cut to at most `longest` letters."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
