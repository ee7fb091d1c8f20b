"""The embedded sandbox: user namespaces and bubblewrap around a root file system, our agent as process 1. No daemon.

    unshare  a user namespace with 65,536 ids: our own first (as root: of ids that nobody has)
    prlimit  the number of processes, which counts from the next user namespace on
    bwrap    that one, and mount, PID, network, IPC, UTS and cgroup namespaces; the root file system, read-only
    agent    a writable layer over it, in memory; then commands, each with few capabilities and a system-call filter

Two user namespaces, because the kernel counts processes per user *and namespace*: the limit set between the two is one
of this sandbox, over all users in it, and what the same user runs outside does not count.

Contained: files, devices, processes, network, IPC and host name of the machine; time, processes, memory, disk, inodes
and output of a sandbox. Not contained: holes in the kernel, which is shared; the share of the processor (it only has a
lower priority); timing and other side channels. See docs/sandbox.md.
"""

from __future__ import annotations

import json
import os
import select

from ludora.envs.sandbox.base import Limits
from ludora.envs.sandbox.child import ENDS_WITHIN
from ludora.envs.sandbox.roots import Root
from ludora.envs.sandbox.talk import HINT, Running, agent_text, bootstrap
from ludora.envs.sandbox.userns import enter
from ludora.errors import EnvBroken

OURS = 5  # processes that count with the sandbox's: two shells, bwrap, process 1, and one more command of it
# Starts bwrap, and gives the namespace that it makes its ids: all of ours, as they are. Without bwrap it ends.
BUILD = r"""
exec 3<&0
{ "$@" <&3 >&3 || kill $$; } &
read -r pid || exit 1
for kind in uid gid; do printf '0 0 1\n1 1 65535\n' > "/proc/$pid/${kind}_map" || exit 1; done
echo mapped
exec 0<&- 1>&- 3<&-
wait
"""


def start(root: Root, limits: Limits) -> Running:
    """A fresh sandbox.

    Raises:
        InputError: this user has no ids for it, or this processor's system calls are not known.
        EnvBroken: it did not start.
    """
    agent = agent_text(limits, root.binds)
    told, tell = os.pipe()
    held, release = os.pipe()
    try:
        limit = f"--nproc={limits.processes + OURS}"
        words = ["sh", "-c", BUILD, "sh", "prlimit", limit, *bwrap(root, len(agent), tell, held)]
        child = enter(words, (tell, held))
        os.close(tell)
        tell = -1
        try:
            child.send(f"{_process_1(told)}\n".encode())
            child.receive(ENDS_WITHIN)  # its ids are there
            os.write(release, b"1")
        except (OSError, ValueError, KeyError) as error:
            said = child.said() or str(error)
            child.end(0)
            raise EnvBroken(f"the sandbox did not start: {said}", HINT) from None
    finally:
        for descriptor in (told, tell, held, release):
            if descriptor >= 0:
                os.close(descriptor)
    sandbox = Running(child, limits, facts(root))
    sandbox.start(agent)
    return sandbox


def facts(root: Root) -> dict[str, str]:
    """What results are got with."""
    return {"backend": "namespaces", "root": root.source, "digest": root.digest}


def _process_1(told: int) -> int:
    """Its number outside, which bwrap tells of itself.

    Raises:
        ValueError: bwrap ended before, or is silent.
    """
    said, poll = b"", select.poll()
    poll.register(told, select.POLLIN)
    while b"}" not in said:
        read = os.read(told, 4096) if poll.poll(1000 * ENDS_WITHIN) else b""
        if not read:
            raise ValueError("bwrap ended")
        said += read
    return int(json.loads(said)["child-pid"])


def bwrap(root: Root, agent_size: int, tell: int, held: int) -> list[str]:
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
        *(root.python, "-I", "-S", "-c", bootstrap(agent_size)),
    ]
