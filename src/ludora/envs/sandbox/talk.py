"""Our side of the conversation with a sandbox's process 1, whoever started it."""

from __future__ import annotations

import contextlib
import platform
import re
import socket
import threading
from functools import cache
from pathlib import Path

from ludora.envs.sandbox.agent import COMMANDS as LANGUAGES
from ludora.envs.sandbox.agent import KILLED, STOPPED
from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.sandbox.child import ENDS_WITHIN, Child
from ludora.envs.sandbox.kernel import FAMILIES, MACHINES, TRUSTED_FAMILIES, system_call_filter
from ludora.errors import EnvBroken, InputError

PATIENCE = 30.0  # seconds over a command's own within which an answer must come
PARTS = ("layers.py", "jobs.py", "agent.py")
FUTURE = "from __future__ import annotations\n"
HINT = "ludora doctor says what is missing"
MB = 1 << 20
# C0 and C1 controls, and what turns the direction of text
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_OWN_IMPORT = re.compile(r"^from (?:ludora|__future__)\b[^(\n]*(?:\([^)]*\))?\n", re.MULTILINE)
# A script that looks at processes: they are stopped while it judges, where others are killed.
_ABOUT_PROCESSES = re.compile(r"/proc\b|\b(ps|pgrep|pidof|pkill|kill|killall|jobs|top|pstree|psutil|fuser|lsof)\b")


@cache
def _agent() -> str:
    """The text of all its files, without what they import from one another."""
    here = Path(__file__).parent
    return FUTURE + "".join(_OWN_IMPORT.sub("", (here / name).read_text(encoding="utf-8")) for name in PARTS)


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
        "MSGQUEUE": 0,
        "NOFILE": 1024,
        "NPROC": limits.processes,
    }
    own = {name: getattr(limits, name) for name in ("disk_mb", "inodes", "memory_mb", "output_bytes")}
    filters = tuple(system_call_filter(machine, families) for families in (FAMILIES, TRUSTED_FAMILIES))
    return f"{_agent()}\nmain({own}, {rlimits}, {binds}, {filters!r})\n".encode()


def bootstrap(size: int) -> str:
    """What Python is told on its command line: to read so many bytes from its standard input, and be that."""
    return f"import os;c=b''\nwhile len(c)<{size}:c+=os.read(0,{size}-len(c))\nexec(c)"


def plain(text: str) -> str:
    """The text with every control character but newline and tab replaced: what a terminal would obey is only shown."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class Running:
    """A sandbox whose process 1 is our agent, whoever started it. It ends with this process, however that ends."""

    def __init__(self, child: Child, limits: Limits, facts: dict[str, str]) -> None:
        self.child, self.limits = child, limits
        self.facts = facts  # what results were got with: the backend, the root file system
        self._lock = threading.Lock()  # one command after another, whoever asks

    def start(self, agent: bytes) -> None:
        """Hand the agent over to a Python that runs `bootstrap`, and wait until it is ready.

        Raises:
            EnvBroken: it is not; what there is of it is gone.
        """
        try:
            self.child.send(agent)
            said = self.child.receive(ENDS_WITHIN).decode("utf-8", "replace")
        except OSError as error:
            said = self.child.said() or str(error)
        if said != "ready":
            self.child.end()
            raise EnvBroken(f"the sandbox did not start: {said}", HINT)

    def run(self, script: str, *, language: str = "bash", seconds: float | None = None, trusted: bool = False) -> Done:
        """As the protocol says."""
        if language not in LANGUAGES:
            raise ValueError(f"a sandbox runs {', '.join(LANGUAGES)}, not {language}")
        limit = self.limits.seconds if seconds is None else seconds
        data = script.encode("utf-8", "replace")
        others = (STOPPED if _ABOUT_PROCESSES.search(script) else KILLED) if trusted else 0
        with self._lock:
            try:
                self.child.send(f"{language} {limit} {others} {len(data)}\n".encode() + data)
                code, timed_out, memory, truncated, took, size = self.child.receive(limit + PATIENCE).split()
                output = self.child.receive(PATIENCE, int(size))
            except (OSError, ValueError) as error:
                self.close()
                raise EnvBroken(f"the sandbox does not answer: {error}") from None
        return Done(
            code=None if timed_out == b"1" else int(code),
            output=plain(output.decode("utf-8", "replace")),
            timed_out=timed_out == b"1",
            out_of_memory=memory == b"1",
            truncated=truncated == b"1",
            seconds=float(took),
        )

    def close(self) -> None:
        """Kill everything in it: process 1 ends when its line is cut, and its namespace with it."""
        if self.child.open:
            with contextlib.suppress(OSError):
                self.child.line.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer in another thread
            self.child.end()
