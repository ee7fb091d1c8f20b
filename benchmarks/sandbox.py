"""Milliseconds to start a sandbox, to run a command in it, and episodes per second, beside bash and bubblewrap alone.

Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from support.machine import emit, median, rounded, say

from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.talk import Running

SETUP = "useradd -m tester && mkdir /shared"
COMMANDS = ("groupadd team", "usermod -aG team tester", "chgrp team /shared && stat -c %G /shared")
VERDICT = "stat -c %G /shared | grep -qx team && id -nG tester | grep -qw team"
BARE = ("bash", "-c", "true")
ALONE = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", *BARE)


def milliseconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def one_by_one(repeats: int) -> dict[str, list[float]]:
    """Every part of an episode, and the plain tools beside them, in turns."""
    found: dict[str, list[float]] = {
        name: [] for name in ("start", "true", "useradd", "trusted", "close", "bash", "bwrap", "memory_mb")
    }
    for _ in range(repeats):
        held: list[Running] = []
        found["start"].append(milliseconds(lambda held=held: held.append(open_sandbox())))
        sandbox = held[0]
        found["true"].append(milliseconds(lambda sandbox=sandbox: sandbox.run("true")))
        found["useradd"].append(milliseconds(lambda sandbox=sandbox: sandbox.run("useradd -m tester")))
        found["trusted"].append(milliseconds(lambda sandbox=sandbox: sandbox.run("true", trusted=True)))
        found["memory_mb"].append(held_mb(sandbox.child.process.pid))
        found["close"].append(milliseconds(sandbox.close))
        for name, words in (("bash", BARE), ("bwrap", ALONE)):
            found[name].append(milliseconds(lambda words=words: subprocess.run(words, check=True)))
    return found


def held_mb(pid: int) -> float:
    """Memory of our own processes around a sandbox, shared pages counted in parts, in units of 2^20 bytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    smaps = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    own = next(int(line.split()[1]) for line in smaps if line.startswith("Pss:"))
    return own / 1024 + sum(held_mb(int(child)) for child in children)


def episode(number: int) -> bool:
    """Start, set up, three commands, the verdict, the end."""
    sandbox = open_sandbox()
    try:
        for script in (SETUP, *COMMANDS):
            sandbox.run(script)
        return sandbox.run(VERDICT, trusted=True).code == 0
    finally:
        sandbox.close()


def at_once(count: int, episodes: int) -> dict[str, float]:
    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        right = sum(pool.map(episode, range(episodes)))
        seconds = time.perf_counter() - start
    if right != episodes:
        raise SystemExit(f"{episodes - right} of {episodes} episodes were judged wrong")
    return rounded({"episodes": episodes, "per_second": episodes / seconds})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--episodes", type=int, default=96)
    options = parser.parse_args()
    load = [round(value, 2) for value in os.getloadavg()]
    sandbox = open_sandbox()
    facts = sandbox.facts
    sandbox.close()
    say("one by one")
    found = one_by_one(options.repeats)
    said: dict[str, Any] = {}
    for count in (1, 8, 32):
        say(f"{count} at once")
        said[str(count)] = at_once(count, options.episodes)
    memory = median(found.pop("memory_mb"))
    ms = {
        name: rounded({"p50": median(values), "p95": sorted(values)[int(0.95 * len(values))]})
        for name, values in found.items()
    }
    emit(
        rounded(
            {
                "benchmark": "sandbox",
                "ratio": ms["true"]["p50"] / ms["bash"]["p50"],
                "ratio_bwrap": ms["true"]["p50"] / ms["bwrap"]["p50"],
                "milliseconds": ms,
                "memory_mb": memory,
                "at_once": said,
                **facts,
                "user": "root" if os.geteuid() == 0 else "an ordinary user",
                "kernel": platform.release(),
                "cores": len(os.sched_getaffinity(0)),
                "load_before": load,
                "load_after": [round(value, 2) for value in os.getloadavg()],
            }
        )
    )


if __name__ == "__main__":
    main()
