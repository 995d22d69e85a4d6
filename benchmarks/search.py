"""A whole search for the smallest student, compared with KerasTuner's searches.

python benchmarks/search.py [--tasks mnist:2,mnist:5,mnist:10,cifar10:2,cifar10:10]
python benchmarks/search.py --tasks mnist:2 --seeds 1 --epochs 2 --train_examples 2000

The task `mnist:2` is the first two classes of MNIST. All contestants have the same
teacher, images, candidate rates, epochs per trial, batch size, Adam with the same
cosine, and the loss of Eq. 8:

- ours: the whole `tskd_tf.find_smallest_student`: capture of soft targets, search,
  control on hard labels, and verdict on the test data. The other contestants only
  search. The seconds of our search alone are a separate column. It uses the precision
  and the steps per execution that a run chooses by default
- grid: `keras_tuner.GridSearch` over `keras.distillation.Distiller`, as a careful user
  of Keras would write it: the corrected loss of distill_epoch.py, students thinned by
  `scale_width`, and the score of the last epoch, whose weights are kept
- ours_two_workers: as ours, with `num_workers=2`, each with half of the cores. The time
  includes their start; the seconds of search are the sum over both workers' trials
- hyperband: `keras_tuner.Hyperband` over the same distiller; `max_epochs` is the number
  of epochs per trial. Trials that go on keep their weights and optimiser state, under
  one cosine for all `max_epochs`

KerasTuner has no constraints, so the score replaces the constraint of Eq. 4. Below the
floor it is the accuracy on the validation images; otherwise it is 1 plus the share of
the teacher's multiply-adds that is saved. The answer is the smallest rate whose student
reached the floor after its last epoch, for any number of epochs, or none.

The trials of a seed start from that seed. Contestants take turns, in an order that
differs between seeds and tasks. Teachers are trained once per data set on the same
images; this time is not measured.

With --partial each finished search is added to a file. A search in the file with the
same settings, teacher and seed is not run again, so an interrupted run can be started
again. --first_seed divides the seeds among processes, each with its own file and core
(`taskset -c 0`) and the same --teachers.
"""

import argparse
import dataclasses
import gc
import json
import os
import pathlib
import random
import statistics
import tempfile
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import keras_tuner  # noqa: E402
import tensorflow as tf  # noqa: E402
from timing import emit  # noqa: E402

from tskd_tf.acceptance import accuracy_floor  # noqa: E402
from tskd_tf.data.images import fingerprint  # noqa: E402
from tskd_tf.data.splits import ImageData, Split  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.data.tfds import load  # noqa: E402
from tskd_tf.distillation.device import choose_precision  # noqa: E402
from tskd_tf.distillation.recipe import Recipe  # noqa: E402
from tskd_tf.distillation.training import train_teacher  # noqa: E402
from tskd_tf.files import atomic_path  # noqa: E402
from tskd_tf.networks.costs import complexity  # noqa: E402
from tskd_tf.networks.evaluate import accuracy, predict_logits  # noqa: E402
from tskd_tf.networks.rebuild import with_policy  # noqa: E402
from tskd_tf.networks.width import scale_width, spaced_rates  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402
from tskd_tf.search.candidates import buildable_rates  # noqa: E402
from tskd_tf.search.smallest_student import find_smallest_student  # noqa: E402

TASKS = "mnist:2,mnist:5,mnist:10,cifar10:2,cifar10:10"
TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
# As in mnist.flags and cifar10.flags
MAX_ACCURACY_LOSS = {"mnist": 0.005, "cifar10": 0.02}
VALIDATION_BATCH = 1000


class Setting(NamedTuple):
    """Inputs that all contestants of a task share."""

    name: str
    teacher: keras.Model
    data: ImageData
    task: Task
    rates: list[float]
    max_accuracy_loss: float
    floor: float
    recipe: Recipe


def ours(setting, seed, num_workers=1):
    found = find_smallest_student(
        setting.teacher,
        setting.data.train,
        setting.data.validation,
        setting.data.test,
        task=setting.task,
        max_accuracy_loss=setting.max_accuracy_loss,
        rates=setting.rates,
        recipe=dataclasses.replace(setting.recipe, seed=seed),
        verbose=0,
        num_workers=num_workers,
    )
    search = found.report["search"]
    trials = [(t["rate"], t["accuracy"], t["epochs"]) for t in search["trials"]]
    is_feasible = any(t["feasible"] for t in search["trials"])
    return {
        "search_seconds": search["seconds"],
        # The control is trained like a trial
        "epochs_trained": sum(t[2] for t in trials) + setting.recipe.epochs,
        "answer": found.report["student"]["rate"] if is_feasible else None,
        "trials": trials,
    }


class DistilledWidth(keras_tuner.HyperModel):
    """A student of a rate in Keras's distiller, with the score for Eq. 4."""

    def __init__(self, setting, num_steps, seed):
        super().__init__()
        self.setting, self.num_steps, self.seed = setting, num_steps, seed
        # Keras's distiller freezes it
        self.teacher = with_policy(setting.teacher, "float32")
        self.teacher_macs = complexity(setting.teacher).num_macs
        self.trials = []

    def build(self, hp):
        keras.utils.set_random_seed(self.seed)
        # Not `Float`: with a step of 0.05 it never proposes 1.0
        rate = hp.Choice("rate", self.setting.rates)
        recipe = self.setting.recipe
        distiller = keras.distillation.Distiller(
            self.teacher,
            scale_width(self.teacher, rate, self.setting.task),
            # An object: the loss given by name treats logits as probabilities
            [
                keras.distillation.LogitsDistillation(
                    recipe.temperature, loss=keras.losses.KLDivergence()
                )
            ],
            # It multiplies by the square of the temperature, which Eq. 8 does not
            distillation_loss_weights=[1 / recipe.temperature**2],
            student_loss_weight=1 - recipe.soft_loss_weight,
        )
        schedule = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate, self.num_steps * recipe.epochs
        )
        distiller.compile(
            keras.optimizers.Adam(schedule),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        # Before Hyperband loads weights: otherwise it skips the optimiser's
        distiller.build((None, *self.teacher.input_shape[1:]))
        distiller.optimizer.build(distiller.trainable_variables)
        return distiller

    def fit(self, hp, model, images, labels, validation, **fit_settings):
        history = model.fit(
            images,
            labels,
            batch_size=self.setting.recipe.batch_size,
            validation_data=tuple(validation),
            validation_batch_size=VALIDATION_BATCH,
            **fit_settings,
        )
        # Of the last epoch, as its weights are kept; KerasTuner would use the best
        # epoch of a history. The quotient is computed again, as Keras's is float32
        num_images = len(validation.images)
        num_right = round(history.history["val_accuracy"][-1] * num_images)
        got = num_right / num_images
        self.trials.append((hp.get("rate"), got, len(history.epoch)))
        if got < self.setting.floor:
            return {"bargain": got}
        return {"bargain": 2 - complexity(model.student).num_macs / self.teacher_macs}


def keras_tuner_search(setting, seed, make_tuner):
    filtered = setting.task.filter
    images, labels = filtered(tuple(setting.data.train))
    validation = Split(*filtered(tuple(setting.data.validation)))
    num_steps = setting.recipe.num_steps(len(images))
    model = DistilledWidth(setting, num_steps, seed)
    with tempfile.TemporaryDirectory() as folder:
        tuner = make_tuner(
            model,
            objective=keras_tuner.Objective("bargain", direction="max"),
            seed=seed,
            directory=folder,
            project_name="search",
            # An exception is an error of this file, not a bad trial
            max_consecutive_failed_trials=1,
        )
        tuner.search(
            images,
            labels,
            validation,
            epochs=setting.recipe.epochs,
            verbose=0,
        )
        best = tuner.oracle.get_best_trials(1)[0]
    return {
        "epochs_trained": sum(trial[2] for trial in model.trials),
        "answer": best.hyperparameters.get("rate") if best.score >= 1 else None,
        "trials": model.trials,
    }


def grid(setting, seed):
    return keras_tuner_search(setting, seed, keras_tuner.GridSearch)


def hyperband(setting, seed):
    def make_tuner(*arguments, **options):
        epochs = setting.recipe.epochs
        return keras_tuner.Hyperband(*arguments, max_epochs=epochs, **options)

    return keras_tuner_search(setting, seed, make_tuner)


def ours_two_workers(setting, seed):
    return ours(setting, seed, num_workers=2)


CONTESTANTS = {
    "ours": ours,
    "grid": grid,
    "hyperband": hyperband,
    "ours_two_workers": ours_two_workers,
}


def load_images(dataset, train_examples):
    """The data set with the first `train_examples` training images."""
    data = load(dataset)
    train = Split(*(part[:train_examples] for part in data.train))
    return data._replace(train=train)


def trained_teacher(dataset, data, recipe, folder):
    """The teacher from the folder; it is trained and saved there if it is missing."""
    path = folder / f"{dataset}_{len(data.train.images)}.keras"
    if not path.exists():
        keras.utils.set_random_seed(recipe.seed)
        name = TEACHERS[dataset]
        teacher = build_teacher(name, data.train.images, len(data.class_names))
        teacher = train_teacher(teacher, data.train, data.validation, recipe, verbose=0)
        with atomic_path(path) as temporary:
            teacher.save(temporary)
    return keras.saving.load_model(path, compile=False)


def prepare(name, teacher, data, options):
    """The inputs of a task's contestants."""
    dataset, num_classes = name.split(":")
    task = Task(range(int(num_classes)), class_names=data.class_names)
    recipe = Recipe(
        epochs=options.epochs,
        precision=options.precision,
        learning_rate=2e-3,
        initialize="random",
    )
    num_train = len(task.indices(data.train.class_ids))
    max_accuracy_loss = options.max_accuracy_loss
    if max_accuracy_loss is None:
        max_accuracy_loss = MAX_ACCURACY_LOSS[dataset]
    images, labels = task.filter(tuple(data.validation))
    of_teacher = accuracy(task.select_logits(predict_logits(teacher, images)), labels)
    return Setting(
        name,
        teacher,
        data,
        task,
        list(
            buildable_rates(
                teacher, task, spaced_rates(options.rate_step), Recipe(family="thin")
            )
        ),
        max_accuracy_loss,
        accuracy_floor(of_teacher, max_accuracy_loss),
        dataclasses.replace(recipe, epochs=recipe.num_epochs(num_train)),
    )


def description(setting):
    """The settings that a search's results depend on, for JSON."""
    count = setting.task.indices
    return {
        "task": setting.name,
        "num_train": len(count(setting.data.train.class_ids)),
        "num_validation": len(count(setting.data.validation.class_ids)),
        "rates": setting.rates,
        "max_accuracy_loss": setting.max_accuracy_loss,
        "floor": setting.floor,
        "epochs_a_trial": setting.recipe.epochs,
        "batch_size": setting.recipe.batch_size,
        "precision": setting.recipe.precision,
        "teacher": fingerprint(*setting.teacher.get_weights()),
    }


def timed(contestant, setting, seed):
    """The result of a search, with its wall-clock seconds."""
    keras.backend.clear_session()
    gc.collect()
    start = time.perf_counter()
    outcome = contestant(setting, seed)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "search_seconds": seconds, **outcome}


def run_all(settings, contestants, first_seed, num_seeds, partial):
    """A row for each search, including those of earlier runs."""
    earlier = []
    if partial is not None and partial.exists():
        earlier = [json.loads(line) for line in partial.read_text().splitlines()]
    generator = random.Random(1)
    rows = []
    for seed in range(1, num_seeds + 1):
        for setting in settings:
            # Also drawn for skipped seeds, so that a seed has one order in every run
            order = generator.sample(contestants, len(contestants))
            for name in order if seed >= first_seed else []:
                wanted = {**description(setting), "contestant": name, "seed": seed}
                same = [row for row in earlier if wanted.items() <= row.items()]
                if same:
                    rows.append(same[-1])
                    continue
                row = {**wanted, **timed(CONTESTANTS[name], setting, seed)}
                rows.append(row)
                if partial is not None:
                    with partial.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    return rows


def is_near(answer, others, rates):
    """Whether two answers differ by at most one candidate; None equals only None."""
    if answer is None or others is None:
        return answer is others
    return abs(rates.index(answer) - rates.index(others)) <= 1


def summarise(rows, task, name, base):
    """Medians over the seeds of a contestant in a task, for JSON."""
    by_contestant = {}
    for row in rows:
        if row["task"] == task:
            by_contestant.setdefault(row["contestant"], {})[row["seed"]] = row
    mine, bases = by_contestant[name], by_contestant[base]
    found = {
        "task": task,
        "contestant": name,
        "median_seconds": statistics.median(r["seconds"] for r in mine.values()),
        "median_search_seconds": statistics.median(
            row["search_seconds"] for row in mine.values()
        ),
        f"time_over_{base}": statistics.median(
            row["seconds"] / bases[seed]["seconds"] for seed, row in mine.items()
        ),
        f"search_time_over_search_of_{base}": statistics.median(
            row["search_seconds"] / bases[seed]["search_seconds"]
            for seed, row in mine.items()
        ),
        "median_epochs_trained": statistics.median(
            row["epochs_trained"] for row in mine.values()
        ),
        "answers": [row["answer"] for row in mine.values()],
        "num_searches": len(mine),
    }
    if "grid" in by_contestant:
        found["num_within_one_of_grid"] = sum(
            is_near(row["answer"], by_contestant["grid"][seed]["answer"], row["rates"])
            for seed, row in mine.items()
        )
    return found


def table_row(found, base):
    agreement = found.get("num_within_one_of_grid")
    return [
        found["contestant"],
        found["task"],
        f"{found['median_seconds']:.1f}",
        f"{found['median_search_seconds']:.1f}",
        f"{found[f'time_over_{base}']:.2f}",
        f"{found[f'search_time_over_search_of_{base}']:.2f}",
        f"{found['median_epochs_trained']:g}",
        " ".join("none" if a is None else f"{a:g}" for a in found["answers"]),
        "" if agreement is None else f"{agreement} of {found['num_searches']}",
    ]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks", default=TASKS, help="data set:number of classes, ..."
    )
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--seeds", type=int, default=5, help="the last seed")
    parser.add_argument("--first_seed", type=int, default=1)
    parser.add_argument(
        "--epochs", type=int, help="epochs per trial; by default as a run chooses"
    )
    parser.add_argument(
        "--teacher_epochs",
        type=int,
        help="epochs of the teacher; by default as a run chooses",
    )
    parser.add_argument(
        "--train_examples",
        type=int,
        help="number of training images of all classes; by default all",
    )
    parser.add_argument(
        "--max_accuracy_loss",
        type=float,
        help=f"largest loss allowed, a fraction; by default {MAX_ACCURACY_LOSS}",
    )
    parser.add_argument("--rate_step", type=float, default=0.05)
    parser.add_argument("--precision", default="auto", help="precision of ours")
    parser.add_argument(
        "--partial", type=pathlib.Path, help="file that keeps finished searches"
    )
    parser.add_argument(
        "--teachers",
        type=pathlib.Path,
        help="folder of trained teachers; by default the folder of --partial, if given",
    )
    options = parser.parse_args()
    options.tasks = options.tasks.split(",")
    options.contestants = options.contestants.split(",")
    for task in options.tasks:
        dataset, _, num_classes = task.partition(":")
        if dataset not in TEACHERS or num_classes not in map(str, range(2, 11)):
            parser.error(f"expected tasks like mnist:2, up to 10 classes, not {task}")
    if not 1 <= options.first_seed <= options.seeds:
        parser.error(f"expected --first_seed of 1 to --seeds ({options.seeds})")
    unknown = [name for name in options.contestants if name not in CONTESTANTS]
    if unknown:
        parser.error(
            f"expected contestants out of {', '.join(CONTESTANTS)}, not {unknown}"
        )
    options.precision = choose_precision(options.precision)
    if options.partial is not None:
        options.partial.parent.mkdir(parents=True, exist_ok=True)
        options.teachers = options.teachers or options.partial.parent
    return options


def main():
    options = parse_options()
    tf.get_logger().setLevel("ERROR")
    teacher_recipe = Recipe(
        epochs=options.teacher_epochs, precision=options.precision, learning_rate=2e-3
    )
    given = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.teachers or pathlib.Path(temporary)
        for dataset in dict.fromkeys(task.split(":")[0] for task in options.tasks):
            data = load_images(dataset, options.train_examples)
            given[dataset] = (
                trained_teacher(dataset, data, teacher_recipe, folder),
                data,
            )
    settings = [
        prepare(task, *given[task.split(":")[0]], options) for task in options.tasks
    ]
    rows = run_all(
        settings,
        options.contestants,
        options.first_seed,
        options.seeds,
        options.partial,
    )
    base = "ours" if "ours" in options.contestants else options.contestants[0]
    found = [
        summarise(rows, task, name, base)
        for task in options.tasks
        for name in options.contestants
    ]
    header = [
        "contestant",
        "task",
        "seconds",
        "of search",
        f"time over {base}",
        "search over search",
        "epochs",
        "answers",
        "within one of the grid's",
    ]
    emit(
        "search",
        {"summary": found, "searches": rows},
        header,
        [table_row(one, base) for one in found],
    )


if __name__ == "__main__":
    main()
