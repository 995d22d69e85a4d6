"""Whether a search goes on in the folder of another one."""

import pathlib
from typing import Any

from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.files import read_json_object, write_json


def note_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Notes in a search's folder what a search that goes on there has in common.

    Args:
        folder: Of the search.
        settings: As JSON-able values, with a `recipe`.

    Raises:
        InputError: If a search of other settings is in the folder.
    """
    path = folder / "settings.json"
    if path.exists():
        _check_same_search(path, settings)
    write_json(path, settings)


def _check_same_search(path: pathlib.Path, settings: dict[str, Any]) -> None:
    found = read_json_object(path)
    # What an earlier version knew no setting for was as it is by default
    found["recipe"] = {**Recipe().as_json(), **found.get("recipe", {})}
    if found != settings:
        other = [name for name in settings if found.get(name) != settings[name]]
        raise InputError(
            f"Expected a search of the same settings in {path.parent}. Received: one "
            f"with other {', '.join(other)}; use another folder"
        )
