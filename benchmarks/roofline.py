"""The speed of a training step, compared with this machine's best matrix product.

python benchmarks/roofline.py [--datasets mnist,cifar10] [--rates 1.0,0.5,0.3,0.1]
python benchmarks/roofline.py --datasets mnist --rates 0.3 --profile

`Distiller.fit` on stored logits, in the precision that a run chooses by default, is
compared with `tf.linalg.matmul` of square matrices of the same dtype. The product's
speed is the best of all sizes and rounds; the step's is the median of the rounds.

A step counts as 3 forward passes: forward, gradient of the weights, gradient of the
inputs. A MAC counts as 2 FLOP. `tskd_tf.networks.costs` counts the MACs of convolutions
and dense layers. So the share is not exact. Pooling, activations, biases, the loss, the
optimiser, casts and the input pipeline are not counted. The input gradient of the first
layer is counted, but not computed.
"""

import argparse
import collections
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from timing import alternate, emit, medians  # noqa: E402

from tskd_tf.data import tfds  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402
from tskd_tf.distillation.device import (  # noqa: E402
    choose_precision,
    choose_steps_per_execution,
)
from tskd_tf.distillation.distiller import Distiller  # noqa: E402
from tskd_tf.distillation.soft_targets import capture  # noqa: E402
from tskd_tf.networks.costs import complexity  # noqa: E402
from tskd_tf.networks.width import scale_width  # noqa: E402
from tskd_tf.networks.zoo.models import build_teacher  # noqa: E402

BATCH_SIZE = 128
TEACHERS = {"mnist": "lenet", "cifar10": "cifar10_full"}
FLOP_PER_MAC = 2
PASSES = 3
MATRIX_SIZES = (1024, 2048)
NUM_KERNELS_SHOWN = 15
# Events of these kinds contain other events
CONTAINERS = {"If", "PartitionedCall", "StatefulPartitionedCall", "While"}


def epoch_of(student, stored):
    """A callable that trains the student for one epoch."""
    num_batches = -(-len(stored.images) // BATCH_SIZE)
    distiller = Distiller(student)
    steps = choose_steps_per_execution(num_batches)
    distiller.compile("adam", steps_per_execution=steps)
    batches = stored.batches(BATCH_SIZE, seed=1)
    return lambda: distiller.fit(batches, verbose=0, shuffle=False)


def product(size, dtype):
    """A callable that multiplies two square matrices and waits for the result."""
    generator = tf.random.Generator.from_seed(1)
    left, right = (tf.cast(generator.normal((size, size)), dtype) for _ in range(2))
    return lambda: tf.linalg.matmul(left, right)[0, 0].numpy()


def matrix_product_rates(dtypes, rounds):
    """FLOP/s of the fastest product of each dtype."""
    products = {
        (dtype, size): product(size, dtype) for dtype in dtypes for size in MATRIX_SIZES
    }
    seconds = alternate(products, rounds)
    rates = {
        key: FLOP_PER_MAC * key[1] ** 3 / min(values) for key, values in seconds.items()
    }
    return {
        dtype: max(rate for (name, _), rate in rates.items() if name == dtype)
        for dtype in dtypes
    }


def kernel_times(run):
    """Microseconds of each kernel in one call of `run`, by short name, longest first.

    Kernels run in parallel on the cores, so the sum may exceed the wall-clock time.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run()
        tf.profiler.experimental.stop()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    times = collections.Counter()
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        for event in (event for line in plane.lines for event in line.events):
            name = short_name(plane.event_metadata[event.metadata_id].name)
            if name is not None:
                times[name] += event.duration_ps / 1e6
    return times.most_common()


def short_name(event_name):
    """A name such as `backward conv2: Conv2DBackpropFilter`; None if it is no kernel.

    Kernels are named `path:kind`. In the training step the path contains
    `StatefulPartitionedCall`; other kernels belong to the loop or the input pipeline.
    """
    path, separator, kind = event_name.rpartition(":")
    is_framework = "::" in event_name or " " in event_name or kind in CONTAINERS
    if not separator or is_framework:
        return None
    for prefix in ("_MklNative", "_Mkl"):
        kind = kind.removeprefix(prefix)
    _, is_step, place = path.rpartition("StatefulPartitionedCall/")
    if not is_step:
        return f"input or loop: {kind}"
    direction = "backward" if place.startswith("gradient_tape/") else "forward"
    parts = place.removeprefix("gradient_tape/").split("/")
    # A layer's kernel is at model/layer/...; the names end in the call's number
    if len(parts) < 3:
        return f"{direction} {parts[0]}: {kind}"
    return f"{direction} {parts[1].removesuffix('_1')}: {kind}"


def print_profile(title, run, num_steps):
    """Prints the slowest kernels of one epoch, after an epoch of warm-up."""
    run()
    times = [(name, total / num_steps) for name, total in kernel_times(run)]
    everything = sum(value for _, value in times)
    sys.stdout.write(f"{title}: {everything:,.0f} us of kernels a step\n")
    for name, value in times[:NUM_KERNELS_SHOWN]:
        share = value / everything
        sys.stdout.write(f"{value:10,.1f} us a step  {share:4.0%}  {name}\n")
    sys.stdout.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", default="mnist,cifar10")
    parser.add_argument("--rates", default="1.0,0.5,0.3,0.1")
    parser.add_argument("--num_images", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--profile", action="store_true", help="print the kernels of one epoch instead"
    )
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    precision = choose_precision(arguments.precision)
    dtype = keras.dtype_policies.get(precision).compute_dtype

    epochs, macs = {}, {}
    for dataset in arguments.datasets.split(","):
        source = tfds.load(dataset)
        images, class_ids = (part[: arguments.num_images] for part in source.train)
        teacher = build_teacher(TEACHERS[dataset], images, 10, use_lrn=False)
        stored = capture(teacher, images, class_ids, Task(range(10), 10))
        for rate in (float(text) for text in arguments.rates.split(",")):
            student = scale_width(teacher, rate, dtype_policy=precision)
            macs[dataset, rate] = complexity(student).num_macs
            epochs[dataset, rate] = epoch_of(student, stored)

    if arguments.profile:
        num_steps = -(-arguments.num_images // BATCH_SIZE)
        for (dataset, rate), run in epochs.items():
            print_profile(f"{dataset} at rate {rate}, {precision}", run, num_steps)
        return

    seconds = alternate(epochs, arguments.rounds)
    products = matrix_product_rates(
        sorted({"float32", dtype}), rounds=4 * arguments.rounds
    )
    typical = medians(seconds)
    result, rows = [], []
    for (dataset, rate), num_macs in macs.items():
        speed = arguments.num_images / typical[dataset, rate]
        best = arguments.num_images / min(seconds[dataset, rate])
        achieved = FLOP_PER_MAC * PASSES * num_macs * speed
        share = achieved / products[dtype]
        result.append(
            {
                "dataset": dataset,
                "rate": rate,
                "num_macs": num_macs,
                "images_per_second": speed,
                "best_images_per_second": best,
                "flop_per_second": achieved,
                "share_of_matrix_product": share,
            }
        )
        rows.append(
            [
                dataset,
                rate,
                f"{num_macs:,}",
                f"{speed:,.0f}",
                f"{best:,.0f}",
                f"{achieved / 1e9:,.1f}",
                f"{share:.0%}",
            ]
        )
    rows += [
        [f"matmul {name}", "", "", "", "", f"{rate / 1e9:,.1f}", "100%"]
        for name, rate in products.items()
    ]
    settings = {
        "precision": precision,
        "compute_dtype": dtype,
        "num_images": arguments.num_images,
        "batch_size": BATCH_SIZE,
        "rounds": arguments.rounds,
        "matrix_product_flop_per_second": products,
        "students": result,
    }
    header = [
        "data set",
        "rate",
        "MACs",
        "images a second",
        "at best",
        "GFLOP/s",
        f"share of {dtype} matmul",
    ]
    emit("roofline", settings, header, rows)


if __name__ == "__main__":
    main()
