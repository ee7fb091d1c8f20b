"""The processes of a sandbox, as its process 1 sees, signals and stops them.

Part of the agent's text: standard library only.
"""

from __future__ import annotations

import os
import time

SIGKILL, SIGCONT, SIGSTOP, EVERYBODY = 9, 18, 19, -1
ROUNDS = 50  # looks at a family that is to be stopped, a millisecond between them
AT_REST = "TtZXD"  # states of a process that starts no other: stopped, dead, or waiting for a vforked child


def processes() -> list[int]:
    """All but process 1."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and name != "1"]


def read_proc(pid: int, name: str) -> str:
    """A file of /proc about a process; empty when it ended meanwhile."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def held_kb(pid: int) -> int:
    """Memory that is not a file's: private, and shared without a file."""
    lines = (line.split() for line in read_proc(pid, "status").splitlines())
    return sum(int(words[1]) for words in lines if words and words[0] in ("RssAnon:", "RssShmem:"))


def signal(number: int, pid: int = EVERYBODY) -> None:
    """Signal a process; a group, when negative; EVERYBODY: all in this namespace but process 1."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_command(pid: int) -> None:
    """Kill a command with all that it started and still waits for, and its whole session; other jobs live on.

    All are stopped before the first is killed: the children of a dead process are process 1's, and belong to nobody.
    Where they do not come to rest - one forks faster than we look, or wakes the others - everything is killed.
    """
    stopped: set[int] = set()
    for _ in range(ROUNDS):
        family, restless = {pid}, False
        for other in processes():  # in the order of their numbers, which mostly is that of birth
            fields = read_proc(other, "stat").rpartition(")")[2].split()
            if not fields or not (other == pid or int(fields[1]) in family or int(fields[3]) == pid):
                continue
            family.add(other)
            restless |= other not in stopped or fields[0] not in AT_REST
        if not restless:
            break
        signal(SIGSTOP, -pid)  # its process group, at one stroke
        for other in family - stopped:
            signal(SIGSTOP, other)
        stopped |= family
        time.sleep(0.001)
    else:
        stopped = {EVERYBODY}
    for other in stopped:
        signal(SIGKILL, other)


def states(pid: int) -> str:
    """The state of each of a process's threads; of a process that ended, nothing."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return ""
    return "".join(read_proc(pid, f"task/{thread}/stat").rpartition(") ")[2][:1] for thread in threads)
