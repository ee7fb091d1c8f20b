"""Runs the table of probes on this machine, and looks whether anything of the host has changed."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ludora.envs.sandbox.base import Done, Limits, Sandbox
from ludora.envs.sandbox.forgeries import FORGERIES, PREPARED, SOLUTION, VERDICT, Forgery
from ludora.envs.sandbox.probes import PROBES, SECRET, SLEEP, SMALL, Probe
from ludora.errors import EnvBroken

Opens = Callable[[Limits], Sandbox]


@dataclass(frozen=True)
class Finding:
    """One row: what was tried, whether it was contained, and what was seen where it was not."""

    group: str
    name: str
    contained: bool
    seen: str = ""


class Host:
    """Things of the host for probes to reach: a port, a socket, a process, a file; and how the host looked before."""

    def __init__(self, folder: Path) -> None:
        os.environ["LUDORA_PROBE"] = SECRET
        self.file = folder / "secret"
        self.file.write_text(SECRET)
        self.port = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.name = f"ludora-{secrets.token_hex(8)}"
        self.abstract.bind(f"\0{self.name}")
        self.abstract.listen()
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.before = (_mounts(), _devices())

    def script(self, probe: Probe) -> str:
        """A probe's script with the things of this host in it."""
        script = probe.script.replace("PORT", str(self.port.getsockname()[1])).replace("ABSTRACT", self.name)
        return script.replace("PID", str(self.process.pid)).replace("FILE", str(self.file))

    def findings(self) -> Iterator[Finding]:
        """What of the host must be as it was."""
        for listener in (self.port, self.abstract):
            listener.settimeout(0)
        mounts, devices = self.before
        yield _finding("mounts are as they were", _mounts() == mounts)
        yield _finding("devices are as they were", _devices() == devices)
        yield _finding("a process was neither killed nor stopped", _state(self.process.pid) not in "TtZX")
        yield _finding("a file is as it was", self.file.read_text() == SECRET)
        yield _finding("nobody has connected", not (_called(self.port) or _called(self.abstract)))
        left = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if SLEEP in _command(pid)]
        yield _finding("no process is left", not left, " ".join(left))

    def close(self) -> None:
        """Take it all away."""
        del os.environ["LUDORA_PROBE"]
        self.port.close()
        self.abstract.close()
        self.process.kill()
        self.process.communicate()


def probe_all(opens: Opens, threads: int, heard: Callable[[Finding], None]) -> list[Finding]:
    """Try everything, several at once, each in a sandbox of its own.

    Args:
        opens: makes a sandbox.
        heard: told of each finding as it is made.
    """
    found = []
    with _host() as host, ThreadPoolExecutor(threads) as pool:
        tries = [pool.submit(_try, probe, host, opens) for probe in PROBES]
        tries += [pool.submit(forge, forgery, opens) for forgery in FORGERIES]
        tries.append(pool.submit(_honest, opens))
        for future in tries:
            found.append(future.result())
            heard(found[-1])
        for finding in (_fresh(opens), *host.findings()):
            found.append(finding)
            heard(finding)
    return found


@contextmanager
def _host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        host = Host(Path(name))
        try:
            yield host
        finally:
            host.close()


def _try(probe: Probe, host: Host, opens: Opens) -> Finding:
    sandbox = opens(replace(SMALL, seconds=probe.seconds))
    try:
        done = sandbox.run(host.script(probe), language=probe.language)
        contained, seen = probe.wanted(done), done
        if contained and probe.then:
            seen = sandbox.run(probe.then)
            contained = seen.output == "alive\n"
    except EnvBroken as error:
        return Finding(probe.group, probe.name, False, error.message)
    finally:
        sandbox.close()
    return Finding(probe.group, probe.name, contained, "" if contained else _shown(seen))


def forge(forgery: Forgery, opens: Opens, trusted: bool = True) -> Finding:
    """Do what a forger does and judge it."""
    sandbox = opens(SMALL)
    try:
        sandbox.run(PREPARED)
        tried = sandbox.run(forgery.script, language=forgery.language)
        verdict = sandbox.run(forgery.verdict, language=forgery.judged_in, trusted=trusted)
    finally:
        sandbox.close()
    right = verdict.code == 0
    return Finding("verdict", forgery.name, not right, f"{_shown(tried)} {_shown(verdict)}" if right else "")


def _honest(opens: Opens) -> Finding:
    """The verdict that nobody can forge says yes to who did the work."""
    sandbox = opens(SMALL)
    try:
        for script in (PREPARED, SOLUTION):
            sandbox.run(script)
        verdict = sandbox.run(VERDICT, trusted=True)
    finally:
        sandbox.close()
    return Finding(
        "verdict", "who did the work is right", verdict.code == 0, "" if verdict.code == 0 else _shown(verdict)
    )


def _fresh(opens: Opens) -> Finding:
    """After all that, a new sandbox is as the first one was."""
    sandbox = opens(SMALL)
    try:
        done = sandbox.run("ls /; ls -A /tmp; getent passwd a tester; cat /etc/ld.so.preload; bash -c 'id -u'")
    finally:
        sandbox.close()
    clean = not {"big", "sb", "z", "evil", "fake", "shared"} & set(done.output.split()) and "tester" not in done.output
    return _finding("the next sandbox is as new", clean and done.output.endswith("\n0\n"), _shown(done))


def _finding(name: str, contained: bool, seen: str = "") -> Finding:
    return Finding("host afterwards", name, contained, "" if contained else seen)


def _shown(done: Done) -> str:
    return str({**asdict(done), "output": done.output[-300:]})


def _mounts() -> str:
    return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")


def _devices() -> list[tuple[str, int, int, int, int]]:
    stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir("/dev")]
    return sorted((name, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev) for name, stat in stats)


def _called(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
