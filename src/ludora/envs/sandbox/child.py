"""A process of ours, and the line on which it is spoken to: its standard input and output."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping

from ludora.errors import EnvBroken

ENDS_WITHIN = 60.0  # seconds, on a machine that is busy with many


class Child:
    """A running process."""

    def __init__(self, words: list[str], env: Mapping[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        """Raises EnvBroken when there is no such program."""
        self.line, theirs = socket.socketpair()
        self.held = b""
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this is
        try:
            with theirs:
                self.process = subprocess.Popen(
                    words,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self.errors,
                    cwd="/",
                    env=env,
                    pass_fds=pass_fds,
                )
        except OSError as error:
            self.line.close()
            self.errors.close()
            raise EnvBroken(f"{words[0]}: {error.strerror}") from None

    def send(self, data: bytes) -> None:
        """Raises OSError when it is gone."""
        self.line.settimeout(ENDS_WITHIN)
        self.line.sendall(data)

    def receive(self, seconds: float, size: int = -1) -> bytes:
        """So many bytes, or without a size the next line without its end.

        Raises:
            OSError: it is gone, or was silent for so many seconds.
        """
        until = time.monotonic() + seconds
        while len(self.held) < size if size >= 0 else b"\n" not in self.held:
            self.line.settimeout(max(until - time.monotonic(), 0.001))
            read = self.line.recv(65_536)
            if not read:
                raise ConnectionResetError("it has ended")
            self.held += read
        if size >= 0:
            found, self.held = self.held[:size], self.held[size:]
        else:
            found, _, self.held = self.held.partition(b"\n")
        return found

    def said(self) -> str:
        """The last line on standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def open(self) -> bool:
        """Whether `end` is still to come."""
        return not self.errors.closed

    def end(self, seconds: float = ENDS_WITHIN) -> int | None:
        """Cut the line and wait for the end. The exit status; None when it had to be killed. Idempotent."""
        self.line.close()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            self.errors.close()
