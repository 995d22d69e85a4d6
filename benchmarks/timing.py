"""What the benchmarks share: alternating contestants, medians, the machine's facts."""

import gc
import json
import os
import pathlib
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

# One minute's, before the benchmark adds its own: above a few tenths, others run too
LOAD_AT_START = os.getloadavg()[0]


def alternate(
    contestants: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Times callables in turn, so that a slow minute hits all alike.

    Each round has an order of its own, so that none always runs after the same one.

    Args:
        contestants: By name; each is warmed up once, untimed.
        rounds: Timed calls of each.

    Returns:
        Seconds of each call, by name.
    """
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    generator = random.Random(1)
    for _ in range(rounds):
        for name in generator.sample(sorted(contestants), len(contestants)):
            gc.collect()
            start = time.perf_counter()
            result = contestants[name]()
            seconds[name].append(time.perf_counter() - start)
            # Taking it down, threads and all, is not timed
            del result
    return seconds


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, float]:
    """Median over the rounds of each contestant's time over `base`'s in that round."""
    return {
        name: statistics.median(a / b for a, b in zip(values, seconds[base]))
        for name, values in seconds.items()
    }


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median seconds of each contestant."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Facts a reader needs to place the figures."""
    import keras
    import tensorflow as tf

    model = platform.processor()
    flags = ""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(
            line.split(":", 1)
            for line in cpuinfo.read_text().splitlines()
            if ":" in line
        )
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        model, flags = fields.get("model name", model), fields.get("flags", "")
    return {
        "cpu": model,
        "num_cores": os.cpu_count(),
        "load_at_start": LOAD_AT_START,
        "has_avx512_bf16": "avx512_bf16" in flags,
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def emit(
    name: str, result: dict[str, Any], header: list[str], rows: list[list]
) -> None:
    """Prints one JSON line, then the same as a table."""
    line = {"benchmark": name, "machine": machine(), **result}
    sys.stdout.write(json.dumps(line) + "\n\n")
    cells = [header, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        first, *others = (cell for cell in row)
        text = "  ".join(cell.rjust(width) for cell, width in zip(others, widths[1:]))
        sys.stdout.write(f"{first.ljust(widths[0])}  {text}\n")
