"""Images of a data set as small pictures that anybody's browser shows."""

import numpy as np
import tensorflow as tf

_LONGEST_SIDE = 160


def as_picture(image: np.ndarray) -> np.ndarray:
    """An image in few pixels, grey or in colour.

    Args:
        image: uint8, shape `(height, width, channels)`. Of more than three channels the
            first three are shown, of two the first.

    Returns:
        uint8, shape `(height, width, 1)` or `(height, width, 3)`. Images of more than
        160 pixels a side are shrunk, means of squares standing for them.
    """
    channels = 3 if image.shape[2] >= 3 else 1
    factor = -(-max(image.shape[:2]) // _LONGEST_SIDE)
    # What does not fill a square at the right and lower edge is left out
    height, width = (max(1, side // factor) for side in image.shape[:2])
    kept = image[: height * factor, : width * factor, :channels]
    if factor == 1:
        return kept
    rows, columns = (min(factor, side) for side in image.shape[:2])
    squares = kept.reshape(height, rows, width, columns, channels)
    return np.asarray(np.round(squares.mean(axis=(1, 3))), np.uint8)


def png_bytes(picture: np.ndarray) -> bytes:
    """A PNG file of a picture as `as_picture` gives it."""
    return bytes(tf.io.encode_png(picture).numpy())
