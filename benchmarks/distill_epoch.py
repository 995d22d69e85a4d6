"""One distillation epoch of `Distiller`, compared with its alternatives.

python benchmarks/distill_epoch.py [--dataset mnist,cifar10] [--rates 1.0,0.3,0.1]
python benchmarks/distill_epoch.py --contestants ours,hard_labels

All contestants have the same images, batch size, student network and optimiser, and no
metrics except the losses:

- ours: `Distiller.fit` on a `transfer_set`, with the precision and the steps per
  execution that a run chooses by default
- ours_float32: as ours, in float32, as all contestants below except hard_labels
- hard_labels: the lower bound: plain `fit` of the same student on hard labels only. It
  has the precision, batches and steps per execution of ours, and no XLA. No other
  setting was clearly faster (whole-epoch executions, float32, a bare `train_step`; the
  last was within 6% on a busy machine)
- keras_distillation: `keras.distillation.Distiller` with its defaults: arrays, one step
  per execution, `jit_compile="auto"`, which means no XLA on a CPU
- live_teacher: the custom `train_step` of the Keras guides, which runs the teacher on
  each batch, with the same defaults
- torch_live, torch_stored: a plain PyTorch loop, if PyTorch is installed, in the
  `channels_last` layout (twice as fast here as the default one). It uses one thread or
  one per core, whichever is faster at the start. Its OpenMP threads wait for each
  other. Other work on the cores can slow it eightfold, and TensorFlow far less. So its
  rows are valid from an idle machine only

All contestants minimise the same loss. Keras 3.15's `LogitsDistillation` is
τ²·KL(P_T^τ ‖ P_S^τ); its weight here is 1/τ². So its total is Eq. 8 minus λ times the
entropy of P_T^τ, which is constant in the student. This was checked once: losses differ
by that entropy and gradients are equal, both to 2e-7. (Keras clips probabilities at
1e-7, which matters only for smaller ones.)

The teacher's weights are random, and each call continues the training; neither changes
the time. The pass that stores the logits is not included; see teacher_pass.py.
"""

import argparse
import functools
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from timing import alternate, emit, medians, ratios  # noqa: E402

from tskd_tf.data import batches, tfds  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.distillation.device import (  # noqa: E402
    choose_precision,
    choose_steps_per_execution,
)
from tskd_tf.distillation.distiller import Distiller  # noqa: E402
from tskd_tf.distillation.soft_targets import capture  # noqa: E402
from tskd_tf.networks.rebuild import with_policy  # noqa: E402
from tskd_tf.networks.width import scale_width  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402

BATCH_SIZE = 128
TEMPERATURE, SOFT_LOSS_WEIGHT = 3.0, 0.9
TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
# Enough images that an epoch takes much longer than the start of `fit`
NUM_IMAGES = {"mnist": 25_600, "cifar10": 12_800}


def steps_per_execution(num_images):
    """The number of steps per execution that a run chooses by default."""
    return choose_steps_per_execution(-(-num_images // BATCH_SIZE))


def ours(teacher, stored, rate, precision):
    distiller = Distiller(scale_width(teacher, rate, dtype_policy=precision))
    distiller.compile(
        "adam",
        temperature=TEMPERATURE,
        soft_loss_weight=SOFT_LOSS_WEIGHT,
        steps_per_execution=steps_per_execution(len(stored.images)),
    )
    batches = stored.batches(BATCH_SIZE, seed=1)
    return lambda: distiller.fit(batches, verbose=0, shuffle=False)


def ours_float32(teacher, stored, rate, precision):
    return ours(teacher, stored, rate, "float32")


def hard_labels(teacher, stored, rate, precision):
    student = scale_width(teacher, rate, dtype_policy=precision)
    student.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution(len(stored.images)),
        jit_compile=False,
    )
    examples = batches.batches(
        (stored.images, stored.labels), BATCH_SIZE, shuffle_seed=1
    )
    return lambda: student.fit(examples, verbose=0, shuffle=False)


def keras_distillation(teacher, stored, rate, precision):
    from keras.distillation import Distiller as KerasDistiller
    from keras.distillation import LogitsDistillation

    loss = LogitsDistillation(TEMPERATURE, loss=keras.losses.KLDivergence())
    distiller = KerasDistiller(
        teacher,
        scale_width(teacher, rate),
        [loss],
        # It multiplies by the square of the temperature, which Eq. 8 does not
        distillation_loss_weights=[1 / TEMPERATURE**2],
        student_loss_weight=1 - SOFT_LOSS_WEIGHT,
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return lambda: distiller.fit(
        stored.images, stored.labels, batch_size=BATCH_SIZE, verbose=0
    )


class LiveTeacher(keras.Model):
    """The distiller of the Keras examples with the loss of Eq. 8."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher

    def train_step(self, batch):
        images, labels = batch
        teacher_logits = self.teacher(images, training=False)
        with tf.GradientTape() as tape:
            logits = self.student(images, training=True)
            hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            soft = tf.nn.softmax_cross_entropy_with_logits(
                tf.nn.softmax(teacher_logits / TEMPERATURE), logits / TEMPERATURE
            )
            loss = tf.reduce_mean(
                (1 - SOFT_LOSS_WEIGHT) * hard + SOFT_LOSS_WEIGHT * soft
            )
        variables = self.student.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


def live_teacher(teacher, stored, rate, precision):
    model = LiveTeacher(scale_width(teacher, rate), teacher)
    model.compile("adam")
    return lambda: model.fit(
        stored.images, stored.labels, batch_size=BATCH_SIZE, verbose=0
    )


def torch_loop(teacher, stored, rate, precision, is_live):
    import torch

    torch.manual_seed(1)
    student, torch_teacher = (
        torch_network(model).to(memory_format=torch.channels_last)
        for model in (scale_width(teacher, rate), teacher)
    )
    images = torch.from_numpy(stored.images).permute(0, 3, 1, 2)
    labels = torch.from_numpy(stored.labels).long()
    logits = torch.from_numpy(stored.teacher_logits)
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    functional = torch.nn.functional

    def epoch():
        for chosen in torch.randperm(len(images)).split(BATCH_SIZE):
            batch = images[chosen].float().contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                targets = torch_teacher(batch) if is_live else logits[chosen]
                targets = (targets / TEMPERATURE).softmax(-1)
            got = student(batch)
            hard = functional.cross_entropy(got, labels[chosen])
            soft = functional.cross_entropy(got / TEMPERATURE, targets)
            loss = (1 - SOFT_LOSS_WEIGHT) * hard + SOFT_LOSS_WEIGHT * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def torch_network(model):
    """The same layers in PyTorch, with other weights, which do not change the time."""
    import torch

    class Scale(torch.nn.Module):
        def forward(self, images):
            return images * (1 / 256)

    modules, channels = [Scale()], model.input_shape[-1]
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "Conv2D":
            padding = 2 if layer.padding == "same" else 0
            modules.append(torch.nn.Conv2d(channels, layer.filters, 5, padding=padding))
            channels = layer.filters
        elif kind == "MaxPooling2D":
            size = layer.pool_size[0]
            modules.append(torch.nn.MaxPool2d(size, 2, ceil_mode=size == 3))
        elif kind == "AveragePooling2D" and layer.strides[0] == 2:
            modules.append(torch.nn.AvgPool2d(3, 2, ceil_mode=True))
        elif kind == "ReLU":
            modules.append(torch.nn.ReLU())
        elif kind == "Flatten":
            modules.append(torch.nn.Flatten())
            channels = layer.output.shape[-1]
        elif kind == "Dense":
            modules.append(torch.nn.Linear(channels, layer.units))
            channels = layer.units
            if layer.activation.__name__ == "relu":
                modules.append(torch.nn.ReLU())
    return torch.nn.Sequential(*modules)


def available():
    """Functions that make the contestants that can run here, by name."""
    makers = {
        "ours": ours,
        "ours_float32": ours_float32,
        "hard_labels": hard_labels,
        "keras_distillation": keras_distillation,
        "live_teacher": live_teacher,
    }
    try:
        import torch  # noqa: F401
    except ImportError:
        return makers
    return {
        **makers,
        "torch_live": functools.partial(torch_loop, is_live=True),
        "torch_stored": functools.partial(torch_loop, is_live=False),
    }


def choose_torch_threads(teacher, stored):
    """Sets PyTorch to one thread or one per core, the faster one; gives the number."""
    import torch

    few = stored._replace(
        images=stored.images[: 8 * BATCH_SIZE],
        labels=stored.labels[: 8 * BATCH_SIZE],
        teacher_logits=stored.teacher_logits[: 8 * BATCH_SIZE],
    )
    epoch = torch_loop(teacher, few, 1.0, "float32", is_live=True)

    def run(num_threads):
        torch.set_num_threads(num_threads)
        epoch()

    contestants = {n: functools.partial(run, n) for n in {1, os.cpu_count()}}
    typical = medians(alternate(contestants, rounds=5))
    fastest = min(typical, key=typical.get)
    torch.set_num_threads(fastest)
    return fastest


def time_rate(makers, teacher, stored, rate, precision, rounds):
    """Seconds of each epoch, by contestant. Afterwards the models are released."""
    epochs = {
        # Each with a teacher of its own, as Keras's distiller freezes it
        name: make(with_policy(teacher, "float32"), stored, rate, precision)
        for name, make in makers.items()
    }
    seconds = alternate(epochs, rounds)
    del epochs
    keras.backend.clear_session()
    gc.collect()
    return seconds


def main():
    makers = available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default=",".join(TEACHERS))
    parser.add_argument("--rates", default="1.0,0.3,0.1")
    parser.add_argument("--contestants", default=",".join(makers))
    parser.add_argument(
        "--num_images",
        type=int,
        help=f"number of training images; by default {NUM_IMAGES}",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    chosen = arguments.contestants.split(",")
    unknown = [name for name in chosen if name not in makers]
    if unknown:
        parser.error(f"expected contestants out of {', '.join(makers)}, not {unknown}")
    makers = {name: makers[name] for name in chosen}
    precision = choose_precision(arguments.precision)
    base = "ours" if "ours" in makers else chosen[0]

    result, rows, torch_threads = [], [], {}
    for dataset in arguments.dataset.split(","):
        num_images = arguments.num_images or NUM_IMAGES[dataset]
        source = tfds.load(dataset)
        images, class_ids = (part[:num_images] for part in source.train)
        # Without LRN, which PyTorch defines differently
        teacher = build_teacher(TEACHERS[dataset], images, 10, use_lrn=False)
        stored = capture(teacher, images, class_ids, Task(range(10), 10))
        if any(name.startswith("torch") for name in makers):
            torch_threads[dataset] = choose_torch_threads(teacher, stored)
        for rate in (float(text) for text in arguments.rates.split(",")):
            seconds = time_rate(
                makers, teacher, stored, rate, precision, arguments.rounds
            )
            typical, relative = medians(seconds), ratios(seconds, base)
            best = {name: min(values) for name, values in seconds.items()}
            result.append(
                {
                    "dataset": dataset,
                    "rate": rate,
                    "num_images": len(images),
                    "median_seconds": typical,
                    "best_seconds": best,
                    f"time_over_{base}": relative,
                    f"best_time_over_best_of_{base}": {
                        name: value / best[base] for name, value in best.items()
                    },
                }
            )
            rows += [
                [
                    name,
                    dataset,
                    rate,
                    f"{len(images) / typical[name]:,.0f}",
                    f"{len(images) / best[name]:,.0f}",
                    f"{relative[name]:.2f}",
                    f"{best[name] / best[base]:.2f}",
                ]
                for name in makers
            ]
    settings = {
        "precision": precision,
        "batch_size": BATCH_SIZE,
        "rounds": arguments.rounds,
        "torch_threads": torch_threads,
        "epochs": result,
    }
    header = [
        "contestant",
        "data set",
        "rate",
        "images a second",
        "at best",
        f"time over {base}",
        "best over best",
    ]
    emit("distill_epoch", settings, header, rows)


if __name__ == "__main__":
    main()
