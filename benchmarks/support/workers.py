"""Sides of a benchmark in processes of their own, asked for one turn at a time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Worker:
    """One side in its own process, asked for one turn at a time."""

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
        self._process.stdin.write("next\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        if self._process.stdin is not None:
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
