"""Functions that the benchmarks share: timing, medians, facts about the machine."""

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

# Mean of a minute before the benchmark's own load: above 0.3 or so, the machine is busy
LOAD_AT_START = os.getloadavg()[0]


def alternate(
    contestants: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Times callables in turn, so that a slow minute affects all of them.

    Each round has another order, so that none always runs after the same one.

    Args:
        contestants: Callables by name. Each is called once before, without timing.
        rounds: Number of timed calls of each.

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
            # The time to release the result and its threads does not count
            del result
    return seconds


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, float]:
    """Median over the rounds of each contestant's time divided by `base`'s."""
    return {
        name: statistics.median(a / b for a, b in zip(values, seconds[base]))
        for name, values in seconds.items()
    }


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median seconds of each contestant."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Facts about the machine that a reader of the results needs."""
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
    """Prints the result as one JSON line, then as a table."""
    line = {"benchmark": name, "machine": machine(), **result}
    sys.stdout.write(json.dumps(line) + "\n\n")
    cells = [header, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        first, *others = (cell for cell in row)
        text = "  ".join(cell.rjust(width) for cell, width in zip(others, widths[1:]))
        sys.stdout.write(f"{first.ljust(widths[0])}  {text}\n")
