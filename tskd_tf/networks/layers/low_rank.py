"""Low-rank factors of a convolution kernel, by singular values."""

import numpy as np

from tskd_tf.errors import InputError


def low_rank_factors(kernel: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors a kernel into `rank` full kernels and a 1x1 kernel that combines them.

    The factors come from the singular value decomposition of the kernel matrix. The
    squared error of their product is the sum of the squared singular values that are
    left out, the least possible (Eckart & Young 1936).

    Args:
        kernel: Shape `(height, width, channels, filters)`.
        rank: From 1 to the smaller of `height·width·channels` and `filters`.

    Returns:
        Kernels of shape `(height, width, channels, rank)`, and a 1x1 kernel of shape
        `(1, 1, rank, filters)`. The largest singular value comes first and is shared
        equally between the two.

    Raises:
        InputError: If the rank is out of range.
    """
    *sides, filters = kernel.shape
    matrix = np.asarray(kernel, np.float64).reshape(-1, filters)
    _check_size("rank", rank, min(matrix.shape))
    first, second = _factors(matrix, rank)
    return first.reshape(*sides, rank), second[None, None]


def depthwise_factors(
    kernel: np.ndarray, multiplier: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors a kernel into `multiplier` kernels per channel and a 1x1 kernel.

    Each input channel is factored separately, as in `low_rank_factors`.

    Args:
        kernel: Shape `(height, width, channels, filters)`.
        multiplier: From 1 to the smaller of `height·width` and `filters`.

    Returns:
        Depthwise kernels of shape `(height, width, channels, multiplier)`, and a 1x1
        kernel of shape `(1, 1, channels·multiplier, filters)`.

    Raises:
        InputError: If the multiplier is out of range.
    """
    height, width, channels, filters = kernel.shape
    matrices = np.asarray(kernel, np.float64).reshape(-1, channels, filters)
    matrices = matrices.transpose(1, 0, 2)
    _check_size("multiplier", multiplier, min(matrices.shape[1:]))
    first, second = _factors(matrices, multiplier)
    first = first.transpose(1, 0, 2).reshape(height, width, channels, multiplier)
    return first, second.reshape(1, 1, channels * multiplier, filters)


def _factors(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    # Shared equally, so that neither factor learns faster than the other
    roots = np.sqrt(values[..., :rank])
    return (
        left[..., :rank] * roots[..., None, :],
        roots[..., None] * right[..., :rank, :],
    )


def _check_size(name: str, size: int, largest: int) -> None:
    if not 1 <= size <= largest:
        raise InputError(
            f"Expected {name} from 1 to {largest}, which reproduces the plain kernel. "
            f"Received: {size}"
        )
