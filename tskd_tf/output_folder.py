"""The output folder: whose it is, and the report in it."""

import io
import pathlib
from typing import Any

from tskd_tf.config import RunConfig
from tskd_tf.errors import InputError
from tskd_tf.figures import accuracy_against_macs, search_by_trial
from tskd_tf.files import (
    atomic_path,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)
from tskd_tf.report_html import render

# A run may go on with another value of these
FREE_SETTINGS = ("resume", "output_dir", "memory_limit_mb", "workers")
# A finished sweep may be gone on with for more students
SWEEP_SETTINGS = ("task_sizes", "rates", "seeds", "normalized_accuracies")
TEACHER_SETTINGS = (
    "dataset",
    "data_dir",
    "offline_sample",
    "image_dir",
    "image_size",
    "skip_corrupt_images",
    "teacher",
    "input_range",
    "class_weights",
    "teacher_epochs",
    "batch_size",
    "learning_rate",
    "solver",
    "precision",
    "augmentation",
    "augmentation_pixels",
    "validation_fraction",
    "seed",
)


def check_output_dir(config: RunConfig) -> None:
    """Refuses a folder that holds something other than this run, interrupted.

    Raises:
        InputError: If it is not empty and not to be resumed, or holds other settings.
    """
    folder = pathlib.Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"Expected --output_dir to be a folder. Received: {folder}")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if config.resume and all(p.name.startswith(".config.") for p in folder.iterdir()):
        # Killed before its first file was there
        return
    if not config.resume:
        raise InputError(
            f"Expected --output_dir to be empty. Received: {folder}, which is not; "
            "choose another, or pass --resume to go on with the run in it"
        )
    try:
        found = read_json(folder / "config.json")
    except InputError:
        raise InputError(
            f"Expected the folder of a run to resume. Received: {folder}, without a "
            "readable config.json"
        ) from None
    wanted = config.as_json()
    names = [n for n in wanted if n not in (*FREE_SETTINGS, *SWEEP_SETTINGS)]
    if found.get("mode") == "teacher":
        names = [name for name in names if name in TEACHER_SETTINGS]
    other = [
        f"--{name} was {found.get(name)}, is {wanted[name]}"
        for name in names
        if found.get(name) != wanted[name]
    ]
    if other:
        raise InputError(
            f"Expected the settings of the run in {folder}. Received: "
            + "; ".join(other)
        )


def claim_output_dir(config: RunConfig) -> None:
    """Creates the output folder, notes the settings in it, and tidies it up.

    Raises:
        InputError: If it cannot be written to.
    """
    folder = pathlib.Path(config.output_dir)
    try:
        remove_leftovers(folder)
        write_json(folder / "config.json", config.as_json())
    except OSError as error:
        raise InputError(
            f"Expected --output_dir to be a folder to write to. Received: {folder} "
            f"({error.strerror})"
        ) from None


def write_report(report: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes `report.json`, `report.html` and the figures."""
    pngs = {}
    for name, figure in (
        ("accuracy_against_macs", accuracy_against_macs(report)),
        ("search", search_by_trial(report)),
    ):
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        pngs[name] = stream.getvalue()
        with atomic_path(folder / "figures" / f"{name}.png") as temporary:
            pathlib.Path(temporary).write_bytes(pngs[name])
    was_searched = len(report["search"]["trials"]) > 1
    page = render(
        report,
        pngs["accuracy_against_macs"],
        report["command"],
        pngs["search"] if was_searched else None,
    )
    write_text(folder / "report.html", page)
    write_json(folder / "report.json", report)


def redraw(folder: pathlib.Path) -> dict[str, Any]:
    """Draws the page and figures of a finished run anew; returns its report.

    Raises:
        InputError: If the folder holds no readable `report.json`.
    """
    try:
        report: dict[str, Any] = read_json(folder / "report.json")
        write_report(report, folder)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"Expected --output_dir to hold the report.json of a finished run. "
            f"Received: {folder} ({type(error).__name__}: {error})"
        ) from None
    return report
