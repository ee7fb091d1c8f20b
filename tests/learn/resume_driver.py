"""Run by resuming.py in a process of its own: trains in forked children, and kills them where it is told to.

Reads one JSON order per line, {"run": FOLDER, "config": {...}, "die": WHERE or null, "step": N or null}, and answers
each with the child's exit code (-9 after a SIGKILL). Forking saves importing torch for every child; nothing has been
computed before the fork, so a child starts as a fresh process does.

WHERE is `NAME:k`, before the k-th call of one of HOOKS in that child; `mark:STEP`, when this step is saved but not yet
marked as the best; `after:SECONDS`; or `tmp:k`, as soon as an outside observer sees the k-th unfinished checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 - here, so that no child has to import it
import peft  # noqa: F401
from rich.console import Console

from ludora.evals import plots, report  # noqa: F401
from ludora.evolve import search
from ludora.evolve.settings import EvolveConfig
from ludora.learn import ppo, sft
from ludora.models.adapters import SlotOptimizer
from ludora.models.engine import Engine
from ludora.players.model import ModelPlayer
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig, SFTConfig

# every place where a file becomes durable or visible, a batch of moves, an optimiser step
HOOKS: dict[str, tuple[Any, str]] = {
    "write": (os, "write"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "act": (ModelPlayer, "act"),
    "step": (SlotOptimizer, "step"),
}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        kind, _, where = (order["die"] or "").partition(":")
        child = os.fork()
        if child == 0:
            if kind in HOOKS:
                die_before(*HOOKS[kind], int(where))
            if kind == "mark":
                die_before_mark(int(where))
            config = dict(order["config"])
            if room := config.pop("cache_bytes", 0):  # less than what is learnt: some of it never has a place
                Engine.__init__.__kwdefaults__["cache_bytes"] = room
            kinds = {"ppo": PPOConfig, "sft": SFTConfig, "evolve": EvolveConfig}
            train(Path(order["run"]), kinds[config.pop("kind", "ppo")](**config), order["step"])
            os._exit(0)
        if kind == "after":
            time.sleep(float(where))
            os.kill(child, signal.SIGKILL)
        elif kind == "tmp":
            kill_in_a_save(child, Path(order["run"]) / "checkpoints", int(where))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def die_before(owner: Any, name: str, k: int) -> None:
    """Kill this process right before the k-th call."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == k:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, name, counted)


def die_before_mark(best: int) -> None:
    """Kill this process right before it marks a step as the best."""
    real = Run.mark_best

    def marked(run: Run, step: int) -> None:
        if step == best:
            os.kill(os.getpid(), signal.SIGKILL)
        real(run, step)

    Run.mark_best = marked  # type: ignore[method-assign]


def kill_in_a_save(child: int, checkpoints: Path, k: int) -> None:
    """Kill when the k-th folder under a temporary name shows up; a child that ends first is left to end."""
    seen: set[tuple[str, int]] = set()
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for path in checkpoints.glob(".tmp-step-*"):
            try:
                seen.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
        time.sleep(0.0002)
        if len(seen) >= k:
            os.kill(child, signal.SIGKILL)
            return


def train(path: Path, config: PPOConfig | SFTConfig | EvolveConfig, step: int | None) -> None:
    """As `ludora train` does: start, or go on where there is a run."""
    run = Run.open(path) if path.exists() else Run.create(path.parent, path.name, config.to_json())
    with run, RunLog(run, console=Console(file=io.StringIO())) as log:
        if isinstance(config, EvolveConfig):
            search.evolve(config, run, log)
        elif isinstance(config, SFTConfig):
            sft.train(config, run, log, step=step)
        else:
            ppo.train(config, run, log, step=step)


if __name__ == "__main__":
    main()
