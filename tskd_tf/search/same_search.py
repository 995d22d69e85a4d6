"""Checks whether a search can resume in the folder of an earlier one."""

import pathlib
from typing import Any

from tskd_tf.choices import MACS, THIN
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.files import read_json_object, write_json


def note_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Writes the settings that a resumed search must share to a search's folder.

    Args:
        folder: Folder of the search.
        settings: JSON-serializable values, with a `recipe`.

    Raises:
        InputError: If the folder holds a search with other settings.
    """
    path = folder / "settings.json"
    if path.exists():
        _check_same_search(path, settings)
    write_json(path, settings)


def _check_same_search(path: pathlib.Path, settings: dict[str, Any]) -> None:
    found = read_json_object(path)
    # Settings that an earlier version lacked had their present default
    found["recipe"] = {**Recipe(family=THIN).as_json(), **found.get("recipe", {})}
    found.setdefault("families", [THIN])
    found.setdefault("minimize", MACS)
    found.setdefault("judge_by", "float")
    if found != settings:
        other = [name for name in settings if found.get(name) != settings[name]]
        raise InputError(
            f"Expected a search of the same settings in {path.parent}. Received: one "
            f"with other {', '.join(other)}; use another folder"
        )
