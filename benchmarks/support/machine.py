"""The machine under a benchmark: its load, its matmul rate, and how results leave it."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from ludora.models.machine import pick_dtype, set_threads

# rows x inner x columns: the built-in model's own products, and two square ones
SHAPES = ((2048, 576, 1536), (2048, 1536, 576), (1024, 1024, 1024), (2048, 2048, 2048))
NAMES = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.float16: "fp16"}


def say(text: str) -> None:
    """Talk to people goes to stderr; stdout is for the result."""
    print(text, file=sys.stderr, flush=True)


def emit(result: dict[str, Any]) -> None:
    """The result: one line of JSON, the last thing on stdout."""
    sys.stderr.flush()
    print(json.dumps(result), flush=True)


def settle(threads: str) -> dict[str, Any]:
    """Choose dtype and threads once, for all sides; returns the facts that every result carries.

    The load average is read first: what is measured afterwards raises it.
    """
    load = [round(value, 2) for value in os.getloadavg()]
    count, _ = set_threads(threads)
    dtype, _ = pick_dtype("auto", torch.device("cpu"))
    return {
        "threads": count,
        "dtype": NAMES[dtype],
        "load_before": load,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def matmul_rate(dtype: torch.dtype, seconds: float = 0.5) -> float:
    """FLOP/s of the fastest product found within the time, over all shapes, each with weights as a layer has them."""
    best = 0.0
    draw = torch.Generator().manual_seed(0)
    for m, k, n in SHAPES:
        x, weight = (torch.randn(shape, generator=draw).to(dtype) for shape in ((m, k), (n, k)))
        torch.nn.functional.linear(x, weight)
        end = time.perf_counter() + seconds / len(SHAPES)
        while time.perf_counter() < end:
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            best = max(best, 2.0 * m * k * n / (time.perf_counter() - start))
    return best


def peak_rss_gb() -> float:
    """The most memory this process ever held, in units of 2^30 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform != "darwin" else 1) / 2**30


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def rounded(values: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    """Floats to so many significant digits, so that the line stays readable."""
    return {key: float(f"{value:.{digits}g}") if isinstance(value, float) else value for key, value in values.items()}
