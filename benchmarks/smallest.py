"""The smallest students that the package finds, on a few tasks and seeds.

python benchmarks/smallest.py --works=mnist_ten,mnist_ten_few --seeds=3 \
  --partial=docs/experiments/smaller/students.jsonl

Each work is a teacher, a task and a bargain. Each seed trains a teacher of its own and
searches with the package's defaults. What decides on a student are validation images;
test images judge it once. A row is written per search, so that an interrupted benchmark
goes on. `--settings` compares: `default`, and `thin`, which searches thin students from
random weights at a learning rate of 0.002, the defaults of earlier versions.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras  # noqa: E402
from timing import emit  # noqa: E402

from tskd_tf.choices import Budgets  # noqa: E402
from tskd_tf.data.augmentation import Augmentation  # noqa: E402
from tskd_tf.data.splits import Split  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.data.tfds import load  # noqa: E402
from tskd_tf.distillation.device import choose_precision  # noqa: E402
from tskd_tf.distillation.recipe import Recipe  # noqa: E402
from tskd_tf.distillation.training import train_teacher  # noqa: E402
from tskd_tf.files import atomic_path  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402
from tskd_tf.search.smallest_student import find_smallest_student  # noqa: E402

TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "thin": {"family": "thin", "initialize": "random", "learning_rate": 2e-3},
}


class Work(NamedTuple):
    """A task and its bargain.

    Attributes:
        dataset: Name of the data set.
        class_ids: The task's classes.
        search: Arguments of `find_smallest_student`.
        num_images: Number of training and validation images. Default: all.
        recipe: Settings of all trainings, the teacher's included. Default: none.
        teacher_epochs: Passes of the teacher over the images. Default: 10.
    """

    dataset: str
    class_ids: range
    search: dict[str, Any]
    num_images: int | None = None
    recipe: dict[str, Any] = {}
    teacher_epochs: int = 10


SHIFTED = {"augmentation": Augmentation(shift=1)}
WORKS = {
    "mnist_ten": Work("mnist", range(10), {"max_accuracy_loss": 0.005}),
    "mnist_ten_few": Work("mnist", range(10), {"max_accuracy_loss": 0.005}, 10_000),
    "mnist_two": Work("mnist", range(2), {"max_accuracy_loss": 0.002}),
    "mnist_two_params": Work(
        "mnist", range(2), {"max_accuracy_loss": 0.002, "minimize": "params"}
    ),
    "mnist_ten_budget": Work(
        "mnist", range(10), {"budgets": Budgets(max_macs=49_300)}, None, SHIFTED, 20
    ),
    "cifar10_two": Work("cifar10", range(2), {"max_accuracy_loss": 0.02}),
}


def data_of(work):
    """The images of a work; of few images, a tenth is for validation."""
    data = load(work.dataset)
    if work.num_images is None:
        return data
    num_validation = work.num_images // 10
    return data._replace(
        train=Split(*(part[: work.num_images - num_validation] for part in data.train)),
        validation=Split(*(part[:num_validation] for part in data.validation)),
    )


def teacher_of(work, data, recipe, folder):
    """The teacher of a seed; it is trained once for all works that share it."""
    kind = "_".join(str(part) for part in (work.dataset, work.num_images, recipe.seed))
    path = folder / f"{kind}_{work.teacher_epochs}.keras"
    if not path.exists():
        keras.utils.set_random_seed(recipe.seed)
        name = TEACHERS[work.dataset]
        teacher = build_teacher(name, data.train.images, len(data.class_names))
        recipe = dataclasses.replace(recipe, epochs=work.teacher_epochs)
        teacher = train_teacher(teacher, data.train, data.validation, recipe, verbose=0)
        with atomic_path(path) as temporary:
            teacher.save(temporary)
    return keras.saving.load_model(path, compile=False)


def search(name, setting, seed, options):
    """The row of one search."""
    work = WORKS[name]
    data = data_of(work)
    recipe = Recipe(seed=seed, precision=choose_precision("auto"), **work.recipe)
    teacher = teacher_of(work, data, recipe, pathlib.Path(options.teachers))
    task = Task(work.class_ids, class_names=data.class_names, head=options.head)
    arguments = dict(work.search)
    if setting == "default" and options.refine:
        arguments["refine"] = True
    start = time.monotonic()
    found = find_smallest_student(
        teacher,
        data.train,
        data.validation,
        data.test,
        task=task,
        recipe=dataclasses.replace(recipe, **SETTINGS[setting]),
        verbose=0,
        **arguments,
    )
    report = found.report
    student, trials = report["student"], report["search"]["trials"]
    return {
        "work": name,
        "setting": setting + "_refined" * bool(arguments.get("refine")),
        "seed": seed,
        "family": student.get("family", "thin"),
        "widths": student["widths"],
        "num_macs": student["num_macs"],
        "num_params": student["num_params"],
        "teacher_accuracy": report["teacher"]["accuracy"],
        "accuracy_loss": report["accuracy_loss"],
        "is_feasible": any(trial["feasible"] for trial in trials),
        "meets_threshold": report["meets_threshold"],
        "num_trials": len(trials),
        "epochs_trained": sum(trial["epochs"] for trial in trials),
        "seconds": time.monotonic() - start,
    }


def summarise(rows):
    """Rows of a table: means over the seeds of each work and setting."""
    table = []
    for key in dict.fromkeys((row["work"], row["setting"]) for row in rows):
        same = [row for row in rows if (row["work"], row["setting"]) == key]

        def mean(name, same=same):
            return statistics.fmean(row[name] for row in same)

        table.append(
            [
                *key,
                len(same),
                f"{mean('num_macs'):,.0f}",
                f"{mean('num_params'):,.0f}",
                f"{100 * mean('teacher_accuracy'):.2f}",
                f"{100 * mean('accuracy_loss'):.2f}",
                f"{sum(row['meets_threshold'] for row in same)} of {len(same)}",
                f"{mean('seconds'):.0f}",
            ]
        )
    return table


HEADER = ["work", "setting", "seeds", "multiply-adds", "parameters", "teacher %"] + [
    "points lost",
    "kept on test images",
    "seconds",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--settings", default="default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=1)
    parser.add_argument("--head", default="task", help="full or task")
    parser.add_argument("--refine", action="store_true", help="refine the students")
    parser.add_argument("--partial", default="smallest.jsonl", help="a row per search")
    parser.add_argument("--teachers", default="teachers", help="folder of the teachers")
    options = parser.parse_args()
    pathlib.Path(options.teachers).mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(options.partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    lines = partial.read_text().splitlines() if partial.exists() else []
    rows = [json.loads(line) for line in lines]
    refined = "_refined" * options.refine
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for work in options.works.split(","):
            for setting in options.settings.split(","):
                key = work, setting + refined * (setting == "default"), seed
                if any((r["work"], r["setting"], r["seed"]) == key for r in rows):
                    continue
                rows.append(search(work, setting, seed, options))
                with partial.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                sys.stderr.write(f"{rows[-1]}\n")
    emit("smallest", {"rows": rows}, HEADER, summarise(rows))


if __name__ == "__main__":
    main()
