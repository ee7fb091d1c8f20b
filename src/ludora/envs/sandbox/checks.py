"""What a sandbox needs of this machine, one line each, with the exact fix where it is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ludora.envs.sandbox import containers, namespaces
from ludora.envs.sandbox.base import Limits
from ludora.envs.sandbox.kernel import MACHINES
from ludora.envs.sandbox.roots import find_root
from ludora.envs.sandbox.userns import ENVIRONMENT, nobody, own_ids
from ludora.errors import EnvBroken, InputError

OLDEST = (5, 11)  # the first kernel that lets root of a user namespace mount an overlay
PACKAGES = {
    "unshare": "util-linux",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "bwrap": "bubblewrap",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
}
# Files under /proc/sys, and what they must say; the first, at least 2. For root too, who starts a sandbox as nobody.
SWITCHES = {
    "user/max_user_namespaces": "10000",
    "kernel/unprivileged_userns_clone": "1",
    "kernel/apparmor_restrict_unprivileged_userns": "0",
}
IN_CONTAINER = (
    "this is a container whose profile forbids them: start it with --security-opt seccomp=unconfined --security-opt "
    "apparmor=unconfined --security-opt systempaths=unconfined, or use backend=docker or podman outside"
)


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: of what is needed.
        found: what there is.
        fix: what to do; empty where it is as it must be.
    """

    name: str
    found: str
    fix: str = ""


def checks(settings: Path = Path("/proc/sys")) -> list[Check]:
    """All lines about the embedded sandbox, the most basic first.

    Args:
        settings: the kernel's.
    """
    found = [_processor(), _kernel(), *_programs(), *_namespaces(settings), _ids(), _root()]
    return found if any(check.fix for check in found) else [*found, _start()]


def refuse(settings: Path = Path("/proc/sys")) -> None:
    """Raises InputError about the first thing that is missing, if anything is."""
    for check in checks(settings):
        if check.fix:
            raise InputError(f"no sandbox can be had here: {check.name}: {check.found}", check.fix)


def engines() -> list[Check]:
    """Which container engines answer; none is needed."""
    found = []
    for engine in containers.ENGINES:
        try:
            found.append(Check(engine, containers.version(engine)))
        except InputError as error:
            found.append(Check(engine, error.message, error.hint))
    return found


def _processor() -> Check:
    machine = platform.machine()
    return Check("processor", machine, "" if machine in MACHINES else f"a processor out of {', '.join(MACHINES)}")


def _kernel() -> Check:
    release = platform.release()
    numbers = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if platform.system() != "Linux":
        return Check("kernel", platform.system(), "Linux, or backend=docker")
    fix = "" if numbers >= OLDEST else f"a kernel of {'.'.join(map(str, OLDEST))} or newer, or backend=docker"
    return Check("kernel", release, fix)


def _programs() -> Iterator[Check]:
    wanted = ["unshare", "prlimit", "bwrap", *(["setpriv"] if os.geteuid() == 0 else ["newuidmap", "newgidmap"])]
    for name in wanted:
        path = shutil.which(name, path=ENVIRONMENT["PATH"])
        yield Check(name, path or "not there", "" if path else f"apt install {PACKAGES[name]}")


def _namespaces(settings: Path) -> Iterator[Check]:
    """The switches that forbid user namespaces, then whether one can be made."""
    for name, right in SWITCHES.items():
        key = name.replace("/", ".", 1)
        try:
            value = (settings / name).read_text().strip()
        except OSError:
            continue  # this kernel has no such switch
        good = int(value) >= 2 if right == "10000" else value == right
        yield Check(key, value, "" if good else f"as root: sysctl -w {key}={right}")
    try:
        words = [*nobody(), "unshare", "--user", "--pid", "--fork", "true"]
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)
    except OSError:
        return  # a program is not there, which is said already
    fix = IN_CONTAINER if _filtered() else "something forbids user namespaces: as root, dmesg says what"
    found = done.stderr.strip() if done.returncode else "can be made"
    yield Check("user namespaces", found, fix if done.returncode else "")


def _ids() -> Check:
    try:
        users, _ = own_ids()
    except InputError as error:
        return Check("ids", error.message, error.hint)
    return Check("ids", f"{users.first}, and 65,535 from {users.rest} on")


def _start() -> Check:
    """Whether one starts, when nothing that can be looked at is missing."""
    try:
        sandbox = namespaces.start(find_root(), Limits())
        done = sandbox.run("id -u", trusted=True)
        sandbox.close()
    except EnvBroken as error:
        return Check("start", error.message, IN_CONTAINER if _filtered() or "proc" in error.message else "report this")
    return Check(
        "start", "works" if done.output == "0\n" else done.output, "" if done.output == "0\n" else "report this"
    )


def _filtered() -> bool:
    """Whether this very process is behind a system-call filter, as in a container."""
    return re.search(r"^Seccomp:\s*2", Path("/proc/self/status").read_text(), re.MULTILINE) is not None


def _root() -> Check:
    try:
        root = find_root()
    except InputError as error:
        return Check("root file system", error.message, error.hint)
    return Check("root file system", f"{root.source} {root.digest[:12]}")
