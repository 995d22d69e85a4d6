"""Selection of some classes of a data set: by index in memory, and by tf.data.

python benchmarks/class_filter.py [--dataset mnist] [--classes 0,1,2]

All contestants use the training split in memory, shuffled, in batches of 128:

- ours: `Task.filter` of a pair of arrays, then `tskd_tf.data.batches.batches`
- tf_data: `from_tensor_slices`, `filter` for one example at a time, `shuffle`, `batch`
- tf_data_cached: as tf_data, with `cache` after the filter
- ours_streaming: `Task.filter` of shuffled batches, for data that come as a stream

Four times are measured:

- set-up: from the arrays to the finished `tf.data.Dataset`, before any iteration.
  ours_streaming counts its examples here, so that its length is known
- first use: set-up and the first epoch, which fills the cache if there is one
- epoch: one iteration over all batches with a warm cache, after the first epoch
- first batch: from a new iterator to its first batch, with a warm cache. This includes
  the filling of a shuffle buffer
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from timing import alternate, emit, medians, ratios  # noqa: E402

from tskd_tf.data import batches, tfds  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402

BATCH_SIZE = 128
SHUFFLE_BUFFER = 10_000


def ours(images, class_ids, task):
    return batches.batches(task.filter((images, class_ids)), BATCH_SIZE, shuffle_seed=1)


def tf_data(images, class_ids, task, is_cached=False):
    kept = tf.constant(task.class_ids, class_ids.dtype)
    dataset = tf.data.Dataset.from_tensor_slices((images, class_ids))
    dataset = dataset.filter(lambda image, label: tf.reduce_any(label == kept))
    if is_cached:
        dataset = dataset.cache()
    return dataset.shuffle(SHUFFLE_BUFFER).batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def tf_data_cached(images, class_ids, task):
    return tf_data(images, class_ids, task, is_cached=True)


def ours_streaming(images, class_ids, task):
    dataset = tf.data.Dataset.from_tensor_slices((images, class_ids))
    return task.filter(dataset.shuffle(SHUFFLE_BUFFER).batch(BATCH_SIZE))


CONTESTANTS = {
    "ours": ours,
    "tf_data": tf_data,
    "tf_data_cached": tf_data_cached,
    "ours_streaming": ours_streaming,
}


def count_examples(dataset):
    """Counts the examples of all batches, as an eager training loop reads them."""
    return sum(int(labels.shape[0]) for _, labels in dataset)


def first_batch(dataset):
    """The first batch and its iterator; the time to close the iterator is left out."""
    iterator = iter(dataset)
    return next(iterator), iterator


def time_all(images, class_ids, task, rounds):
    """Seconds of all rounds, by measurement and contestant."""

    def over(action, subjects):
        # Each lambda holds on to its own subject
        contestants = {
            name: lambda subject=subject: action(subject)
            for name, subject in subjects.items()
        }
        return alternate(contestants, rounds)

    makers = {
        name: lambda make=make: make(images, class_ids, task)
        for name, make in CONTESTANTS.items()
    }
    datasets = {name: make() for name, make in makers.items()}
    expected = len(task.indices(class_ids))
    for name, dataset in datasets.items():
        found = count_examples(dataset)
        assert found == expected, f"{name}: {found} examples, not {expected}"
    return {
        "set_up": over(lambda make: make(), makers),
        "first_use": over(lambda make: count_examples(make()), makers),
        "epoch": over(count_examples, datasets),
        "first_batch": over(first_batch, datasets),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", help="name of a TFDS data set")
    parser.add_argument("--classes", default="0,1,2", help="class ids to select")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")

    images, class_ids = whole_training_split(arguments.dataset)
    kept = [int(text) for text in arguments.classes.split(",")]
    task = Task(kept, int(class_ids.max()) + 1)
    seconds = time_all(images, class_ids, task, arguments.rounds)

    typical = {what: medians(values) for what, values in seconds.items()}
    relative = ratios(seconds["epoch"], "ours")
    result = {
        "dataset": arguments.dataset,
        "class_ids": kept,
        "num_images": len(images),
        "num_images_kept": len(task.indices(class_ids)),
        "batch_size": BATCH_SIZE,
        "shuffle_buffer": SHUFFLE_BUFFER,
        "rounds": arguments.rounds,
        "median_seconds": typical,
        "epoch_time_over_ours": relative,
    }
    rows = [
        [
            name,
            f"{typical['set_up'][name]:.3f}",
            f"{typical['first_use'][name]:.3f}",
            f"{typical['epoch'][name]:.3f}",
            f"{1e3 * typical['first_batch'][name]:.1f}",
            f"{relative[name]:.1f}",
        ]
        for name in CONTESTANTS
    ]
    header = [
        "contestant",
        "set-up, s",
        "first use, s",
        "epoch, s",
        "first batch, ms",
        "epoch time over ours",
    ]
    emit("class_filter", result, header, rows)


def whole_training_split(name):
    """Images and class ids of TFDS's training split, including the validation part."""
    source = tfds.load(name)
    return tuple(
        tf.concat(parts, axis=0).numpy()
        for parts in zip(source.train, source.validation)
    )


if __name__ == "__main__":
    main()
