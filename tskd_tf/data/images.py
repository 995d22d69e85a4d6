"""Images in memory or, beyond a limit, in a file that is read by position."""

import hashlib
import json
import logging
import pathlib
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from tskd_tf.errors import InputError
from tskd_tf.files import atomic_path

MEMORY_LIMIT_MB = 2048
_CHUNK = 1000


def chunks(num_examples: int, size: int = _CHUNK) -> Iterator[slice]:
    """Slices that cut `num_examples` into pieces of `size`."""
    for start in range(0, num_examples, size):
        yield slice(start, start + size)


class _TemporaryFile:
    """An unnamed file, closed when the last selection from it is deleted."""

    def __init__(self) -> None:
        self.handle = tempfile.TemporaryFile()
        weakref.finalize(self, self.handle.close)


class ImageFile:
    """Images in a file, indexed like an array.

    Selecting (`images[10:20]`, `images[indices]`) reads nothing and gives another
    `ImageFile`; `np.asarray(images)` and iteration read. Images that were read are not
    cached, to save memory.

    Args:
        file: Its `handle` is an open file of the images' bytes, in order.
        dtype: NumPy type of the pixels.
        image_shape: `(height, width, channels)`.
        rows: Positions in the file, shape `(n,)`.
    """

    def __init__(
        self,
        file: _TemporaryFile,
        dtype: Any,
        image_shape: tuple[int, ...],
        rows: np.ndarray,
    ) -> None:
        self._file = file
        self._rows = rows
        self.dtype = np.dtype(dtype)
        self.image_shape = tuple(image_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, height, width, channels)`."""
        return (len(self._rows), *self.image_shape)

    @property
    def nbytes(self) -> int:
        """Size of the images in memory, in bytes."""
        return len(self._rows) * int(np.prod(self.image_shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: slice | np.ndarray) -> "ImageFile":
        return ImageFile(self._file, self.dtype, self.image_shape, self._rows[chosen])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        # Mapped for this read only: pages that stay mapped count as resident
        stored = np.memmap(self._file.handle, self.dtype, mode="r")
        images = stored.reshape(-1, *self.image_shape)[self._rows]
        return np.array(images, dtype=dtype)

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in chunks(len(self)):
            yield from np.asarray(self[part])


Images = np.ndarray | ImageFile


def as_images(images: Any) -> Images:
    """An `ImageFile` as it is, anything else as an array."""
    return images if isinstance(images, ImageFile) else np.asarray(images)


class ImageStore:
    """Collects images batch by batch, in memory up to a limit, beyond it in a file.

    The file is temporary and unnamed: it disappears when the process ends.

    Args:
        memory_limit_mb: Megabytes of 10⁶ bytes that may be held in memory.
    """

    def __init__(self, memory_limit_mb: float = MEMORY_LIMIT_MB) -> None:
        self._limit = memory_limit_mb * 1e6
        self._parts: list[np.ndarray] = []
        self._image_shape: tuple[int, ...] = ()
        self._dtype: Any = None
        self._num_bytes = 0
        self._num_images = 0
        self._file: _TemporaryFile | None = None

    def append(self, images: np.ndarray) -> None:
        """Adds a batch.

        Args:
            images: Shape `(batch, height, width, channels)`, of one type and size.

        Raises:
            InputError: If its images differ from those before, or there is no room
                for the file.
        """
        if self._num_images and images.shape[1:] != self._image_shape:
            raise InputError(
                f"Expected images of one size. Received: {self._image_shape} and "
                f"{images.shape[1:]}"
            )
        self._image_shape, self._dtype = images.shape[1:], images.dtype
        self._num_images += len(images)
        self._num_bytes += images.nbytes
        self._parts.append(images)
        if self._num_bytes > self._limit:
            self._spill()

    def _spill(self) -> None:
        folder = tempfile.gettempdir()
        try:
            if self._file is None:
                self._file = _TemporaryFile()
                logging.getLogger(__name__).info(
                    "Images of more than %g MB go into a temporary file in %s",
                    self._limit / 1e6,
                    folder,
                )
            for part in self._parts:
                self._file.handle.write(np.ascontiguousarray(part).data)
            self._file.handle.flush()
        except OSError as error:
            raise InputError(
                f"Cannot keep {self._num_bytes / 1e6:,.0f} MB of images in a temporary "
                f"file in {folder} ({error.strerror}). Name a roomier folder in "
                "TMPDIR, raise the memory limit, or choose fewer classes"
            ) from None
        self._parts.clear()

    def finish(self) -> Images:
        """All images, in their order.

        Raises:
            InputError: If there are none.
        """
        if not self._num_images:
            raise InputError("Expected at least one image. Received: none")
        if self._file is not None:
            rows = np.arange(self._num_images)
            return ImageFile(self._file, self._dtype, self._image_shape, rows)
        images = np.empty((self._num_images, *self._image_shape), self._dtype)
        end = len(images)
        while self._parts:
            # Freed as they are copied, so that memory holds the images once
            part = self._parts.pop()
            images[end - len(part) : end] = part
            end -= len(part)
        return images


def as_uint8(images: Images) -> np.ndarray:
    """Images of any type in [0, 255] → uint8 array in memory, for display."""
    return np.clip(np.rint(np.asarray(images)), 0, 255).astype(np.uint8)


def mean_of_images(images: Images) -> np.ndarray:
    """Mean over the images, float64 of shape `(height, width, channels)`."""
    total = np.zeros(images.shape[1:])
    for part in chunks(len(images)):
        total += np.asarray(images[part]).sum(axis=0, dtype=np.float64)
    return total / len(images)


def fingerprint(*parts: Any) -> str:
    """SHA-256 over arrays (type, shape and bytes) and JSON-able values, as hex.

    NumPy's numbers count as arrays, images in a file as the array they stand for.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, (np.ndarray, np.generic)):
            digest.update(f"{part.dtype}{part.shape}".encode())
            # As bytes, because bfloat16 has no buffer of its own
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
        elif isinstance(part, ImageFile):
            digest.update(f"{part.dtype}{part.shape}".encode())
            for chunk in chunks(len(part)):
                digest.update(np.asarray(part[chunk]).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def save_images(images: Images, path: pathlib.Path) -> None:
    """Writes images atomically to a file that other processes can map."""
    with atomic_path(path) as temporary:
        stored = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=images.dtype, shape=images.shape
        )
        for part in chunks(len(images)):
            stored[part] = np.asarray(images[part])
        stored.flush()
