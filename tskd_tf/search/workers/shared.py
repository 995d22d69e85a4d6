"""The files that the processes of a search share: the chief writes them once."""

import importlib
import pathlib
import shutil
import sys
import uuid
from typing import Any

import keras
import numpy as np

from tskd_tf.data.augmentation import Augmentation
from tskd_tf.data.images import save_images
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.errors import InputError, in_one_line
from tskd_tf.files import atomic_path, read_json, write_json
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.networks.width import StudentBuilder
from tskd_tf.search.builders import student_builders
from tskd_tf.search.candidate import Candidate
from tskd_tf.search.plan import SearchPlan
from tskd_tf.search.trainer import Trainer

_PLAN = "plan.json"


def share(
    trainer: Trainer, build_student: StudentBuilder | None, folder: pathlib.Path
) -> str:
    """Writes all files that a worker needs to train trials; the plan comes last.

    Args:
        trainer: The chief's trainer.
        build_student: The user's function of the rate, or None.
        folder: Folder of the search, at the same path for all processes.

    Returns:
        The id of the search. It stays the same in a resumed search, for workers that
        still run.

    Raises:
        InputError: If another process could not import the builder.
    """
    builder = None if build_student is None else importable_name(build_student)
    shared = folder / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    with atomic_path(shared / "teacher.keras") as temporary:
        trainer.teacher.save(temporary)
    transfer, validation = trainer.transfer, trainer.validation
    save_images(transfer.images, shared / "images.npy")
    save_images(validation.images, shared / "validation_images.npy")
    arrays: dict[str, Any] = {
        "labels": transfer.labels,
        "teacher_logits": transfer.teacher_logits,
        "views": transfer.views,
        "validation_labels": validation.class_ids,
    }
    with atomic_path(shared / "targets.npz") as temporary:
        np.savez(temporary, **{k: v for k, v in arrays.items() if v is not None})
    task, recipe = trainer.task, trainer.recipe
    kept_id = read_search_id(folder) if is_shared(folder) else ""
    search_id = kept_id or uuid.uuid4().hex
    plan = {
        "search_id": search_id,
        "task": [task.class_ids, task.num_classes, task.head, task.class_names],
        "recipe": recipe.as_json(),
        "views_of": transfer.augmentation._asdict(),
        "plan": trainer.plan._asdict(),
        "log_dir": trainer.log_dir and str(pathlib.Path(trainer.log_dir).resolve()),
        "build_student": builder,
        "modules": sorted(own_modules(trainer.teacher)),
    }
    write_json(shared / _PLAN, plan)
    return search_id


def is_shared(folder: pathlib.Path) -> bool:
    """Whether a chief has written all files that a worker needs."""
    return (folder / "shared" / _PLAN).exists()


def read_search_id(folder: pathlib.Path) -> str:
    """Reads the id of a search.

    Raises:
        InputError: If the file is damaged.
    """
    # A search of an earlier version has no id
    search_id: str = read_json(folder / "shared" / _PLAN).get("search_id", "")
    return search_id


def stop_sharing(folder: pathlib.Path) -> None:
    """Deletes the files of `share`, which hold a second copy of the images."""
    shared = folder / "shared"
    # The plan first, so that no worker starts on the rest
    (shared / _PLAN).unlink(missing_ok=True)
    shutil.rmtree(shared, ignore_errors=True)


def load_shared(folder: pathlib.Path) -> Trainer:
    """The trainer of a worker, with the chief's data and settings.

    Raises:
        InputError: If a file is damaged, or if the user's own layers or builder cannot
            be imported here.
    """
    shared = folder / "shared"
    plan = read_json(shared / _PLAN)
    for module in plan["modules"]:
        _import(module)
    teacher = load_kept_model(shared / "teacher.keras")
    ids, num_classes, head, names = plan["task"]
    task = Task(ids, num_classes, head, names)
    recipe = Recipe.from_json(plan["recipe"])
    with np.load(shared / "targets.npz", allow_pickle=False) as stored:
        targets = dict(stored)
    transfer = TransferSet(
        np.load(shared / "images.npy", mmap_mode="r"),
        targets["labels"],
        targets["teacher_logits"],
        None,
        Augmentation(**plan["views_of"]),
        targets.get("views"),
        task,
    )
    validation = Split(
        np.load(shared / "validation_images.npy", mmap_mode="r"),
        targets["validation_labels"],
    )
    search_plan = SearchPlan(**plan["plan"])
    candidates = [Candidate(*candidate) for candidate in search_plan.candidates]
    search_plan = search_plan._replace(candidates=candidates)
    builder: Any = None
    if plan["build_student"] is not None:
        module, _, name = plan["build_student"].partition(":")
        builder = getattr(_import(module), name)
    builders = student_builders(teacher, transfer, task, recipe, candidates, builder)
    return Trainer(
        teacher,
        transfer,
        validation,
        task,
        recipe,
        search_plan,
        plan["log_dir"],
        2,
        builders,
    )


def check_importable(
    teacher: keras.Model, build_student: StudentBuilder | None
) -> None:
    """Checks that workers can import the user's own code.

    Raises:
        InputError: If the code is in the running script, which workers do not import.
    """
    if build_student is not None:
        importable_name(build_student)
    if "__main__" in own_modules(teacher):
        raise InputError(
            "Expected layers that worker processes can import from a module. "
            f"Received: {teacher.name}, with a layer of the script that runs"
        )


def own_modules(teacher: keras.Model) -> set[str]:
    """The modules of the user's own layers and functions in a model."""
    registered = keras.saving.get_custom_objects()
    found: set[str] = set()

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            name = value.get("registered_name")
            if name in registered:
                found.add(registered[name].__module__)
            elif name is not None and value["module"] is None:
                # Keras writes this for an unregistered class of the script
                found.add("__main__")
            visit(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                visit(part)

    visit(keras.saving.serialize_keras_object(teacher))
    return found


def importable_name(build_student: StudentBuilder) -> str:
    """The name `module:function` by which another process imports a builder.

    Raises:
        InputError: If another process cannot import it.
    """
    module = getattr(build_student, "__module__", "")
    name = getattr(build_student, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None)
    if module == "__main__" or found is not build_student:
        raise InputError(
            "Expected build_student that worker processes can import: a function at "
            "the top level of a module other than the script. "
            f"Received: {build_student!r}"
        )
    return f"{module}:{name}"


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # the user's code may raise anything
        raise InputError(
            f"Expected a module {module} as on the chief, for your own layers or "
            f"students. Received: {type(error).__name__}: {in_one_line(error)}"
        ) from error
