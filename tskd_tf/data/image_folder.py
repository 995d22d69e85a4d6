"""Your own images: one folder per class, decoded once to images of one size.

Formats are JPEG, PNG, BMP and GIF (its first frame), detected by content; grey or
colour, of any size. EXIF orientation is ignored, as in TensorFlow's decoders, and
transparency is dropped. Aspect ratios change, as in
`keras.utils.image_dataset_from_directory`: a teacher trained on images from there
sees the same images here.
"""

import contextlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tskd_tf.data.batches import store
from tskd_tf.data.images import MEMORY_LIMIT_MB
from tskd_tf.data.splits import ImageData, Split, hold_out
from tskd_tf.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_SPLITS = ("train", "validation", "test")
_BATCH_BYTES = 32e6
_NAMED_FILES = 5


class Listing(NamedTuple):
    """The files of one split, before any is opened.

    `files` are paths and `class_ids` ints, one per image. `strangers` are files without
    an image suffix, or images outside a class folder, each with the reason.
    """

    files: list[str]
    class_ids: list[int]
    strangers: list[str]


def load_image_folder(
    folder: str,
    image_shape: tuple[int, int, int],
    validation_fraction: float = 0.1,
    seed: int = 1,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
    choose_classes: Callable[[list[str]], Sequence[int]] | None = None,
    num_classes: int | None = None,
    skip_corrupt_images: bool = False,
) -> ImageData:
    """Loads a folder with one folder of images per class, or such folders per split.

    Class names are the folders' names, and class ids their sorted order. Images lie
    anywhere below their class's folder, in the order of their sorted paths; hidden
    files and folders are skipped. Where there are `train/` and, if wanted,
    `validation/` and `test/`, each holds the same class folders. Without `test/` a
    stratified sixth becomes the test split, the same for every seed; without
    `validation/` a share of the rest becomes the validation split.

    Images are resized bilinearly with antialiasing to the size asked for, and
    stretched if necessary. For three channels, grey images are repeated; for one
    channel, colour images are converted to grey (ITU-R 601).

    Args:
        folder: Path of the folder.
        image_shape: `(height, width, channels)` to make of every image; 1 or 3
            channels.
        validation_fraction: Share of the training data, in (0, 1).
        seed: Decides which examples are taken for validation.
        memory_limit_mb: Megabytes of decoded images that may be held in memory; a
            split that goes beyond it is kept in a temporary file.
        choose_classes: Class names → the class ids to load; by default all. Images of
            others are not decoded.
        num_classes: Required number of class folders. Default: any number from 2 on.
        skip_corrupt_images: Whether to skip files that are not readable images. The
            log names them.

    Returns:
        Images as uint8.

    Raises:
        InputError: If the folder has another layout, or a file in it cannot be read.
    """
    root = pathlib.Path(folder)
    with _folders_are_readable():
        if not folder or not root.is_dir():
            reason = "a file" if root.is_file() else "no such folder"
            raise InputError(
                "Expected --image_dir to be a folder of class folders. Received: "
                f"{folder} ({reason})"
            )
        parts = _split_folders(root)
        class_names = _class_names(parts, num_classes)
        every_class = range(len(class_names))
        kept = choose_classes(class_names) if choose_classes else every_class
        listings = {
            name: _list(part, class_names, kept) for name, part in parts.items()
        }
    # One more for each split that is taken from the training data
    fewest = dict.fromkeys(parts, 1)
    fewest["train"] += ("validation" not in parts) + ("test" not in parts)
    for name, listing in listings.items():
        listed = np.array(listing.class_ids, np.int64)
        _check_enough(listed, fewest[name], kept, class_names, parts[name])
    splits: dict[str, Split] = {}
    unreadable: list[str] = []
    for name, listing in listings.items():
        # All splits share the limit
        held_mb = sum(split.images.nbytes for split in splits.values()) / 1e6
        split, damaged = _decode(listing, image_shape, memory_limit_mb - held_mb)
        unreadable += listing.strangers + damaged
        if split is not None:
            splits[name] = split
    _report_unreadable(unreadable, root, skip_corrupt_images)
    for name, part in parts.items():
        left = splits[name].class_ids if name in splits else np.array([], np.int64)
        _check_enough(left, fewest[name], kept, class_names, part)
    num_images = sum(len(split.class_ids) for split in splits.values())
    source = f"image folder {root.resolve().name} ({num_images:,} images"
    source += f", {len(unreadable)} files skipped)" if unreadable else ")"
    return hold_out(
        source,
        class_names,
        splits["train"],
        splits.get("validation"),
        splits.get("test"),
        validation_fraction,
        seed,
    )


@contextlib.contextmanager
def _folders_are_readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Expected folders to read images from. Received: {error.filename} "
            f"({error.strerror})"
        ) from None


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """The visible files and folders in a folder, sorted by name."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Split name → folder of class folders; `train` alone for an unsplit folder."""
    folders = [path for path in _visible(root) if path.is_dir()]
    names = [path.name for path in folders]
    # A class may be called `train`, too: then its images lie in it, and others beside
    is_split = any(
        name in _SPLITS
        and any(inner.is_dir() for inner in _visible(path))
        and (set(names) <= set(_SPLITS) or not any(map(_is_image, _visible(path))))
        for name, path in zip(names, folders, strict=True)
    )
    if not is_split:
        return {"train": root}
    if "train" not in names or set(names) - set(_SPLITS):
        raise InputError(
            "Expected one folder per class in --image_dir, or train and optionally "
            "validation and test, each with one folder per class. Received: "
            f"{root} with {', '.join(names)}"
        )
    return {name: root / name for name in _SPLITS if name in names}


def _is_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _class_names(parts: dict[str, pathlib.Path], num_classes: int | None) -> list[str]:
    names = {
        split: [path.name for path in _visible(part) if path.is_dir()]
        for split, part in parts.items()
    }
    for split, part in parts.items():
        different = set(names[split]) ^ set(names["train"])
        if different:
            raise InputError(
                f"Expected the same class folders in {parts['train']} and {part}. "
                f"Received in one of them only: {', '.join(sorted(different)[:10])}"
            )
    class_names = names["train"]
    nameless = [name for name in class_names if not _is_text(name)]
    if nameless:
        raise InputError(
            f"Expected names of class folders in UTF-8 in {parts['train']}; rename the "
            f"others. Received: {', '.join(map(ascii, nameless))}"
        )
    if len(class_names) < 2:
        raise InputError(
            f"Expected at least two class folders in {parts['train']}. Received: "
            f"{', '.join(class_names) or 'none'}"
        )
    if num_classes is not None and len(class_names) != num_classes:
        raise InputError(
            f"Expected {num_classes} class folders in {parts['train']}, one for each "
            f"output of the teacher. Received: {len(class_names)}"
        )
    return class_names


def _is_text(name: str) -> bool:
    """Whether a file's name can be written into a report."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _list(folder: pathlib.Path, class_names: list[str], kept: Sequence[int]) -> Listing:
    """Lists the kept classes' images."""
    listing = Listing([], [], [])
    for path in _visible(folder):
        if _is_image(path):
            listing.strangers.append(f"{path} (in no class folder)")
    for class_id in sorted(kept):
        for path in _files_below(folder / class_names[class_id]):
            if path.suffix.lower() in SUFFIXES:
                listing.files.append(str(path))
                listing.class_ids.append(class_id)
            else:
                listing.strangers.append(f"{path} (not {', '.join(SUFFIXES)})")
    return listing


def _check_enough(
    class_ids: np.ndarray,
    fewest: int,
    kept: Sequence[int],
    class_names: list[str],
    folder: pathlib.Path,
) -> None:
    """Raises InputError if a class has fewer than `fewest` images."""
    counts = np.bincount(class_ids, minlength=len(class_names))
    few = [class_id for class_id in sorted(kept) if counts[class_id] < fewest]
    if few:
        needs = f"{fewest} readable images" if fewest > 1 else "a readable image"
        found = ", ".join(f"{class_names[i]} with {counts[i]}" for i in few[:10])
        raise InputError(
            f"Expected at least {needs} ({', '.join(SUFFIXES)}) of each class in "
            f"{folder}. Received: {found}"
        )


def _files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    files = []
    for path in _visible(folder):
        files += _files_below(path) if path.is_dir() else [path]
    return files


def _decode(
    listing: Listing, image_shape: tuple[int, int, int], memory_limit_mb: float
) -> tuple[Split | None, list[str]]:
    """Decodes the readable files; returns their images, and the other files' names."""
    num_files = len(listing.files)
    files = tf.data.Dataset.from_tensor_slices(
        (
            [os.fsencode(path) for path in listing.files],
            np.array(listing.class_ids, np.int64),
            np.arange(num_files),
        )
    )
    # Files that raise are dropped here; their missing positions identify them
    decoded = files.map(
        lambda path, class_id, position: (
            decode_image(tf.io.read_file(path), image_shape),
            class_id,
            position,
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).ignore_errors()
    if next(iter(decoded.take(1)), None) is None:
        return None, [f"{path} (cannot be read as an image)" for path in listing.files]
    batch_size = int(np.clip(_BATCH_BYTES // np.prod(image_shape), 1, 256))
    images, class_ids, positions = store(
        decoded.batch(batch_size).prefetch(2), max(0.0, memory_limit_mb)
    )
    damaged = np.setdiff1d(np.arange(num_files), positions)
    names = [
        f"{listing.files[position]} (cannot be read as an image)"
        for position in damaged
    ]
    return Split(images, class_ids), names


def decode_image(contents: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes one image, to a size and number of channels.

    Args:
        contents: Bytes of a JPEG, PNG, BMP or GIF file, a string tensor.
        image_shape: `(height, width, channels)`; 1 or 3 channels.

    Returns:
        A uint8 tensor of that shape.

    Raises:
        tf.errors.InvalidArgumentError: If the file is damaged or no such image.
    """
    height, width, channels = image_shape
    # The decoders choose the number of channels: some fail for a given number
    image = tf.io.decode_image(contents, expand_animations=False)
    image.set_shape((None, None, None))
    is_bmp = tf.strings.substr(contents, 0, 2) == b"BM"
    image = tf.cond(is_bmp, lambda: _finish_bmp(contents, image), lambda: image)
    image = tf.image.resize(image, (height, width), antialias=True)
    is_colour = tf.shape(image)[-1] >= 3
    # A channel after one of grey or three of colour is transparency
    if channels == 1:
        image = tf.cond(
            is_colour,
            lambda: tf.image.rgb_to_grayscale(image[..., :3]),
            lambda: image[..., :1],
        )
    else:
        image = tf.cond(
            is_colour,
            lambda: image[..., :3],
            lambda: tf.repeat(image[..., :1], channels, axis=-1),
        )
    pixels = tf.saturate_cast(tf.round(image), tf.uint8)
    return tf.ensure_shape(pixels, image_shape)


def _finish_bmp(contents: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Replaces a BMP's palette indices by colours, which TensorFlow does not do.

    TensorFlow does not check for run-length encoding either; such files raise here.
    """
    header = tf.cast(
        tf.io.decode_raw(tf.strings.substr(contents, 0, 54), "uint8"), "int32"
    )

    def field(start: int) -> tf.Tensor:
        return tf.reduce_sum(header[start : start + 4] * [1, 2**8, 2**16, 2**24])

    first_pixel, header_size, compression = field(10), field(14), field(30)
    is_raw = tf.debugging.Assert((compression == 0) | (compression == 3), ["BMP"])
    with tf.control_dependencies([is_raw]):
        bits_a_pixel = header[28] + 2**8 * header[29]

    def look_up() -> tf.Tensor:
        start = 14 + header_size
        table = tf.strings.substr(contents, start, first_pixel - start)
        colours = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, 4))
        return tf.gather(colours[:, 2::-1], tf.cast(image[..., 0], tf.int32))

    return tf.cond(bits_a_pixel == 8, look_up, lambda: image)


def _report_unreadable(
    unreadable: list[str], root: pathlib.Path, skip_corrupt_images: bool
) -> None:
    if not unreadable:
        return
    logger = logging.getLogger(__name__)
    for name in unreadable:
        logger.warning("No readable image: %s", name)
    if skip_corrupt_images:
        logger.warning("%d files skipped that are no readable images", len(unreadable))
        return
    names = ", ".join(unreadable[:_NAMED_FILES])
    rest = len(unreadable) - _NAMED_FILES
    names += f" and {rest} more, listed in the log" if rest > 0 else ""
    raise InputError(
        f"Expected readable images only in {root}; remove the others, or pass "
        "--skip_corrupt_images to go on without them. Received: "
        f"{len(unreadable)} that are not: {names}"
    )
