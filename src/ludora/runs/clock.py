"""A clock that can be replayed: time is the one input of training that a resumed run cannot repeat.

What the clock said at each step is written down the first time and read again when the step is repeated after a
resume, so schedules and time budgets take the same turn as in the run that was killed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


class Clock:
    """Seconds of training by step, one JSON pair per line."""

    def __init__(self, path: Path) -> None:
        """Read what is there, up to a line that a kill cut short or a power cut spoilt; what follows is taken off."""
        self._path = path
        self._seconds: dict[int, float] = {}
        good = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                step, seconds = json.loads(line)
                self._seconds[int(step)] = float(seconds)
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        if path.exists():
            os.truncate(path, good)

    def at(self, step: int, seconds: float) -> float:
        """What was first said for this step; `seconds` if nothing was yet."""
        if step not in self._seconds:
            self._seconds[step] = seconds
            with self._path.open("ab") as file:
                file.write(f"[{step}, {seconds!r}]\n".encode())
        return self._seconds[step]
