"""One distillation epoch: ours against what a user would pick instead.

python benchmarks/distill_epoch.py [--dataset mnist] [--rates 1.0,0.3,0.1]

Contestants, all on the same images, batch size, student network and optimiser:

- ours: `Distiller.fit` on a `transfer_set`, in the settings a run chooses by itself
- hard_labels: the floor: the same student, batches, precision and steps per execution,
  on the hard labels only through plain `fit`
- keras_distillation: `keras.distillation.Distiller` with a correct loss
- live_teacher: the plain custom `train_step` of the Keras guides, teacher on each batch
- torch_live, torch_stored: a plain PyTorch loop, if PyTorch is installed
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from timing import alternate, emit, ratios  # noqa: E402

from tskd_tf import data  # noqa: E402
from tskd_tf.device import choose_precision  # noqa: E402
from tskd_tf.distiller import Distiller  # noqa: E402
from tskd_tf.graph import with_policy  # noqa: E402
from tskd_tf.models import build_teacher  # noqa: E402
from tskd_tf.soft_targets import capture  # noqa: E402
from tskd_tf.task import Task  # noqa: E402
from tskd_tf.training import STEPS_PER_EXECUTION  # noqa: E402
from tskd_tf.width import scale_width  # noqa: E402

BATCH_SIZE = 128
TEMPERATURE, SOFT_LOSS_WEIGHT = 3.0, 0.9
TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}


def ours(teacher, stored, rate, precision):
    student = scale_width(teacher, rate, dtype_policy=precision)
    distiller = Distiller(student)
    distiller.compile("adam", steps_per_execution=STEPS_PER_EXECUTION)
    batches = stored.batches(BATCH_SIZE, seed=1)
    return lambda: distiller.fit(batches, verbose=0, shuffle=False)


def hard_labels(teacher, stored, rate, precision):
    student = scale_width(teacher, rate, dtype_policy=precision)
    student.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=False,
    )
    batches = data.batches((stored.images, stored.labels), BATCH_SIZE, 1)
    return lambda: student.fit(batches, verbose=0, shuffle=False)


def keras_distillation(teacher, stored, rate, precision):
    from keras.distillation import Distiller as KerasDistiller
    from keras.distillation import LogitsDistillation

    distiller = KerasDistiller(
        teacher,
        scale_width(teacher, rate),
        LogitsDistillation(temperature=TEMPERATURE, loss=keras.losses.KLDivergence()),
        student_loss_weight=1 - SOFT_LOSS_WEIGHT,
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return lambda: distiller.fit(
        stored.images, stored.labels, batch_size=BATCH_SIZE, verbose=0
    )


class LiveTeacher(keras.Model):
    """The distiller of the Keras examples, its loss corrected."""

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
    model.compile("adam", jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices((stored.images, stored.labels))
    dataset = dataset.shuffle(len(stored.images)).batch(BATCH_SIZE).prefetch(2)
    return lambda: model.fit(dataset, verbose=0, shuffle=False)


def torch_contestant(live):
    def make(teacher, stored, rate, precision):
        import torch

        torch.manual_seed(1)
        widths = scale_width(teacher, rate)
        student, torch_teacher = (torch_network(model) for model in (widths, teacher))
        images = torch.from_numpy(stored.images).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(stored.labels).long()
        logits = torch.from_numpy(stored.teacher_logits)
        optimizer = torch.optim.Adam(student.parameters(), 1e-3)
        functional = torch.nn.functional

        def epoch():
            for chosen in torch.randperm(len(images)).split(BATCH_SIZE):
                batch = images[chosen].float()
                with torch.no_grad():
                    targets = torch_teacher(batch) if live else logits[chosen]
                    targets = (targets / TEMPERATURE).softmax(-1)
                got = student(batch)
                hard = functional.cross_entropy(got, labels[chosen])
                soft = functional.cross_entropy(got / TEMPERATURE, targets)
                loss = (1 - SOFT_LOSS_WEIGHT) * hard + SOFT_LOSS_WEIGHT * soft
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return epoch

    return make


def torch_network(model):
    """The same layers in PyTorch; weights do not matter for time."""
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


def contestants():
    found = {
        "ours": ours,
        "hard_labels": hard_labels,
        "keras_distillation": keras_distillation,
        "live_teacher": live_teacher,
    }
    try:
        import torch  # noqa: F401
    except ImportError:
        return found
    return {
        **found,
        "torch_live": torch_contestant(live=True),
        "torch_stored": torch_contestant(live=False),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=TEACHERS, default="mnist")
    parser.add_argument("--rates", default="1.0,0.3,0.1")
    parser.add_argument("--num_images", type=int, default=25_600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")

    source = data.load(arguments.dataset)
    images, class_ids = (part[: arguments.num_images] for part in source.train)
    # Without LRN: PyTorch's is another
    teacher = build_teacher(TEACHERS[arguments.dataset], images, 10, use_lrn=False)
    stored = capture(teacher, images, class_ids, Task(range(10), 10))
    precision = choose_precision(arguments.precision)

    result, rows = {}, []
    makers = contestants()
    for rate in (float(text) for text in arguments.rates.split(",")):
        epochs = {
            name: make(with_policy(teacher, "float32"), stored, rate, precision)
            for name, make in makers.items()
        }
        seconds = alternate(epochs, arguments.rounds)
        speed = {n: len(images) / np.median(s) for n, s in seconds.items()}
        relative = ratios(seconds, "ours")
        result[str(rate)] = {"images_per_second": speed, "time_over_ours": relative}
        rows += [
            [name, rate, f"{speed[name]:,.0f}", f"{relative[name]:.2f}"]
            for name in makers
        ]
    settings = {
        "dataset": arguments.dataset,
        "precision": precision,
        "num_images": len(images),
        "batch_size": BATCH_SIZE,
        "rates": result,
    }
    header = ["contestant", "rate", "images a second", "time over ours"]
    emit("distill_epoch", settings, header, rows)


if __name__ == "__main__":
    main()
