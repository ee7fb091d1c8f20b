"""One side of a comparison in a process of its own, so that its memory is its own: it works when it is asked to.

The process tells what it is ready with in one line of JSON on its stdout; every line on its stdin asks for one more turn,
whose figures it tells in the same way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


class Worker:
    """The process, from outside. `facts` is what it told when it was ready."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._command[:3])} ended early, exit code {self._process.wait()}")
        return dict(json.loads(line))

    def turn(self) -> dict[str, Any]:
        """The figures of one more turn."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is gone: reading says how it ended
            self._process.stdin.write("next\n")
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()


@contextmanager
def working(*command: str) -> Iterator[Worker]:
    """A worker that ends with the block."""
    worker = Worker(command)
    try:
        yield worker
    finally:
        worker.close()


def answer(figures: dict[str, Any]) -> bool:
    """In the process: send figures, and wait: is another turn wanted?"""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    return bool(sys.stdin.readline().strip())
