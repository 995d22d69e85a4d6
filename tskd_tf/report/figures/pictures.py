"""Converts images of a data set to small pictures for a browser."""

import numpy as np
import tensorflow as tf

_LONGEST_SIDE = 160


def as_picture(image: np.ndarray) -> np.ndarray:
    """A small version of an image, grey or in colour.

    Args:
        image: uint8, shape `(height, width, channels)`. The first three channels are
            shown, or the first one if there are fewer than three.

    Returns:
        uint8, shape `(height, width, 1)` or `(height, width, 3)`. An image with a side
        of more than 160 pixels is reduced by the means of square blocks.
    """
    channels = 3 if image.shape[2] >= 3 else 1
    factor = -(-max(image.shape[:2]) // _LONGEST_SIDE)
    # Incomplete blocks at the right and lower edge are left out
    height, width = (max(1, side // factor) for side in image.shape[:2])
    kept = image[: height * factor, : width * factor, :channels]
    if factor == 1:
        return kept
    rows, columns = (min(factor, side) for side in image.shape[:2])
    squares = kept.reshape(height, rows, width, columns, channels)
    return np.asarray(np.round(squares.mean(axis=(1, 3))), np.uint8)


def png_bytes(picture: np.ndarray) -> bytes:
    """A PNG file of a picture in the form of `as_picture`."""
    return bytes(tf.io.encode_png(picture).numpy())
