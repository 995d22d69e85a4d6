"""Folders of images: layouts, formats, sizes, and everything that can be wrong."""

import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from tskd_tf.data import image_folder
from tskd_tf.data.batches import as_arrays
from tskd_tf.data.image_folder import decode_image, load_image_folder
from tskd_tf.data.images import ImageFile
from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.run.config import RunConfig
from tskd_tf.run.inputs import load_data

SHAPE = (8, 10, 3)
COLOURS = {"bird": (200, 30, 20), "cat": (20, 180, 40), "dog": (10, 60, 220)}
SUFFIXES = ("png", "jpg", "bmp", "gif", "JPEG")


def pattern(height=20, width=25, seed=0):
    """Blocks of 5x5 pixels of random colours, which JPEG keeps nearly as they are."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3))
    return np.kron(blocks, np.ones((5, 5, 1))).astype(np.uint8)


def write_folder(root, classes=COLOURS, count=6):
    """A colour a class; the number of the image decides its format and its size."""
    for name in classes:
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(count):
            size = (9 + 4 * number, 7 + number)
            path = folder / f"{number}.{SUFFIXES[number % len(SUFFIXES)]}"
            Image.new("RGB", size, COLOURS[name]).save(path)
    return root


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pets")


def everything(got):
    """All images and class ids, whichever split they are in."""
    return tuple(map(np.concatenate, zip(*got[2:])))


def test_a_folder_a_class(folder):
    got = load_image_folder(str(folder), SHAPE, validation_fraction=0.2)
    assert got.class_names == ["bird", "cat", "dog"]
    assert got.source == (
        "image folder pets (18 images), one sixth of the training data held out as test"
    )
    assert [len(split.images) for split in got[2:]] == [12, 3, 3]
    assert got.train.images.shape == (12, *SHAPE)
    assert got.train.images.dtype == np.uint8
    images, class_ids = everything(got)
    assert class_ids.dtype == np.int64
    for image, class_id in zip(images, class_ids):
        expected = COLOURS[got.class_names[class_id]]
        np.testing.assert_allclose(image.astype(int) - expected, 0, atol=3)
    # The test split is the same for every seed, the validation split is not
    other = load_image_folder(str(folder), SHAPE, validation_fraction=0.2, seed=7)
    np.testing.assert_array_equal(other.test.images, got.test.images)


def test_split_folders(tmp_path):
    for name, count in (("train", 5), ("test", 2)):
        write_folder(tmp_path / name, count=count)
    got = load_image_folder(str(tmp_path), SHAPE, validation_fraction=0.2)
    assert "held out" not in got.source
    assert [len(split.images) for split in got[2:]] == [12, 3, 6]
    write_folder(tmp_path / "validation", count=1)
    got = load_image_folder(str(tmp_path), SHAPE, validation_fraction=0.2)
    assert [len(split.images) for split in got[2:]] == [15, 3, 6]
    shutil.rmtree(tmp_path / "test")
    got = load_image_folder(str(tmp_path), SHAPE, validation_fraction=0.2)
    assert [len(split.images) for split in got[2:]] == [12, 3, 3]


def test_order_is_that_of_sorted_paths(folder, monkeypatch):
    before = load_image_folder(str(folder), SHAPE)
    iterdir = pathlib.Path.iterdir
    monkeypatch.setattr(
        pathlib.Path, "iterdir", lambda path: reversed(sorted(iterdir(path)))
    )
    after = load_image_folder(str(folder), SHAPE)
    for one, other in zip(before[2:], after[2:], strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)


def test_hidden_files_and_deeper_folders(folder):
    (folder / "cat" / ".DS_Store").write_text("not an image")
    (folder / ".thumbnails").mkdir()
    (folder / "README.txt").write_text("beside the classes")
    (folder / "cat" / "small").mkdir()
    Image.new("RGB", (3, 3), COLOURS["cat"]).save(folder / "cat" / "small" / "a.png")
    got = load_image_folder(str(folder), SHAPE)
    assert got.class_names == ["bird", "cat", "dog"]
    assert "(19 images)" in got.source


def test_a_class_may_be_called_train(tmp_path):
    write_folder(tmp_path / "a")
    shutil.move(tmp_path / "a" / "cat", tmp_path / "a" / "train")
    got = load_image_folder(str(tmp_path / "a"), SHAPE)
    assert got.class_names == ["bird", "dog", "train"]


FORMATS = [
    *("L PNG", "RGB PNG", "RGBA PNG", "LA PNG", "P PNG", "1 PNG"),
    *("L JPEG", "RGB JPEG", "CMYK JPEG", "L GIF", "P GIF"),
    *("L BMP", "P BMP", "RGB BMP", "RGBA BMP"),
]


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(tmp_path, kind):
    """What Pillow reads, in its own size, in colour and in grey."""
    mode, name = kind.split()
    path = tmp_path / "image"
    image = Image.fromarray(pattern()).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(7)
    image.save(path, name)
    with Image.open(path) as read:
        colour = read.convert("RGBA").convert("RGB")
    for channels, expected in ((3, colour), (1, colour.convert("L"))):
        got = decode_image(path.read_bytes(), (20, 25, channels)).numpy()
        expected = np.asarray(expected).reshape(20, 25, channels)
        difference = np.abs(got.astype(int) - expected)
        assert difference.max() <= (5 if name == "JPEG" else 1)
    # Another size, against Pillow's antialiased triangle
    smaller = colour.resize((10, 7), Image.Resampling.BILINEAR)
    got = decode_image(path.read_bytes(), (7, 10, 3)).numpy()
    assert np.abs(got.astype(int) - np.asarray(smaller)).max() <= 5


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(pattern(seed=seed)).convert("P") for seed in (1, 2)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    got = decode_image(path.read_bytes(), (20, 25, 3))
    np.testing.assert_array_equal(got, np.asarray(frames[0].convert("RGB")))


def test_grey_images_are_kept_bit_by_bit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    contents = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(decode_image(contents, (28, 28, 1))[..., 0], pixels)
    colour = decode_image(contents, (28, 28, 3))
    np.testing.assert_array_equal(colour, np.repeat(pixels[..., None], 3, axis=-1))


def test_past_the_limit_everything_stays_the_same(folder):
    in_memory = load_image_folder(str(folder), SHAPE)
    in_file = load_image_folder(str(folder), SHAPE, memory_limit_mb=0)
    for one, other in zip(in_memory[2:], in_file[2:], strict=True):
        assert isinstance(other.images, ImageFile)
        np.testing.assert_array_equal(one.images, np.asarray(other.images))
        np.testing.assert_array_equal(one.class_ids, other.class_ids)


def test_only_the_classes_asked_for_are_opened(folder):
    whole = load_image_folder(str(folder), SHAPE)
    for path in (folder / "bird").iterdir():
        path.write_bytes(b"")
    some = load_image_folder(
        str(folder), SHAPE, choose_classes=lambda names: [2, names.index("cat")]
    )
    assert some.class_names == ["bird", "cat", "dog"]
    for one, other in zip(whole[2:], some[2:], strict=True):
        kept = one.class_ids > 0
        np.testing.assert_array_equal(one.images[kept], other.images)
        np.testing.assert_array_equal(one.class_ids[kept], other.class_ids)


@pytest.fixture
def with_bad_files(folder):
    whole = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "empty.jpg").write_bytes(b"")
    (folder / "dog" / "notes.txt").write_text("mine")
    (folder / "stray.bmp").write_bytes((folder / "dog" / "2.bmp").read_bytes())
    return folder


def test_unreadable_files_are_named(with_bad_files, caplog):
    with pytest.raises(InputError, match="4 that are not") as caught:
        load_image_folder(str(with_bad_files), SHAPE)
    message = str(caught.value)
    assert "\n" not in message and "--skip_corrupt_images" in message
    for name in ("torn.png", "empty.jpg", "notes.txt", "stray.bmp"):
        assert name in message
    for number in range(20):
        (with_bad_files / "cat" / f"x{number}.gif").write_bytes(b"GIF89a")
    caplog.clear()
    with pytest.raises(InputError, match="24 that are not.* and 19 more, listed"):
        load_image_folder(str(with_bad_files), SHAPE)
    assert sum("No readable image: " in line for line in caplog.messages) == 24
    assert all(f"x{number}.gif" in caplog.text for number in range(20))


def test_unreadable_files_are_skipped_when_told(with_bad_files, caplog):
    got = load_image_folder(str(with_bad_files), SHAPE, skip_corrupt_images=True)
    assert "(18 images, 4 files skipped)" in got.source
    assert "4 files skipped" in caplog.text
    for name in ("torn.png", "empty.jpg", "notes.txt", "stray.bmp"):
        assert name in caplog.text
    for path in sorted((with_bad_files / "dog").iterdir())[:4]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="3 readable images.*: dog with 2"):
        load_image_folder(str(with_bad_files), SHAPE, skip_corrupt_images=True)
    for name in ("bird", "cat"):
        for path in (with_bad_files / name).iterdir():
            path.write_bytes(b"")
    with pytest.raises(InputError, match="bird with 0, cat with 0, dog with 2"):
        load_image_folder(str(with_bad_files), SHAPE, skip_corrupt_images=True)
    for path in (with_bad_files / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="bird with 0, cat with 0, dog with 0"):
        load_image_folder(str(with_bad_files), SHAPE, skip_corrupt_images=True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_torn_images_are_refused(tmp_path, kind):
    path = tmp_path / "image"
    Image.fromarray(pattern(60, 60)).save(path, kind)
    whole = path.read_bytes()
    for size in (2, 60, len(whole) // 2, len(whole) - 10):
        with pytest.raises(image_folder.tf.errors.InvalidArgumentError):
            decode_image(whole[:size], SHAPE)


def test_folders_that_may_not_be_read_are_named(folder, monkeypatch):
    is_dir = pathlib.Path.is_dir

    def refuse(path):
        if path.name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(pathlib.Path, "is_dir", refuse)
    with pytest.raises(InputError, match=r"cat \(Permission denied\)"):
        load_image_folder(str(folder), SHAPE)


def test_class_names_that_no_report_can_hold_are_refused(folder):
    (folder / "cat").rename(folder / os.fsdecode(b"k\xe4tzchen"))
    with pytest.raises(InputError, match=r"in UTF-8.*k\\udce4tzchen"):
        load_image_folder(str(folder), SHAPE)


def test_stray_images_do_not_make_classes_of_splits(tmp_path):
    for name in ("train", "test"):
        write_folder(tmp_path / name)
        shutil.copy(tmp_path / name / "cat" / "0.png", tmp_path / name)
    with pytest.raises(InputError, match="2 that are not.*in no class folder"):
        load_image_folder(str(tmp_path), SHAPE)


def test_classes_are_those_of_keras(folder):
    """In the same order, so that a teacher's outputs are; and its names make tasks."""
    for path in folder.rglob("*.JPEG"):
        path.unlink()
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=SHAPE[:2], shuffle=False, verbose=0
    )
    got = load_image_folder(str(folder), SHAPE)
    assert got.class_names == dataset.class_names
    task = Task(["dog", "cat"], class_names=dataset.class_names, head="task")
    images, labels = as_arrays(task.filter(dataset))
    for image, label in zip(images, labels, strict=True):
        name = ("dog", "cat")[label]
        np.testing.assert_allclose(image.astype(int) - COLOURS[name], 0, atol=3)


def test_a_run_length_encoded_bmp_is_not_read_as_noise(tmp_path):
    image = Image.fromarray(pattern()).convert("P")
    path = tmp_path / "a.bmp"
    image.save(path)
    contents = bytearray(path.read_bytes())
    contents[30] = 1  # BI_RLE8, whose codes could be as many as pixels
    with pytest.raises(image_folder.tf.errors.InvalidArgumentError):
        decode_image(bytes(contents), SHAPE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root), "no such folder"),
        (lambda root: shutil.rmtree(root) or root.write_text(""), r"\(a file\)"),
        (
            lambda root: shutil.rmtree(root / "cat") or shutil.rmtree(root / "dog"),
            "two",
        ),
        (lambda root: (root / "empty").mkdir(), "3 readable images.*empty with 0"),
        (lambda root: (root / "cat" / "1.jpg").rename(root / "c.jpg"), "in no class"),
        (lambda root: [(root / "cat" / f"{n}").unlink() for n in FEW], "cat with 2"),
        (lambda root: write_folder(root / "test"), "bird, cat, dog, test"),
    ],
    ids=["missing", "file", "one class", "empty", "stray", "few", "mixed"],
)
def test_folders_of_another_layout_are_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_image_folder(str(folder), SHAPE)
    assert "\n" not in str(caught.value)


FEW = ("0.png", "1.jpg", "2.bmp", "3.gif")


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(InputError, match="no such folder"):
        load_image_folder("", SHAPE)


def test_splits_of_other_classes_are_refused(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", classes=["cat", "dog"])
    with pytest.raises(InputError, match="same class folders.*only: bird"):
        load_image_folder(str(tmp_path), SHAPE)
    (tmp_path / "test" / "bird").mkdir()
    with pytest.raises(InputError, match="a readable image.*test.*bird with 0"):
        load_image_folder(str(tmp_path), SHAPE)
    shutil.move(tmp_path / "test", tmp_path / "val")
    with pytest.raises(InputError, match="validation and test.*train, val"):
        load_image_folder(str(tmp_path), SHAPE)
    shutil.rmtree(tmp_path / "train")
    shutil.move(tmp_path / "val", tmp_path / "test")
    with pytest.raises(InputError, match="or train and.*with test"):
        load_image_folder(str(tmp_path), SHAPE)


def test_the_number_of_classes_is_that_of_the_teacher(folder):
    with pytest.raises(InputError, match="4 class folders.*Received: 3"):
        load_image_folder(str(folder), SHAPE, num_classes=4)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_no_image_file_has_are_refused(folder, tmp_path, channels):
    image = keras.Input((*SHAPE[:2], channels))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(image))
    keras.Model(image, logits).save(tmp_path / "t.keras")
    config = RunConfig(image_dir=str(folder), teacher=str(tmp_path / "t.keras"))
    with pytest.raises(InputError, match=rf"one or three channels.*{channels}\)"):
        load_data(config)
