"""Choices that depend on the machine: precision, compilation, number of devices."""

import functools
import pathlib
from typing import Any

import keras
import tensorflow as tf

from tskd_tf.choices import DISTRIBUTIONS, PRECISIONS
from tskd_tf.errors import InputError

# From this compute capability on, NVIDIA GPUs have tensor cores for float16
_TENSOR_CORES = (7, 0)


def choose_precision(precision: str = "auto") -> str:
    """The Keras dtype policy to train with; see `explain_precision`.

    Args:
        precision: One of `choices.PRECISIONS`.

    Raises:
        InputError: If `precision` is none of them.
    """
    return explain_precision(precision)[0]


def explain_precision(precision: str = "auto") -> tuple[str, str]:
    """The Keras dtype policy to train with, and the reason in words.

    On a GPU with tensor cores, float16 is preferred to bfloat16. All tensor cores
    support it (bfloat16 came later), it is as fast, and it has three more bits of
    precision. Its small range needs loss scaling, which `Distiller.compile` adds.

    Args:
        precision: One of `choices.PRECISIONS`. `auto` means mixed_float16 on a GPU with
            tensor cores, mixed_bfloat16 on a CPU with bfloat16 instructions, else
            float32.

    Raises:
        InputError: If `precision` is none of them.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"Expected precision out of {', '.join(PRECISIONS)}. Received: {precision}"
        )
    if precision != "auto":
        return precision, "as asked for"
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    ]
    if gpus and min(capabilities) >= _TENSOR_CORES:
        return "mixed_float16", "the GPU has tensor cores; losses are scaled"
    if gpus:
        return "float32", "the GPU has no tensor cores"
    if _cpu_has_bfloat16():
        return "mixed_bfloat16", "the CPU has bfloat16 instructions"
    return "float32", "the CPU has no bfloat16 instructions that can be seen"


def _cpu_has_bfloat16() -> bool:
    """Whether Linux lists bfloat16 instructions; False on other systems."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_jit_compile(jit_compile: Any = "auto") -> bool:
    """Whether to compile the training step with XLA; `"auto"` means on a GPU only.

    On a CPU, XLA's convolutions are slower than the oneDNN kernels that TensorFlow uses
    without XLA (0.5 to 0.7 times the speed, measured on the package's networks).

    Args:
        jit_compile: True, False or `"auto"`.
    """
    if jit_compile == "auto":
        return bool(tf.config.list_physical_devices("GPU"))
    return bool(jit_compile)


def choose_steps_per_execution(
    num_steps: int, steps_per_execution: int | None = None, num_replicas: int = 1
) -> int:
    """Number of training steps in one call of TensorFlow.

    One iteration of Keras's Python loop costs as much as several steps of a small
    student. On a GPU, where steps are shorter, it costs even more of them. Ctrl-C and
    the progress bar wait for the end of a call.

    Args:
        num_steps: Number of steps of an epoch. A call never spans two epochs.
        steps_per_execution: The user's choice, ≥ 1. By default 50 on a CPU (20 took 4 %
            longer, 200 was not faster), 200 on a GPU (not measured).
        num_replicas: Number of devices that share a batch. Keras 3.15 cannot run
            several steps per call on several devices.

    Raises:
        InputError: If `steps_per_execution` is above 1 on several devices.
    """
    if num_replicas > 1:
        if steps_per_execution not in (None, 1):
            raise InputError(
                "Expected steps_per_execution 1 on several devices, where Keras cannot "
                f"run more steps in one call. Received: {steps_per_execution}"
            )
        return 1
    if steps_per_execution is None:
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        steps_per_execution = 200 if on_gpu else 50
    return min(num_steps, steps_per_execution)


def choose_strategy(distribute: str = "auto") -> tf.distribute.Strategy:
    """The strategy for training; the model is built in its scope.

    Args:
        distribute: One of `choices.DISTRIBUTIONS`. `mirrored` means a copy of the
            student on each GPU, or on each logical CPU if there is no GPU. Each copy
            gets a share of each batch. `auto` means mirrored on GPUs only. With `none`
            or one device, the caller's strategy stays in use.

    Raises:
        InputError: If `distribute` is none of them.
    """
    if distribute not in DISTRIBUTIONS:
        raise InputError(
            f"Expected distribute out of {', '.join(DISTRIBUTIONS)}. Received: "
            f"{distribute}"
        )
    devices = tf.config.list_logical_devices("GPU")
    if distribute == "mirrored" and not devices:
        devices = tf.config.list_logical_devices("CPU")
    if distribute == "none" or len(devices) < 2:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(device_names: tuple[str, ...]) -> tf.distribute.Strategy:
    """One strategy per process: TensorFlow confuses the sums of two of them."""
    return tf.distribute.MirroredStrategy(device_names)


def describe_device() -> str:
    """A description of the device that trains, for the report."""
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
