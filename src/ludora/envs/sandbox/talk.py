"""Our side of the conversation with a sandbox's process 1, whoever started it."""

from __future__ import annotations

import platform
import socket
import time
from functools import cache
from pathlib import Path

from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.sandbox.kernel import MACHINES, system_call_filter
from ludora.errors import EnvBroken, InputError

PATIENCE = 30.0  # seconds over a command's own within which an answer must come
STARTED_WITHIN = 60.0  # seconds for a start, on a machine that is busy with many
MB = 1 << 20


@cache
def _agent() -> str:
    return Path(__file__).with_name("agent.py").read_text(encoding="utf-8")


def agent_text(limits: Limits, binds: tuple[str, ...]) -> bytes:
    """The agent as a program: its own text, and a call of its `main`.

    Raises:
        InputError: the system calls of this processor are not known.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise InputError(f"the sandbox's system-call filter knows no {machine}", f"it knows {', '.join(MACHINES)}")
    rlimits = {
        "AS": 2 * limits.memory_mb * MB,
        "CORE": 0,
        "CPU": max(60, round(10 * limits.seconds)),
        "FSIZE": limits.disk_mb * MB,
        "NOFILE": 1024,
        "NPROC": limits.processes,
    }
    own = {name: getattr(limits, name) for name in ("disk_mb", "inodes", "memory_mb", "output_bytes")}
    return f"{_agent()}\nmain({own}, {rlimits}, {binds}, {system_call_filter(machine)})\n".encode()


def bootstrap(size: int) -> str:
    """What Python is told on its command line: to read so many bytes from its standard input, and be that."""
    return f"import os;c=b''\nwhile len(c)<{size}:c+=os.read(0,{size}-len(c))\nexec(c)"


class Line:
    """A connection to a process, on which each answer must come within a time."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.held = b""

    def send(self, data: bytes) -> None:
        """Raises OSError when the other side is gone."""
        self.connection.settimeout(STARTED_WITHIN)
        self.connection.sendall(data)

    def _more(self, until: float) -> None:
        self.connection.settimeout(max(until - time.monotonic(), 0.001))
        read = self.connection.recv(65_536)
        if not read:
            raise ConnectionResetError("it has ended")
        self.held += read

    def receive(self, seconds: float, size: int = -1) -> bytes:
        """So many bytes, or without a size the next line without its end.

        Raises:
            OSError: the other side is gone, or was silent for too long.
        """
        until = time.monotonic() + seconds
        while len(self.held) < size if size >= 0 else b"\n" not in self.held:
            self._more(until)
        if size >= 0:
            found, self.held = self.held[:size], self.held[size:]
        else:
            found, _, self.held = self.held.partition(b"\n")
        return found

    def start(self, agent: bytes) -> None:
        """Hand the agent over to a Python that runs `bootstrap`, and wait until it is ready.

        Raises:
            EnvBroken: it is not.
            OSError: it does not answer.
        """
        self.send(agent)
        said = self.receive(STARTED_WITHIN)
        if said != b"ready":
            raise EnvBroken(said.decode("utf-8", "replace"))

    def run(self, script: str, language: str, seconds: float, trusted: bool) -> Done:
        """One command, to its end.

        Raises:
            EnvBroken: there was no answer.
        """
        data = script.encode("utf-8", "surrogateescape")
        try:
            self.send(f"{language} {seconds} {trusted:d} {len(data)}\n".encode() + data)
            code, timed_out, memory, truncated, took, size = self.receive(seconds + PATIENCE).split()
            output = self.receive(PATIENCE, int(size))
        except (OSError, ValueError) as error:
            raise EnvBroken(f"the sandbox does not answer: {error}") from None
        return Done(
            code=None if timed_out == b"1" else int(code),
            output=output.decode("utf-8", "replace"),
            timed_out=timed_out == b"1",
            out_of_memory=memory == b"1",
            truncated=truncated == b"1",
            seconds=float(took),
        )
