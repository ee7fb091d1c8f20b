"""Our side of the conversation with a sandbox's process 1, whoever started it."""

from __future__ import annotations

import base64
import json
import platform
import socket
import time
from pathlib import Path
from typing import Any

from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.sandbox.kernel import MACHINES, system_call_filter
from ludora.errors import EnvBroken, InputError

PATIENCE = 30.0  # seconds over a command's own within which an answer must come
STARTED_WITHIN = 60.0  # seconds for a start, on a machine that is busy with many
MB = 1 << 20


def agent_code() -> str:
    """The agent as text; its own imports are all it needs."""
    return Path(__file__).with_name("agent.py").read_text(encoding="utf-8")


def bootstrap(code: str) -> str:
    """What Python is told on its command line: to read as many bytes from its standard input, and be that."""
    size = len(code.encode())
    return f"import os;c=b''\nwhile len(c)<{size}:c+=os.read(0,{size}-len(c))\nexec(c)"


def agent_config(limits: Limits) -> dict[str, Any]:
    """What the agent is told first."""
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
    return {
        "disk_mb": limits.disk_mb,
        "inodes": limits.inodes,
        "memory_mb": limits.memory_mb,
        "output_bytes": limits.output_bytes,
        "rlimits": rlimits,
        "filter": base64.b64encode(system_call_filter(machine)).decode(),
    }


class Line:
    """A connection on which lines are exchanged, each within a time."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.held = bytearray()

    def send(self, data: bytes) -> None:
        """Raises OSError when the other side is gone."""
        self.connection.settimeout(STARTED_WITHIN)
        self.connection.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """The next line without its end; b"" when the other side is gone. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while b"\n" not in self.held:
            self.connection.settimeout(max(until - time.monotonic(), 0.001))
            read = self.connection.recv(65_536)
            if not read:
                return b""
            self.held += read
        line, _, rest = bytes(self.held).partition(b"\n")
        self.held[:] = rest
        return line

    def say(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            EnvBroken: there was none.
        """
        try:
            self.send(json.dumps(message).encode() + b"\n")
            if line := self.receive(seconds):
                return dict(json.loads(line))
        except (OSError, ValueError) as error:
            raise EnvBroken(f"the sandbox does not answer: {error}") from None
        raise EnvBroken("the sandbox has ended")

    def run(self, script: str, language: str, seconds: float, trusted: bool) -> Done:
        """One command, to its end."""
        request = {"script": script, "language": language, "seconds": seconds, "trusted": trusted}
        return Done(**self.say(request, seconds + PATIENCE))

    def start(self, binds: tuple[str, ...], limits: Limits) -> None:
        """Hand the agent over to a Python that runs `bootstrap`, and wait until it is ready."""
        self.send(agent_code().encode())
        answer = self.say(agent_config(limits) | {"binds": binds}, STARTED_WITHIN)
        if "error" in answer:
            raise EnvBroken(f"the sandbox's file system: {answer['error']}")
