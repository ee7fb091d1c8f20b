"""What a sandbox is: a machine of its own for one episode, in which the agent is root and nothing leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What an episode may use.

    Attributes:
        seconds: of one command, wall clock; then everything that it started in the foreground is killed.
        processes: alive at once in the whole sandbox.
        memory_mb: of all processes together.
        disk_mb: written to the file system, all files together.
        inodes: files and folders made.
        output_bytes: kept of one command's output; the rest is dropped and `truncated` set.
    """

    seconds: float = 20.0
    processes: int = 100
    memory_mb: int = 512
    disk_mb: int = 64
    inodes: int = 20_000
    output_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended.

    Attributes:
        code: exit status as bash gives it (128 + signal); None when it was killed for its time.
        output: standard output and error in the order written, decoded with replacement, cut at the limit; control
            characters but newline and tab are replaced too, so that no terminal obeys them.
        timed_out: it ran past its seconds and was killed.
        out_of_memory: the memory watchdog killed processes of the sandbox while it ran.
        truncated: output was dropped.
        seconds: it took.
    """

    code: int | None
    output: str
    timed_out: bool = False
    out_of_memory: bool = False
    truncated: bool = False
    seconds: float = 0.0


class Sandbox(Protocol):
    """One machine. Commands run one after another, each a fresh `bash -c` as root in `/`; background jobs live on."""

    def run(self, script: str, *, language: str = "bash", seconds: float | None = None, trusted: bool = False) -> Done:
        """Run a script and wait for it.

        Args:
            script: any text; not limited by the length of a command line.
            language: bash, python, c or cpp.
            seconds: another limit than the sandbox's own.
            trusted: for verdicts. Run against pristine system programs, whatever the agent replaced, with nothing else
                running: what earlier commands left is killed; where the script looks at processes, it is stopped
                meanwhile.

        Raises:
            EnvBroken: the sandbox itself failed (never because of what the script did).
        """

    def close(self) -> None:
        """Kill everything in it and free what it holds. Idempotent."""
