"""For the tests of exact resume: training processes that die where they are told to, and runs compared bit by bit."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ludora.models.checkpoint import pack_tensors
from ludora.models.tiny import tiny_model
from ludora.runs import episodes, files
from ludora.runs.store import Run

Order = Callable[..., int]
Change = Callable[[dict[str, bytes]], None]

TIMING = {"seconds_rollout", "seconds_update", "seconds_step", "time"}
TIMING |= {f"{what}_per_second" for what in ("tokens", "decisions", "examples")}
# how often a token was computed tells whether caches were cold, as they are after a resume
COLD = {"tokens_per_distinct_token"}


@contextmanager
def driving() -> Iterator[Order]:
    """Starts the driver; what it gives takes a config and the rest of an order, and returns the exit code of the
    training process.
    """
    driver = Path(__file__).with_name("resume_driver.py")
    process = subprocess.Popen([sys.executable, str(driver)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    reader, writer = process.stdout, process.stdin

    def give(
        config: Mapping[str, Any], run: Path, die: str | None = None, step: int | None = None, **changes: Any
    ) -> int:
        wanted = {"run": str(run), "config": {**config, **changes}, "die": die, "step": step}
        print(json.dumps(wanted), file=writer, flush=True)
        return int(reader.readline())

    yield give
    writer.close()
    process.wait()


def killed_at_random(order: Order, folder: Path, times: int) -> Path:
    """A run that was killed so many times at random moments; begun anew, under earlier kills, if it ended before one."""
    draw, latest, attempt, killed = random.Random(), 1.5, 0, 0
    while killed < times:
        code = order(folder / str(attempt), f"after:{draw.uniform(0.0, latest):.3f}")
        assert code in (0, -9)
        if code:
            killed += 1
        else:  # this machine is faster
            latest, attempt, killed = latest / 2, attempt + 1, 0
    return folder / str(attempt)


def outcome(path: Path) -> dict[str, Any]:
    """All that must be the same bit for bit: final adapter, metrics, evaluation, sample episodes, and the
    whole last checkpoint.
    """
    run = Run.read(path)
    found: dict[str, Any] = {f"adapter/{file.name}": file.read_bytes() for file in run.adapter.iterdir()}
    rows = run.rows("metrics.jsonl")
    found["metrics"] = [{k: v for k, v in row.items() if k not in TIMING | COLD} for row in rows]
    last = run.load_checkpoint()
    found |= {f"checkpoint/{name}": data for name, data in last.files.items()}
    state = json.loads(last.files["state.json"])
    del state["progress"]["seconds"]
    found["checkpoint/state.json"] = state
    if run.evaluation.exists():  # which names the run itself
        rows = [{key: row[key] for key in row.keys() - {"cost"}} for row in run.read_json("evaluation.json")["rows"]]
        found["evaluation"] = json.dumps(rows, sort_keys=True).replace(str(path), "RUN")
    found |= {f"episodes/{path.name}": path.read_bytes() for path in episodes.found(run.episodes).values()}
    return found | {"last": last.step, "best": run.best}  # a killed prune may leave more of the older ones


def differences(a: Path, b: Path) -> list[str]:
    """What is not the same in two runs; empty if they are one and the same history."""
    first, second = outcome(a), outcome(b)
    return [key for key in sorted(first.keys() | second.keys()) if first.get(key) != second.get(key)]


def altered(undisturbed: Path, run: Path, step: int, change: Change) -> None:
    """A copy of a run whose checkpoint of one step holds something else, under a manifest that fits it."""
    shutil.copytree(undisturbed, run)
    folder = Run.read(run).checkpoint(step)
    contents, facts = files.read_folder(folder)
    change(contents)
    shutil.rmtree(folder)
    files.write_folder(folder, contents, facts)


def drop_moments(optimizer: str) -> Change:
    """Takes what an optimiser remembers away."""

    def change(contents: dict[str, bytes]) -> None:
        assert len(contents[f"{optimizer}.safetensors"]) > 10_000
        contents[f"{optimizer}.safetensors"] = pack_tensors({})

    return change


def set_state(key: str, value: Any) -> Change:
    """Puts another value at a dotted place of a checkpoint's `state.json`."""

    def change(contents: dict[str, bytes]) -> None:
        part = state = json.loads(contents["state.json"])
        *path, last = key.split(".")
        for name in path:
            part = part[name]
        assert part[last] != value
        part[last] = value
        contents["state.json"] = json.dumps(state, sort_keys=True).encode()

    return change


def bf16_model(folder: Path) -> str:
    """A model so wide that bf16 kernels may give a row other bits in another batch; the value of `model`."""
    model, tokenizer = tiny_model("llama", hidden_size=576, intermediate_size=1536, num_hidden_layers=2)
    torch.nn.Module.to(model, dtype=torch.bfloat16)
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return str(folder)
