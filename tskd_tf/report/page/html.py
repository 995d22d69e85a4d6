"""The building blocks of the page: escaped text, tables, figures."""

import base64
import html
from collections.abc import Sequence

from tskd_tf.report.page.style import DARK_SCREEN

# A figure's files by its name, for a light and for a dark page
Pngs = dict[str, tuple[bytes, bytes]]
_SPACE = "\N{NO-BREAK SPACE}"


def text(value: str) -> str:
    """Escapes text for HTML."""
    return html.escape(value)


def percent(fraction: float, decimals: int = 2) -> str:
    """`0.98914` → `98.91 %`, with a no-break space."""
    return f"{100 * fraction:.{decimals}f}{_SPACE}%"


def note(words: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{text(words)}</p>\n'


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = ""
) -> str:
    """A table with its own scroll bar if it is wider than the page.

    Args:
        caption: Caption of the table, also read by screen readers.
        header: One name per column; may be empty.
        rows: Rows of text; the first text of each row is its name.
        kind: A CSS class. Default: none.
    """
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in rows
    )
    thead = f"<thead><tr>{head}</tr></thead>" if header else ""
    return framed_table(caption, f"{thead}<tbody>{body}</tbody>", kind)


def framed_table(caption: str, content: str, kind: str = "") -> str:
    """A table like that of `table`, from rows in HTML."""
    name = text(caption)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{name}">'
        f'<table class="{kind}"><caption><span>{name}</span></caption>{content}</table>'
        "</div>\n"
    )


def figure(pngs: tuple[bytes, bytes], description: str, caption: str) -> str:
    """A figure in the colours of the page.

    Args:
        pngs: PNG files for a light and for a dark page.
        description: Text alternative for readers who cannot see it.
        caption: Text below the figure.
    """
    light, dark = map(data_address, pngs)
    return (
        f'<figure><picture><source media="{DARK_SCREEN}" srcset="{dark}">'
        f'<img alt="{text(description)}" src="{light}"></picture>'
        f"<figcaption>{text(caption)}</figcaption></figure>\n"
    )


def data_address(png: bytes) -> str:
    """A PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
