"""What the package knows of a format to deploy: one record a format."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from tskd_tf.choices import FORMATS, check_choice
from tskd_tf.data.images import Images
from tskd_tf.export.deployment import Deployment, OpenedFile
from tskd_tf.export.record import Latency

# One a file
Latencies = list[Latency] | None


class Format(NamedTuple):
    """The record of a format.

    Attributes:
        title: For people, in tables and on the page.
        file_name: Of the student's file or folder.
        write: Writes a float32 model to a path.
        open: Opens the file in its own runtime.
        time: Times files in turn on one thread; None where it is not what a device
            runs.
        snippet: Python that turns `image`, uint8 of shape `(height, width, channels)`,
            into `outputs`, float32 of shape `(1, num_outputs)`, by the format's own
            runtime. `{path}` stands for the file.
        needs: Packages that not every installation has.
        gives_logits: Whether it gives logits whatever outputs are asked for.
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
