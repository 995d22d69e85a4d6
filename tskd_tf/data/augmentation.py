"""Augmented views of an image: flipped, cropped after padding, shifted.

A view is three integers. Applying a view moves pixels and does not change their values.
So the student sees exactly the view whose soft targets are stored.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tskd_tf.errors import InputError


class Augmentation(NamedTuple):
    """Which views are drawn; by default the image as it is.

    Attributes:
        flip: Whether half of the views are mirrored, left to right.
        crop: Pixels of black border that are added on each side before the image's
            size is cut out at random (He et al. 2016, section 4.2, use 4).
        shift: Pixels by which a view is moved at most, along either axis; the border
            repeats. Not together with `crop`, which also moves it.
    """

    flip: bool = False
    crop: int = 0
    shift: int = 0

    def check(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a distance is negative, or both are given.
        """
        if min(self.crop, self.shift) < 0 or (self.crop and self.shift):
            raise InputError(
                "Expected either crop or shift, in pixels from 0 on. Received: "
                f"crop={self.crop}, shift={self.shift}"
            )

    def __bool__(self) -> bool:
        return bool(self.flip or self.crop or self.shift)

    def draw(self, num_views: int, seed: Any) -> tf.Tensor:
        """Draws views.

        Args:
            num_views: Number of views, ≥ 0.
            seed: Two integers; equal seeds give equal views.

        Returns:
            int32 of shape `(num_views, 3)`: whether mirrored, and by how many pixels
            the view, once mirrored, looks further down and right.
        """
        distance = self.crop + self.shift
        lowest = tf.constant([0, -distance, -distance])
        count = tf.constant([1 + int(self.flip), *[2 * distance + 1] * 2], tf.float32)
        chance = tf.random.stateless_uniform((num_views, 3), seed)
        return lowest + tf.cast(tf.floor(chance * count), tf.int32)

    def apply(self, images: Any, views: Any) -> tf.Tensor:
        """Applies a view to each image.

        Args:
            images: Shape `(batch, height, width, channels)`.
            views: As `draw` gives them, shape `(batch, 3)`.

        Returns:
            The views, with the shape and type of `images`.
        """
        images, views = tf.convert_to_tensor(images), tf.cast(views, tf.int32)
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        is_mirrored, down, right = (part[:, None] for part in tf.unstack(views, axis=1))
        rows = tf.range(height)[None] + down
        columns = tf.range(width)[None] + right
        columns = tf.where(is_mirrored > 0, width - 1 - columns, columns)
        padding = self.crop
        padded = tf.pad(images, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
        rows = tf.clip_by_value(rows, -padding, height - 1 + padding) + padding
        columns = tf.clip_by_value(columns, -padding, width - 1 + padding) + padding
        seen = tf.gather(padded, rows, axis=1, batch_dims=1)
        seen = tf.gather(seen, columns, axis=2, batch_dims=1)
        return tf.ensure_shape(seen, images.shape)

    def map(self, dataset: tf.data.Dataset, seed: int = 1) -> tf.data.Dataset:
        """Gives each image of a data set a new view each epoch.

        Student and live teacher, which see the same batch, see the same views.

        Args:
            dataset: Batches of `(images, …)`, as `task.filter` gives them.
            seed: Integer; equal seeds give equal views in each epoch.

        Raises:
            InputError: If the batches carry stored teacher logits, which belong to the
                unchanged images, or if `check` fails.
        """
        self.check()
        if isinstance(dataset.element_spec[0], dict):
            raise InputError(
                "Expected batches of (images, labels). Received: a transfer set, whose "
                "teacher logits belong to its images as they are; pass the "
                "augmentation to transfer_set, which stores logits of other views"
            )
        draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)

        def look(batch: Any, draw: tf.Tensor) -> Any:
            images, *others = batch
            views = self.draw(tf.shape(images)[0], tf.stack([draw, seed]))
            return (self.apply(images, views), *others)

        # The draws are endless, so the batches decide the length
        return tf.data.Dataset.zip((dataset, draws)).map(look).prefetch(1)


def as_pixels(images: tf.Tensor) -> tf.Tensor:
    """A few pixels that identify a view: about 4 × 4 positions per image.

    Args:
        images: Shape `(batch, height, width, channels)`.
    """
    rows, columns = ((side or 1) // 4 + 1 for side in images.shape[1:3])
    return images[:, rows // 2 :: rows, columns // 2 :: columns]
