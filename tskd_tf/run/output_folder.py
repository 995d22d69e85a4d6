"""The output folder: the run that it belongs to, and its report."""

import json
import pathlib
import zipfile
import zlib
from typing import cast

import numpy as np

from tskd_tf.choices import settings_marked
from tskd_tf.errors import InputError, full_disk, in_one_line
from tskd_tf.files import (
    atomic_path,
    read_json_object,
    remove_leftovers,
    write_json,
    write_text,
)
from tskd_tf.report.figures.drawings import draw_figures
from tskd_tf.report.page.page import render
from tskd_tf.report.record import SCHEMA_VERSION, Report
from tskd_tf.run.config import RunConfig

# A resumed run may change these settings
FREE_SETTINGS = settings_marked(RunConfig, "on_resume", "free")
# A resumed sweep may add values of these settings, for more students
SWEEP_SETTINGS = settings_marked(RunConfig, "on_resume", "more")
TEACHER_SETTINGS = settings_marked(RunConfig, "felt_by_teacher")

_WRONG_IMAGES = pathlib.PurePath("search", "wrong_images.npz")
# Errors that damaged files may raise
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def check_output_dir(config: RunConfig) -> None:
    """Checks that the output folder is empty or holds this run, to be resumed.

    Raises:
        InputError: If it is not empty without --resume, or if it belongs to a run with
            other settings.
    """
    folder = pathlib.Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"Expected --output_dir to be a folder. Received: {folder}")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if config.resume and all(p.name.startswith(".config.") for p in folder.iterdir()):
        # The run was killed before it wrote its first file
        return
    if not config.resume:
        raise InputError(
            f"Expected --output_dir to be empty. Received: {folder}, which is not; "
            "choose another, or pass --resume to resume the run in it"
        )
    try:
        found = read_json_object(folder / "config.json")
    except InputError:
        raise InputError(
            f"Expected the folder of a run to resume. Received: {folder}, without a "
            "readable config.json"
        ) from None
    wanted = config.as_json()
    # Flags that an earlier version lacked had their present default
    found = {**RunConfig().as_json(), **found}
    names = [n for n in wanted if n not in (*FREE_SETTINGS, *SWEEP_SETTINGS)]
    if found["mode"] == "teacher":
        names = [name for name in names if name in TEACHER_SETTINGS]
    other = [
        f"--{name} was {found[name]}, is {wanted[name]}"
        for name in names
        if found[name] != wanted[name]
    ]
    if other:
        raise InputError(
            f"Expected the settings of the run in {folder}. Received: "
            + "; ".join(other)
        )


def claim_output_dir(config: RunConfig) -> None:
    """Creates the output folder, removes leftovers, and writes the settings to it.

    Raises:
        InputError: If the folder is not writable.
    """
    folder = pathlib.Path(config.output_dir)
    try:
        remove_leftovers(folder)
        write_json(folder / "config.json", config.as_json())
    except OSError as error:
        raise _not_writable(folder, error) from None


def _not_writable(folder: pathlib.Path, error: OSError) -> InputError:
    return InputError(
        f"Expected --output_dir to be a folder to write to. Received: {folder} "
        f"({in_one_line(error)})"
    )


def save_wrong_images(images: np.ndarray, folder: pathlib.Path) -> None:
    """Writes the pictures of a report's `wrong_images`, atomically.

    Args:
        images: uint8, shape `(n, height, width, channels)`, in the report's order.
        folder: The output folder.
    """
    with atomic_path(folder / _WRONG_IMAGES) as temporary:
        np.savez_compressed(temporary, images=images)


def load_wrong_images(report: Report, folder: pathlib.Path) -> np.ndarray:
    """Reads the pictures that `save_wrong_images` wrote.

    Returns:
        uint8 of shape `(n, height, width, channels)`, in the report's order.

    Raises:
        InputError: If the file is missing, damaged, or of another report.
    """
    path, num_images = folder / _WRONG_IMAGES, len(report["wrong_images"])
    try:
        # Opened here, because NumPy leaves a damaged file open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            images: np.ndarray = stored["images"]
    except (*_DAMAGE, OSError) as error:
        raise InputError(
            f"Expected {path} to hold the pictures of the report. Received: a missing "
            f"or damaged file ({type(error).__name__})"
        ) from None
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != num_images:
        raise InputError(
            f"Expected {path} to hold {num_images} pictures, as the report says. "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    return images


def write_report(
    report: Report,
    folder: pathlib.Path,
    wrong_images: np.ndarray | None = None,
) -> dict[str, bytes]:
    """Writes the figures, `report.html` and, last, `report.json`.

    Args:
        report: The report of a finished run.
        folder: The output folder.
        wrong_images: The pictures of its `wrong_images`, uint8 of shape
            `(n, height, width, channels)`. Default: none.

    Returns:
        The written figures, as PNG files by name.
    """
    figures = draw(report, folder, wrong_images)
    write_json(folder / "report.json", report)
    return figures


def draw(
    report: Report,
    folder: pathlib.Path,
    wrong_images: np.ndarray | None = None,
) -> dict[str, bytes]:
    """Writes the figures and `report.html`; if one fails, nothing is written.

    Args:
        report: The report of a finished run.
        folder: The output folder.
        wrong_images: The pictures of its `wrong_images`, uint8 of shape
            `(n, height, width, channels)`. Default: none.

    Returns:
        The figures, as PNG files by name.
    """
    pngs = draw_figures(report, wrong_images)
    page = render(report, pngs, wrong_images)
    figures = {name: light for name, (light, _) in pngs.items()}
    for name, png in figures.items():
        with atomic_path(folder / "figures" / f"{name}.png") as temporary:
            pathlib.Path(temporary).write_bytes(png)
    write_text(folder / "report.html", page)
    return figures


def redraw(folder: pathlib.Path) -> tuple[Report, dict[str, bytes]]:
    """Draws the page and figures of a finished run again.

    `report.json` does not change.

    Returns:
        The report, and the figures as PNG files by name.

    Raises:
        InputError: If `report.json` is missing, damaged or of another version, if the
            pictures are damaged, or if the folder is not writable.
    """
    report = _read_report(folder)
    try:
        figures = draw(report, folder, load_wrong_images(report, folder))
    except InputError:
        raise
    except _DAMAGE as error:
        raise _no_report(folder, f"{type(error).__name__}: {error}") from None
    except OSError as error:
        if full_disk(error):
            raise
        raise _not_writable(folder, error) from None
    return report, figures


def _read_report(folder: pathlib.Path) -> Report:
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_report(folder, f"{type(error).__name__}: {error}") from None
    version = report.get("schema_version") if isinstance(report, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise _no_report(folder, "another file with that name")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"Expected a report of schema_version {SCHEMA_VERSION}. Received: "
            f"{folder / 'report.json'} of version {version}; draw it with the version "
            "of tskd_tf that wrote it"
        )
    return cast(Report, report)


def _no_report(folder: pathlib.Path, reason: str) -> InputError:
    return InputError(
        "Expected --output_dir to hold the report.json of a finished run. Received: "
        f"{folder} ({in_one_line(reason)})"
    )
