"""Students for tests of workers, which import them by name."""

import os
import pathlib
import signal

import keras

FOLDER = "TSKD_TEST_FOLDER"


def thin(rate):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(max(1, round(8 * rate)), 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


def _first_time(name):
    """Whether this is the first call in any process."""
    try:
        (pathlib.Path(os.environ[FOLDER]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def killed_once(rate):
    """Ends the first worker that builds the student of rate 0.5, in mid-trial."""
    if rate == 0.5 and "KERASTUNER_TUNER_ID" in os.environ and _first_time("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return thin(rate)


def always_killed(rate):
    if "KERASTUNER_TUNER_ID" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return thin(rate)


def failing(rate):
    """Fails in workers only: the chief's checks cannot know."""
    if "KERASTUNER_TUNER_ID" in os.environ:
        raise ZeroDivisionError("a defect in a worker")
    return thin(rate)
