"""Choices that depend on the machine: precision and compilation."""

import pathlib

import keras
import tensorflow as tf

from tskd_tf.errors import InputError

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
# From this compute capability on, NVIDIA GPUs have tensor cores for float16
_TENSOR_CORES = (7, 0)


def choose_precision(precision: str = "auto") -> str:
    """The Keras dtype policy to train with.

    Args:
        precision: One of `PRECISIONS`. `auto` means mixed_float16 on a GPU with
            tensor cores (with loss scaling, as float16 has few exponents),
            mixed_bfloat16 on a CPU with bfloat16 instructions, else float32.

    Raises:
        InputError: If it is none of them.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"Expected precision out of {', '.join(PRECISIONS)}. Received: {precision}"
        )
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    ]
    if gpus:
        return "mixed_float16" if min(capabilities) >= _TENSOR_CORES else "float32"
    return "mixed_bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    """Whether Linux lists instructions that multiply bfloat16; elsewhere False."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_jit_compile() -> bool:
    """Whether to compile the training step with XLA: on a GPU only.

    On a CPU, XLA's convolutions are slower than the oneDNN kernels TensorFlow uses
    without it (0.5 to 0.7 times the speed, measured on these networks).
    """
    return bool(tf.config.list_physical_devices("GPU"))


def describe_device() -> str:
    """The device that trains, in words."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        return f"CPU, {threads} threads" if threads else "CPU, all cores"
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in gpus
    ]
    return ", ".join(names)


def uses_float16(model: keras.Model) -> bool:
    """Whether any layer computes in float16, so that gradients can underflow."""
    return any(
        (
            uses_float16(layer)
            if isinstance(layer, keras.Model)
            else layer.compute_dtype == "float16"
        )
        for layer in model.layers
    )
