"""The embedded sandbox: user namespaces and bubblewrap around a root file system, our agent as process 1. No daemon.

    unshare  a user namespace with 65,536 ids: our own first (as root: of ids that nobody has)
    prlimit  the number of processes, which counts from the next user namespace on
    bwrap    that one, and mount, PID, network, IPC, UTS and cgroup namespaces; the root file system, read-only
    agent    a writable layer over it, in memory; then commands, each with few capabilities and a system-call filter

Two user namespaces, because the kernel counts processes per user *and namespace*: the limit set between the two is one of
this sandbox, over all users in it, and what the same user runs outside does not count.

Contained: files, devices, processes, network, IPC and host name of the machine; time, processes, memory, disk, inodes and
output of a sandbox. Not contained: holes in the kernel, which is shared; the share of the processor (only a lower priority);
timing and other side channels. See docs/sandbox.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading

from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.sandbox.roots import Root
from ludora.envs.sandbox.talk import STARTED_WITHIN, agent_code, bootstrap
from ludora.envs.sandbox.userns import Entered
from ludora.errors import EnvBroken

FEWER = 2  # processes of ours that count with the sandbox's: bwrap outside, and process 1
# Starts bwrap, and gives the namespace that it makes its ids: all of ours, as they are.
BUILD = r"""
exec 3<&0
"$@" <&3 >&3 &
read -r pid || exit 1
for kind in uid gid; do printf '0 0 1\n1 1 65535\n' > "/proc/$pid/${kind}_map" || exit 1; done
echo mapped
exec 0<&- 1>&- 3<&-
wait
"""


class NamespaceSandbox:
    """A sandbox that lives as long as this object is open, and no longer than this process."""

    def __init__(self, root: Root, limits: Limits) -> None:
        """Raises EnvBroken when it cannot be started."""
        self.root, self.limits = root, limits
        self._lock = threading.Lock()  # one command after another, whoever asks
        told, tell = os.pipe()
        held, release = os.pipe()
        try:
            command = bwrap(root, tell, held)
            limit = f"--nproc={limits.processes + FEWER}"
            self._entered = Entered(["sh", "-c", BUILD, "sh", "prlimit", limit, *command], (tell, held))
            os.close(tell)
            tell = -1
            try:
                self._start(told, release)
            except BaseException:
                self._entered.kill()
                raise
        finally:
            for descriptor in (told, tell, held, release):
                if descriptor >= 0:
                    os.close(descriptor)

    def _start(self, told: int, release: int) -> None:
        """Follow bwrap until the agent is ready."""
        line = self._entered.line
        try:
            pid = json.loads(_read_object(told))["child-pid"]
            line.send(f"{pid}\n".encode())
            if line.receive(STARTED_WITHIN) != b"mapped":
                raise ValueError
            os.write(release, b"1")
            line.start(self.root.binds, self.limits)
        except (OSError, ValueError, KeyError, EnvBroken) as error:
            said = self._entered.said() or (error.message if isinstance(error, EnvBroken) else "")
            raise EnvBroken(
                f"the sandbox did not start: {said or error}", "ludora doctor says what is missing"
            ) from None

    def run(self, script: str, *, language: str = "bash", seconds: float | None = None, trusted: bool = False) -> Done:
        """As the protocol says."""
        with self._lock:
            if self._entered.process.returncode is not None:
                raise EnvBroken("the sandbox is closed")
            limit = self.limits.seconds if seconds is None else seconds
            return self._entered.line.run(script, language, limit, trusted)

    def close(self) -> None:
        """Kill everything in it: process 1 ends when the line is cut, and with it its namespace."""
        if self._entered.process.returncode is None:
            with contextlib.suppress(OSError):
                self._entered.line.connection.shutdown(2)  # wakes who waits for an answer in another thread
            self._entered.wait(STARTED_WITHIN)


def bwrap(root: Root, tell: int, held: int) -> list[str]:
    """The command line of bubblewrap, and of the Python that becomes the agent."""
    spaces = [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts", "cgroup-try")]
    return [
        "bwrap",
        *spaces,
        *("--info-fd", str(tell), "--userns-block-fd", str(held), "--uid", "0", "--gid", "0"),
        *("--hostname", "sandbox", "--ro-bind", str(root.folder), "/"),
        *(word for folder in root.binds for word in ("--ro-bind", folder, folder)),
        *("--proc", "/proc", "--dev", "/dev", "--cap-add", "ALL", "--chdir", "/", "--clearenv"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--"),
        *(root.python, "-I", "-S", "-c", bootstrap(agent_code())),
    ]


def _read_object(descriptor: int) -> bytes:
    """What bwrap says of itself, up to the closing brace."""
    said = b""
    while b"}" not in said:
        read = os.read(descriptor, 4096)
        if not read:
            raise ValueError("bwrap ended")
        said += read
    return said
