"""User namespaces: what runs in one is root over 65,536 ids of its own, and nobody in particular outside."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ludora.envs.sandbox.talk import STARTED_WITHIN, Line
from ludora.errors import EnvBroken, InputError

BASE = 1_900_000_000  # as root: the first host id of a sandbox; they belong to nobody
IDS = 65_536
# A shell that is started before it has an id loses its capabilities; what it starts after has them all.
ENTER = 'echo ids; read -r go && exec "$@"'
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Ids:
    """Which ids outside are 0 to 65,535 inside: the first, and those that follow on `rest`."""

    first: int
    rest: int

    def extents(self) -> tuple[str, ...]:
        """As the kernel's map files and newuidmap want them: inside, outside, how many; twice."""
        return ("0", str(self.first), "1", "1", str(self.rest), str(IDS - 1))


def own_ids() -> tuple[Ids, Ids]:
    """Users and groups of the sandboxes of this process.

    Raises:
        InputError: an ordinary user has no range of subordinate ids.
    """
    if os.geteuid() == 0:
        return Ids(BASE, BASE + 1), Ids(BASE, BASE + 1)
    return Ids(os.geteuid(), _range("subuid")), Ids(os.getegid(), _range("subgid"))


def _range(kind: str) -> int:
    """The first of the ids that /etc/subuid or /etc/subgid sets aside for this user."""
    name = user = str(os.geteuid())
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(os.geteuid()).pw_name
    with contextlib.suppress(OSError):
        for line in Path("/etc", kind).read_text(encoding="utf-8").splitlines():
            owner, first, count = [*line.split(":"), "", ""][:3]
            if owner in (name, user) and first.isdigit() and count.isdigit() and int(count) >= IDS - 1:
                return int(first)
    raise InputError(
        f"/etc/{kind} sets no {IDS} ids aside for {name}",
        f"as root: usermod --add-{kind}s 100000-165535 {name} (a range that no other line of /etc/{kind} has)",
    )


class Entered:
    """A command that is root in a user namespace of its own. Its standard input and output are `line`."""

    def __init__(self, command: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        """Raises EnvBroken when the namespace cannot be made, with what the tools said."""
        ours, theirs = socket.socketpair()
        self.line = Line(ours)
        self.errors = tempfile.TemporaryFile()
        words = ["unshare", "--user", "sh", "-c", ENTER, "sh", *command]
        if os.geteuid() == 0:
            words = ["setpriv", f"--reuid={BASE}", f"--regid={BASE}", "--clear-groups", *words]
        try:
            with theirs:
                self.process = subprocess.Popen(
                    words,
                    stdin=theirs,
                    stdout=theirs,
                    stderr=self.errors,
                    cwd="/",
                    env=ENVIRONMENT,
                    pass_fds=pass_fds,
                )
        except OSError as error:
            self.line.connection.close()
            self.errors.close()
            raise EnvBroken(f"{words[0]}: {error.strerror}") from None
        try:
            self._identify()
        except BaseException:
            self.kill()
            raise

    def _identify(self) -> None:
        """Wait for the namespace, and give it its ids."""
        users, groups = own_ids()
        try:
            if self.line.receive(STARTED_WITHIN) != b"ids":
                raise EnvBroken(self.said() or "no user namespace could be made")
            for kind, ids in (("uid", users), ("gid", groups)):
                self._map(kind, ids)
            self.line.send(b"\n")
        except OSError as error:
            raise EnvBroken(f"no user namespace could be made: {error.strerror or error}") from None

    def _map(self, kind: str, ids: Ids) -> None:
        pid, extents = str(self.process.pid), ids.extents()
        if os.geteuid() == 0:
            lines = f"{' '.join(extents[:3])}\n{' '.join(extents[3:])}\n"
            handle = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY)
            try:
                os.write(handle, lines.encode())  # in one piece, as the kernel wants it
            finally:
                os.close(handle)
            return
        tool = shutil.which(f"new{kind}map") or f"/usr/bin/new{kind}map"
        done = subprocess.run([tool, pid, *extents], capture_output=True, text=True)
        if done.returncode:
            raise EnvBroken(f"new{kind}map: {done.stderr.strip()}")

    def said(self) -> str:
        """The last line on standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def wait(self, seconds: float) -> int | None:
        """Close the line and wait for the end. The exit status; None when it had to be killed."""
        self.line.connection.close()
        try:
            code: int | None = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        self.errors.close()
        return code

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.wait(STARTED_WITHIN)


def as_root_inside(command: list[str], data: IO[bytes] | None = None) -> None:
    """Run a command to its end as root of a user namespace, with this on its standard input.

    Raises:
        EnvBroken: it failed.
    """
    entered = Entered(command)
    try:
        while data and (block := data.read(1 << 20)):
            entered.line.send(block)
        entered.line.connection.shutdown(socket.SHUT_WR)
        while entered.line.receive(600.0):
            pass
        said = entered.said()
    except OSError as error:
        entered.kill()
        raise EnvBroken(f"{command[0]}: {error}") from None
    if entered.wait(STARTED_WITHIN) != 0:
        raise EnvBroken(f"{command[0]}: {said or 'it failed'}")
