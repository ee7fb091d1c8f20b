"""User namespaces: what runs in one is root over 65,536 ids of its own, and nobody in particular outside."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ludora.envs.sandbox.child import ENDS_WITHIN, Child
from ludora.errors import EnvBroken, InputError

BASE = 1_900_000_000  # as root: the first host id of a sandbox; they belong to nobody
IDS = 65_536
# A shell that is started before it has an id loses its capabilities; what it starts after has them all.
ENTER = 'echo ids; read -r go && exec "$@"'
UNPACKED_WITHIN = 600.0  # seconds, on a slow disk
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
            if owner in (name, user) and first.isdecimal() and count.isdecimal() and int(count) >= IDS - 1:
                return int(first)
    raise InputError(
        f"/etc/{kind} sets no {IDS:,} ids aside for {name}",
        f"as root: usermod --add-{kind}s 100000-165535 {name} (a range that no other line of /etc/{kind} has)",
    )


def nobody() -> list[str]:
    """What comes before a command so that root, too, runs it without rights: as the first id of a sandbox."""
    return ["setpriv", f"--reuid={BASE}", f"--regid={BASE}", "--clear-groups"] if os.geteuid() == 0 else []


def enter(command: list[str], pass_fds: tuple[int, ...] = ()) -> Child:
    """Start a command as root of a user namespace of its own, with all capabilities there.

    Raises:
        InputError: this user has no ids for it.
        EnvBroken: it cannot be made; with what the tools said.
    """
    users, groups = own_ids()
    child = Child([*nobody(), "unshare", "--user", "sh", "-c", ENTER, "sh", *command], ENVIRONMENT, pass_fds)
    try:
        child.receive(ENDS_WITHIN)
        for kind, ids in (("uid", users), ("gid", groups)):
            _map(child.process.pid, kind, ids)
        child.send(b"\n")
    except OSError as error:
        said = child.said()
        child.end(0)
        raise EnvBroken(f"no user namespace could be made: {said or error}") from None
    return child


def _map(pid: int, kind: str, ids: Ids) -> None:
    """Raises OSError when the ids are refused."""
    extents = ids.extents()
    if os.geteuid() == 0:
        lines = f"{' '.join(extents[:3])}\n{' '.join(extents[3:])}\n"
        handle = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY)
        try:
            os.write(handle, lines.encode())  # in one piece, as the kernel wants it
        finally:
            os.close(handle)
        return
    done = subprocess.run([f"new{kind}map", str(pid), *extents], env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


def as_root_inside(command: list[str], data: IO[bytes] | None = None) -> None:
    """Run a command to its end as root of a user namespace, with this on its standard input.

    Raises:
        EnvBroken: it failed.
    """
    child = enter(command)
    try:
        while data and (block := data.read(1 << 20)):
            child.send(block)
        child.line.shutdown(socket.SHUT_WR)
        child.process.wait(UNPACKED_WITHIN)
    except (OSError, subprocess.TimeoutExpired):
        pass  # what it said is told below
    said = child.said()
    if child.end(0) != 0:
        raise EnvBroken(f"{command[0]}: {said or 'it failed'}")
