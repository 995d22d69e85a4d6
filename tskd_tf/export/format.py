"""The record of each format to deploy."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from tskd_tf.choices import FORMATS, check_choice
from tskd_tf.data.images import Images
from tskd_tf.export.deployment import Deployment, OpenedFile
from tskd_tf.export.record import Latency

# One entry per file; None if timing failed
Latencies = list[Latency] | None


class Format(NamedTuple):
    """The record of a format.

    Attributes:
        title: Name in tables and on the page.
        file_name: Name of the student's file or folder.
        write: Writes a float32 model to a path.
        open: Opens the file in its own runtime.
        time: Times files alternately on one thread. None for a format that devices do
            not run.
        snippet: Python code that maps `image`, uint8 of shape `(height, width,
            channels)`, to `outputs`, float32 of shape `(1, num_outputs)`, with the
            format's own runtime. `{path}` stands for the file.
        needs: Optional packages that the format needs. Default: none.
        gives_logits: Whether the file always gives logits. Default: False.
    """

    title: str
    file_name: str
    write: Callable[[keras.Model, str, Deployment], None]
    open: Callable[[str], OpenedFile]
    time: Callable[[list[str], Images], Latencies] | None
    snippet: str
    needs: tuple[str, ...] = ()
    gives_logits: bool = False


def format_named(name: str) -> Format:
    """The record of a format.

    Args:
        name: One of `choices.FORMATS`.

    Raises:
        InputError: If there is no such format.
    """
    check_choice("exports", name, FORMATS)
    found: Format = FORMATS[name].load()
    return found
