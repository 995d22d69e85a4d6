"""The command line with a user's own images, teachers and students."""

import json
import re
import shutil

import check_report
import keras
import numpy as np
import pytest
from digits import SMALL, mnist_data
from PIL import Image


def test_a_teacher_of_ones_own(run, tmp_path):
    image = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 5, strides=2, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Flatten()(x)
    own = keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))
    own.compile("adam", "sparse_categorical_crossentropy")
    own.save(tmp_path / "own.keras")
    given = (*SMALL, f"--teacher={tmp_path / 'own.keras'}", "--input_range=0:1")
    given += ("--exports=keras",)
    status, *_ = run(*given, "--classes=1,7", "--max_accuracy_loss=0.9")
    assert status == 0
    report = check_report.check(tmp_path / "run")
    assert report["student"]["widths"][-1] == 10
    # Another teacher under the same name is not the teacher of that run
    own.set_weights([weight + 1 for weight in own.get_weights()])
    own.save(tmp_path / "own.keras")
    again = (*given, "--classes=1,7", "--max_accuracy_loss=0.9", "--resume")
    status, _, err = run(*again)
    assert status == 2 and "a teacher of others" in err


@pytest.fixture
def digits_folder(tmp_path):
    """Real MNIST images of four digits, in all formats and modes, in several sizes."""
    pixels, class_ids = mnist_data()
    kinds = [("png", "L"), ("jpg", "L"), ("bmp", "RGB"), ("gif", "L"), ("png", "RGBA")]
    for digit, name in enumerate(("zero", "one", "two", "three")):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for number, row in enumerate(pixels[class_ids == digit][:120]):
            image = Image.fromarray(row.reshape(28, 28).astype("uint8"))
            suffix, mode = kinds[number % 5]
            image = image.resize((28 + 7 * (number % 4), 28 + 9 * (number % 3)))
            path = tmp_path / "digits" / name / f"{number}.{suffix}"
            image.convert(mode).save(path)
    return tmp_path / "digits"


@pytest.mark.long
def test_a_folder_of_ones_own_images(run, tmp_path, digits_folder):
    given = (f"--image_dir={digits_folder}", "--epochs=6", "--max_accuracy_loss=0.5")
    settings = ("--mode=distill", "--rate=0.3", "--exports=keras,litert")
    status, out, _ = run(
        *given, *settings, "--teacher_epochs=6", "--classes=zero,one", "--head=task"
    )
    assert status == 0
    report = check_report.check(tmp_path / "run")
    assert report["task"]["class_names"] == ["zero", "one"]
    # Sorted names: one, three, two, zero
    assert report["task"]["class_ids"] == [3, 0]
    assert "image folder digits (480 images), one sixth" in report["data"]["source"]
    assert report["data"]["num_test"] == 40
    assert report["student"]["accuracy"] > 0.8

    # Its teacher goes on as one from a file, whose input size needs no flag, and a
    # damaged image is of no concern to a task without its class
    (digits_folder / "two" / "torn.png").write_bytes(b"torn")
    teacher = f"--teacher={tmp_path / 'run' / 'teacher.keras'}"
    again = (*given, *settings, teacher, "--classes=0,3", "--head=task")
    status, *_ = run(*again, output="again")
    assert status == 0
    got = json.loads((tmp_path / "again" / "report.json").read_text())
    assert got["task"]["class_names"] == ["one", "zero"]
    assert got["teacher"]["accuracy"] == report["teacher"]["accuracy"]

    for arguments, message in (
        ((teacher,), r"1 that are not: \S*torn.png"),
        ((teacher, "--image_size=32x32"), "teacher takes images, 28x28"),
        (("--image_size=12x12", "--skip_corrupt_images"), "at least 16x16"),
        (("--image_size=28",), "HEIGHTxWIDTH"),
        (("--image_size=0x28",), "HEIGHTxWIDTH"),
        (("--dataset=mnist",), "either --image_dir or"),
        (("--data_dir=d",), "either --image_dir or.* --data_dir"),
        (("--offline_sample",), "either --image_dir or.* --offline_sample"),
        (("--teacher=resnet",), "resnet"),
        (("--teacher=nowhere.keras",), "no such file"),
        ((teacher, "--classes=one,four"), "one, three, two, zero.*four"),
    ):
        status, out, err = run(given[0], *arguments, output="refused")
        assert status == 2 and out == ""
        (line,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert re.search(message, line)
    assert not (tmp_path / "refused").exists()


def test_a_teacher_of_any_image_size(run, tmp_path, digits_folder):
    image = keras.Input((None, None, 3))
    # Its counter is a NumPy number among the weights, its statistics are not weights
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).uniform(0, 255, (8, 4, 4, 3)))
    x = keras.layers.Conv2D(8, 5, strides=2, activation="relu")(normalization(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    own = keras.Model(image, keras.layers.Dense(4)(x))
    own.save(tmp_path / "any.keras")
    given = (f"--image_dir={digits_folder}", f"--teacher={tmp_path / 'any.keras'}")
    status, _, err = run(*given)
    assert status == 2 and "teacher takes images, anyxany" in err
    settings = ("--mode=distill", "--rate=0.5", "--epochs=1", "--exports=keras")
    status, *_ = run(*given, *settings, "--image_size=20x24")
    assert status in (0, 3)
    student = keras.saving.load_model(tmp_path / "run" / "student.keras")
    assert student.input_shape == (None, 20, 24, 3)
    kept = keras.saving.load_model(tmp_path / "run" / "teacher.keras")
    images = np.random.default_rng(1).integers(0, 256, (4, 20, 24, 3))
    np.testing.assert_allclose(kept(images), own(images), atol=1e-5)
    check_report.check(tmp_path / "run")
    # A report that does not fit its files is refused, with the difference
    path = tmp_path / "run" / "report.json"
    report = json.loads(path.read_text())
    report["student"]["num_params"] += 1
    path.write_text(json.dumps(report))
    with pytest.raises(AssertionError, match=r"student\.num_params: \d+ reported"):
        check_report.check(tmp_path / "run")
    shutil.rmtree(digits_folder / "one")
    status, _, err = run(*given, "--image_size=20x24", output="other")
    assert status == 2 and "Expected 4 class folders" in err


BUILDER = """
import keras

@keras.saving.register_keras_serializable("own")
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(10)

    def call(self, images):
        return self.head(self.flatten(images / 255.0))

def build(rate):
    stack = [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255)]
    stack += [keras.layers.Flatten(), keras.layers.Dense(round(20 * rate), "relu")]
    return keras.Sequential([*stack, keras.layers.Dense(2)])

constant = 3
"""


def test_students_and_a_subclassed_teacher_of_ones_own(run, tmp_path, monkeypatch):
    (tmp_path / "my_students.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    import my_students

    teacher = my_students.Own()
    teacher(keras.ops.zeros((1, 28, 28, 1)))
    teacher.save(tmp_path / "own.keras")
    given = ("--classes=7,1", "--head=task", "--student_builder=my_students:build")
    given += (f"--teacher={tmp_path / 'own.keras'}", "--max_accuracy_loss=0.9")
    given += ("--exports=keras",)
    status, *_ = run(*SMALL, *given)
    assert status == 0
    report = check_report.check(tmp_path / "run")
    assert report["student"]["widths"] == [5, 2]
    assert report["teacher"]["num_macs"] == 784 * 10
    status, *_ = run(*SMALL, *given, "--resume")
    assert status == 0


@pytest.mark.parametrize(
    "builder, message",
    [
        ("my_students", "package.module:function"),
        ("no_such_module:build", "ModuleNotFoundError"),
        ("my_students:no_such", "AttributeError.*no_such"),
        ("my_students:constant", "of type int"),
    ],
)
def test_builders_that_cannot_be_had(run, tmp_path, monkeypatch, builder, message):
    (tmp_path / "my_students.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    status, _, err = run(*SMALL, f"--student_builder={builder}")
    assert status == 2 and re.search(message, err)
    assert not (tmp_path / "run").exists()
