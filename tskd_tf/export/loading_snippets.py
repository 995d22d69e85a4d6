"""Python code that loads and runs each exported file, without this package."""

import tskd_tf
from tskd_tf.choices import FORMATS
from tskd_tf.export.format import format_named
from tskd_tf.networks.layers.convolution import own_layers


def title_of(format_name: str) -> str:
    """The title of a format, or its name if this version does not know it."""
    if format_name not in FORMATS:
        return format_name
    return format_named(format_name).title


def snippet(format_name: str, path: str, has_own_layers: bool = False) -> str:
    """Python code that maps `image` to `outputs`.

    Args:
        format_name: Name of the format, as in the report's `exports`.
        path: Path of the exported file.
        has_own_layers: Whether the student has layers of this package, which a `.keras`
            file does not contain. Default: False.

    Returns:
        Code that needs only the format's own runtime. `image` is a uint8 array of shape
        `(height, width, channels)`, `outputs` an array of shape `(1, num_outputs)`.
        Empty for an unknown format.
    """
    if format_name not in FORMATS:
        return ""
    code = format_named(format_name).snippet.format(path=path)
    return _imports() + code if has_own_layers and format_name == "keras" else code


def _imports() -> str:
    """Imports of all layers that a `.keras` file may need, one line per module."""
    names: dict[str, list[str]] = {}
    for name, kind in sorted(own_layers().items()):
        module = "tskd_tf" if name in tskd_tf.__all__ else kind.__module__
        names.setdefault(module, []).append(name)
    return "".join(
        f"from {module} import {', '.join(found)}  # layers that the file may need\n"
        for module, found in names.items()
    )


def class_of_outputs(labels_path: str) -> str:
    """Python code that prints the class of an image, given its `outputs`.

    Args:
        labels_path: Path of `labels.txt`, as in the report.
    """
    return f"""\
import pathlib
labels = pathlib.Path("{labels_path}").read_text("utf-8").splitlines()
print(labels[outputs[0].argmax()])
"""
