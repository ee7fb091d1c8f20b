"""Process 1 of a sandbox: lays a writable layer over the root file system, then runs commands one after another.

It is handed into the sandbox as text (`layers.py`, `jobs.py`, then this) and runs on the Python there, so it imports
the standard library alone, all of it before anything else runs: what is replaced later is not read by it. It keeps
every capability of the sandbox's own user namespace, for the mounts of a trusted run. What it starts keeps a few,
behind a system-call filter, and can neither signal nor trace nor read it: it is process 1, not dumpable, and has more
capabilities.

A request on standard input is a line - language, seconds, 0 or how the others are held still in a trusted run (KILLED,
STOPPED), bytes of script - and the script. The
answer on standard output is a line - exit status, 1 for each of timed out, out of memory and truncated, seconds, bytes
of output - and the output. When the other side is gone, so is everything here.

Few modules, and no enums, types or JSON: importing those takes longer than all the rest of a sandbox's start.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import time

from ludora.envs.sandbox.jobs import (
    AT_REST,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    held_kb,
    kill_command,
    processes,
    signal,
    states,
)
from ludora.envs.sandbox.layers import PRIVATE_FOLDER, TRUSTED_PATH, checked, lay_out, libc, trusted_view

IN, OUT = 0, 1
CHUNK = 65_536
TICK = 0.05  # seconds between two looks at the memory
LONG = 100_000  # bytes of script that one argument of a command line is given
SCRIPT = 9  # the descriptor by which a longer script, or C source, is read
DRAINED = 64  # pipes of background jobs that are emptied; the oldest is closed for one more
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "TERM": "dumb", "LANG": "C.UTF-8"}
# Of a trusted run: Python loads nothing from the home or the current folder, and nobody swaps a temporary file.
TRUSTED = {"PATH": TRUSTED_PATH, "TMPDIR": PRIVATE_FOLDER, "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
COMPILE = f"-o ${{TMPDIR:-/tmp}}/a.out /proc/self/fd/{SCRIPT} && exec ${{TMPDIR:-/tmp}}/a.out"
COMMANDS = {
    "bash": ("bash", "-c"),
    "python": ("python3", "-c"),
    "c": ("bash", "-c", f"gcc -x c {COMPILE}"),
    "cpp": ("bash", "-c", f"g++ -x c++ {COMPILE}"),
}
SET_DUMPABLE, CAPABILITY_BOUND_DROP, NO_NEW_PRIVILEGES, SECCOMP, AMBIENT = 4, 24, 38, 22, 47
# Capabilities of what runs here, those of a container without devices and raw sockets: CHOWN DAC_OVERRIDE FOWNER FSETID
# KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE SETFCAP
KEPT = (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31)
# A trusted run keeps one more (WAKE_ALARM, of no use in here): the kernel lets nobody with fewer capabilities open its
# memory or its descriptors under /proc.
MARK = 35
KILLED, STOPPED = 1, 2  # what becomes of everything else in a trusted run
SETTLED_WITHIN = 1.0  # seconds that jobs which are just at work may go on with it, before a verdict
STILL_WITHIN = 2.0  # seconds that everything may take to die or to stop
IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE and SIGXFSZ


Filters = tuple[bytes, bytes]  # of system calls: for a command, and for a trusted run


class Ended(Exception):
    """The other side is gone."""


def prctl(*arguments: int) -> int:
    """prctl(2)."""
    return int(libc.prctl(*(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:5])))


# ---- a command -----------------------------------------------------------------------------------------------------


class Request:
    """What the other side wants run."""

    def __init__(self, line: str) -> None:
        language, seconds, others, size = line.split()
        self.language, self.seconds, self.others, self.size = language, float(seconds), int(others), int(size)
        self.trusted = self.others > 0
        self.script = b""

    def become(self, rlimits: dict[str, int], filters: Filters) -> None:
        """In a forked process: give up what a command shall not have, and become it. Does not return."""
        os.setsid()
        if self.trusted:
            trusted_view()
        name, *arguments = self._words()
        os.umask(0o022)
        os.chdir("/")
        os.nice(5)
        for number in IGNORED_BY_PYTHON:
            libc.signal(number, ctypes.c_void_p(0))
        for kind, value in rlimits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))
        give_up(filters[self.trusted], (*KEPT, MARK) if self.trusted else KEPT)
        environment = {**ENVIRONMENT, **(TRUSTED if self.trusted else {"PATH": PATH})}
        for folder in environment["PATH"].split(":"):
            try:
                os.execve(f"{folder}/{name}", [name, *arguments], environment)
            except OSError:
                continue
        os.write(2, f"{name}: command not found\n".encode())
        os._exit(127)

    def _words(self) -> list[str]:
        """The command line; closes all descriptors but the first three, and that of a script too long for one."""
        name, *options = COMMANDS[self.language]
        isolated = ["-I"] if self.trusted and self.language == "python" else []
        if len(options) == 1 and len(self.script) <= LONG:
            os.closerange(3, 4096)
            return [name, *isolated, *options, os.fsdecode(self.script)]
        held = os.memfd_create("script", 0)
        left = self.script
        while left:
            left = left[os.write(held, left) :]
        os.dup2(held, SCRIPT)
        os.closerange(3, SCRIPT)
        os.closerange(SCRIPT + 1, 4096)
        return [name, *options] if len(options) > 1 else [name, *isolated, f"/proc/self/fd/{SCRIPT}"]


def give_up(program: bytes, kept: tuple[int, ...]) -> None:
    """Drop all capabilities but these for good, and load the system-call filter."""
    prctl(AMBIENT, 4)  # clear all
    for number in range(64):
        if number not in kept and prctl(CAPABILITY_BOUND_DROP, number) != 0:
            break  # there are no more
    low, high = (sum(1 << n % 32 for n in kept if n // 32 == half) for half in (0, 1))
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)(low, low, low, high, high, high)), "capset")
    checked(prctl(NO_NEW_PRIVILEGES, 1), "no_new_privs")
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filled = Program(len(program) // 8, ctypes.cast(instructions, ctypes.c_void_p))
    checked(prctl(SECCOMP, 2, ctypes.addressof(filled)), "seccomp")


# ---- watching ------------------------------------------------------------------------------------------------------


class Machine:
    """The processes of the sandbox: who ended, what they hold, and the pipes that background jobs still write to."""

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.ended: dict[int, int] = {}
        self.drained: list[int] = []
        self.looked = 0.0
        self.killed_for_memory = 0

    def wait(self, more: tuple[int, ...] = (), seconds: float = 3600.0) -> set[int]:
        """Descriptors that are ready, of the other side's and `more`; looks after everything else meanwhile.

        Raises:
            Ended: the other side has closed.
        """
        poll = select.poll()
        for descriptor in (IN, *more, *self.drained):
            poll.register(descriptor, select.POLLIN | (select.POLLRDHUP if descriptor == IN else 0))
        alive = self.reap()
        found = poll.poll(1000 * max(0, min(TICK if alive else seconds, seconds)))
        for descriptor, event in found:
            if descriptor == IN and event & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
                raise Ended
            if descriptor in self.drained:
                self.empty(descriptor)
        if alive and time.monotonic() - self.looked > TICK * 0.8:
            self.watch_memory()
        self.reap()
        return {descriptor for descriptor, _ in found}

    def empty(self, drained: int) -> None:
        """Read from a pipe of a background job, which may have been emptied by another before us."""
        try:
            over = not os.read(drained, CHUNK)
        except BlockingIOError:
            return
        if over:
            self.drained.remove(drained)
            os.close(drained)

    def reap(self) -> bool:
        """Take note of all that ended; whether anything is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.ended[pid] = os.waitstatus_to_exitcode(status)

    def watch_memory(self) -> None:
        """Kill everything when all together hold too much."""
        if sum(map(held_kb, processes())) > self.memory_mb * 1024:
            self.killed_for_memory += 1
            signal(SIGKILL)
        self.looked = time.monotonic()

    def drain(self, reader: int) -> None:
        """Background jobs may hold this pipe for hours: go on emptying it, else they would block or die."""
        self.drained.append(reader)
        if len(self.drained) > DRAINED:
            os.close(self.drained.pop(0))


class Output:
    """The beginning of what comes through a pipe."""

    def __init__(self, reader: int, limit: int) -> None:
        os.set_blocking(reader, False)
        self.reader, self.limit = reader, limit
        self.kept = bytearray()
        self.truncated = self.over = False

    def take(self) -> bool:
        """Read once; whether there may be more at once."""
        try:
            read = os.read(self.reader, CHUNK)
        except BlockingIOError:
            return False
        self.truncated |= len(self.kept) + len(read) > self.limit
        self.kept += read[: self.limit - len(self.kept)]
        self.over |= not read
        return bool(read)

    def take_rest(self) -> None:
        """What was written before the command ended: no more than a pipe holds, whoever goes on writing."""
        for _ in range(32):
            if not self.take():
                break


def still(others: int, machine: Machine, most: int) -> list[int]:
    """Let nothing of the episode run during a verdict: kill it all, or stop it. Returns what is to go on afterwards.

    What does not come to rest is killed, and so are more than `most` processes: they would leave the verdict too few.
    What has only just been started gets a moment first: it may not even be the program yet that it is to become.
    Stopped ones stay so. Only SIGCONT wakes them, which the filter lets nobody order from the kernel in advance.
    """
    settle(machine)
    left = time.monotonic() + STILL_WITHIN
    resting = {pid for pid in processes() if set(states(pid)) <= set("TZX")}
    stopped = [pid for pid in processes() if pid not in resting] if others == STOPPED else []
    if others == STOPPED and len(stopped) + len(resting) <= most:
        while time.monotonic() < left:
            signal(SIGSTOP)  # at one stroke: who is being told so cannot fork
            if all(state in AT_REST for pid in processes() for state in states(pid)):
                return stopped
            time.sleep(0.001)
    left = time.monotonic() + STILL_WITHIN
    signal(SIGKILL)
    while machine.reap() and time.monotonic() < left:
        time.sleep(0.001)
    return []


def settle(machine: Machine) -> None:
    """Wait until nothing is at work, in two looks one after the other, or the time is up."""
    left, quiet = time.monotonic() + SETTLED_WITHIN, 0
    while machine.reap() and quiet < 2 and time.monotonic() < left:
        quiet = 0 if any(set(states(pid)) & set("RD") for pid in processes()) else quiet + 1
        time.sleep(0.005)


# ---- serving -------------------------------------------------------------------------------------------------------


def run(request: Request, machine: Machine, output_bytes: int, rlimits: dict[str, int], filters: Filters) -> None:
    """Run one command to its end or its time's, and answer."""
    stopped = still(request.others, machine, rlimits["NPROC"] // 2) if request.trusted else []
    machine.ended.clear()
    began, kills = time.monotonic(), machine.killed_for_memory
    reader, writer = os.pipe()
    output = Output(reader, output_bytes)
    pid = start(request, writer, rlimits, filters)
    os.close(writer)
    exits = os.pidfd_open(pid) if pid else reader
    timed_out = False
    while pid and pid not in machine.ended:
        left = began + request.seconds - time.monotonic()
        if left <= 0 and not timed_out:
            timed_out = True
            kill_command(pid)
        if reader in machine.wait((exits,) if output.over else (exits, reader), TICK if timed_out else left):
            output.take()
    output.take_rest()
    if output.over:
        os.close(reader)
    else:
        machine.drain(reader)
    if pid:
        os.close(exits)
    for other in stopped:
        signal(SIGCONT, other)
    code = machine.ended.pop(pid, 126)
    flags = (timed_out, machine.killed_for_memory > kills, output.truncated)
    facts = (128 - code if code < 0 else code, *map(int, flags), time.monotonic() - began, len(output.kept))
    answer(" ".join(map(str, facts)), bytes(output.kept))


def start(request: Request, writer: int, rlimits: dict[str, int], filters: Filters) -> int:
    """Fork the command, whose output goes to `writer`. 0 when there are too many processes."""
    try:
        pid = os.fork()
    except BlockingIOError as error:
        os.write(writer, f"sandbox: fork: {error.strerror}\n".encode())
        return 0
    if pid:
        return pid
    try:
        nothing = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((nothing, 0), (writer, 1), (writer, 2)):
            os.dup2(source, target)
        request.become(rlimits, filters)
    except BaseException as error:  # boundary: a forked process must end here
        os.write(2, f"sandbox: {error}\n".encode())
    os._exit(126)


def receive(machine: Machine) -> Request:
    """The next request. Raises Ended when there will be none."""
    held, request = b"", None
    while request is None or len(held) < request.size:
        if IN not in machine.wait():
            continue
        held += os.read(IN, CHUNK)
        if request is None and b"\n" in held:
            line, _, held = held.partition(b"\n")
            request = Request(line.decode())
    request.script = held
    return request


def answer(line: str, data: bytes = b"") -> None:
    """Write all of it."""
    left = f"{line}\n".encode() + data
    while left:
        left = left[os.write(OUT, left) :]


def main(limits: dict[str, int], rlimits: dict[str, int], binds: tuple[str, ...], filters: Filters) -> None:
    """Serve until the other side is gone. Its text ends with a call of this."""
    checked(prctl(SET_DUMPABLE, 0), "dumpable")
    os.setgroups([])
    try:
        lay_out(limits["disk_mb"], limits["inodes"], binds)
    except OSError as error:
        answer(f"the file system: {error}")
        return
    machine = Machine(limits["memory_mb"])
    answer("ready")
    try:
        while True:
            run(receive(machine), machine, limits["output_bytes"], rlimits, filters)
    except (Ended, BrokenPipeError):
        return
