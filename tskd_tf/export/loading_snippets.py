"""How a program loads and runs each exported file, without this package."""

from tskd_tf.choices import FORMATS
from tskd_tf.export.format import format_named

_OWN_LAYERS = """\
from tskd_tf import DominantConv2D, GroupedConv2D, ShiftConv2D  # which it names
"""


def title_of(format_name: str) -> str:
    """What people call a format; its name where this version does not know it."""
    if format_name not in FORMATS:
        return format_name
    return format_named(format_name).title


def snippet(format_name: str, path: str, has_own_layers: bool = False) -> str:
    """Python that turns `image` into `outputs`.

    Args:
        format_name: As in the report's `exports`.
        path: Of the file.
        has_own_layers: Whether the student has layers of this package, which a `.keras`
            file cannot bring along.

    Returns:
        Lines that need the format's own runtime only. `image` is a uint8 array of shape
        `(height, width, channels)`, `outputs` an array of shape `(1, num_outputs)`.
        Empty for a format that is not known here.
    """
    if format_name not in FORMATS:
        return ""
    code = format_named(format_name).snippet.format(path=path)
    return _OWN_LAYERS + code if has_own_layers and format_name == "keras" else code


def class_of_outputs(labels_path: str) -> str:
    """Python that names the class of an image, once `outputs` are there.

    Args:
        labels_path: As in the report.
    """
    return f"""\
import pathlib
labels = pathlib.Path("{labels_path}").read_text("utf-8").splitlines()
print(labels[outputs[0].argmax()])
"""
