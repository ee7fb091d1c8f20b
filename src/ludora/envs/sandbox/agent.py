"""Process 1 of a sandbox: lays a writable layer over the root file system, then runs commands one after another.

It is handed into the sandbox as text and runs on the Python there, so it imports the standard library alone, and all of it
before anything else runs: whatever is deleted or replaced later is not read by it. It keeps every capability of the sandbox's
own user namespace, for the mounts of a trusted run; what it starts keeps a few, behind a system-call filter, and can neither
signal, trace nor read it (process 1 of its namespace, not dumpable, more capabilities).

Requests and answers are lines of JSON on standard input and output. When the other side is gone, so is everything here.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

IN, OUT = 0, 1
CHUNK = 65_536
TICK = 0.05  # seconds between two looks at the memory
LONG = 100_000  # bytes of script that one argument of a command line is given
SCRIPT = 9  # the descriptor by which a longer script, or C source, is read
DRAINED = 64  # pipes of background jobs that are emptied; the oldest is closed for one more
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TRUSTED_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
ENVIRONMENT = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "TERM": "dumb", "LANG": "C.UTF-8"}
COMMANDS = {
    "bash": ("bash", "-c"),
    "python": ("python3", "-c"),
    "c": ("bash", "-c", f"gcc -x c -o /tmp/a.out /dev/fd/{SCRIPT} && exec /tmp/a.out"),
    "cpp": ("bash", "-c", f"g++ -x c++ -o /tmp/a.out /dev/fd/{SCRIPT} && exec /tmp/a.out"),
}
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
CODE = ("lib", "lib32", "lib64", "libexec", "libx32", "local/lib")  # of /usr: what programs load code from
# Of /etc: what decides which code a program loads, or whom it asks. The rest of /etc is state, which verdicts are about.
PINNED = ("ld.so.cache", "ld.so.conf", "ld.so.preload", "ld.so.conf.d", "nsswitch.conf", "alternatives")
HIDDEN = "/proc/tty"  # a folder that every /proc has and nobody needs: the pristine root is mounted there, and covered

libc = ctypes.CDLL(None, use_errno=True)
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC, REMOUNT, BIND, MOVE, RECURSIVE, PRIVATE = (
    *(1, 2, 4, 8, 32, 4096, 8192, 16384),
    1 << 18,
)
NEW_MOUNTS = 0x20000
SET_DUMPABLE, CAPABILITY_BOUND_DROP, NO_NEW_PRIVILEGES, SECCOMP, AMBIENT = 4, 24, 38, 22, 47
# Capabilities of what runs here: those of a container, without making devices and raw sockets. CHOWN DAC_OVERRIDE FOWNER
# FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE SETFCAP
KEPT = (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31)
# A trusted run keeps one more (WAKE_ALARM, of no use in here): the kernel lets nobody with fewer capabilities open its
# memory or its descriptors under /proc.
MARK = 35


class Ended(Exception):
    """The other side is gone."""


def checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    texts = [text.encode() or None for text in (source, target, kind)]
    checked(libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None), f"mount {kind or source} on {target}")


def prctl(*arguments: int) -> int:
    return int(libc.prctl(*(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:5])))


# ---- the file system -----------------------------------------------------------------------------------------------


def lay_out(config: dict[str, Any]) -> None:
    """Put a fresh writable layer over the root, which becomes the pristine one.

    The layer lies in memory, so it has a size. The pristine root stays mounted, covered by an empty folder.
    """
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", NO_DEVICES, f"size={config['disk_mb']}m,nr_inodes={config['inodes']},mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"/tmp/{name}", 0o755)
    mount("overlay", "/tmp/root", "overlay", NO_DEVICES, "lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work,userxattr")
    for folder in config["binds"]:
        show(folder)
    for folder in ("/proc", "/dev"):
        mount(folder, f"/tmp/root{folder}", flags=MOVE)
    checked(libc.pivot_root(b"/tmp/root", f"/tmp/root{HIDDEN}".encode()), "pivot_root")
    os.chdir("/")
    mount("none", HIDDEN, "tmpfs", READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC, "size=4k,nr_inodes=2")
    mount("none", "/dev", "tmpfs", REMOUNT | NO_SUID, "size=64k,nr_inodes=256,mode=755")
    mount("none", "/dev/shm", "tmpfs", NO_SUID | NO_DEVICES, "size=16m,nr_inodes=1000,mode=1777")


def show(folder: str) -> None:
    """Let a folder that is mounted in the pristine root be seen in the layer over it; a `local` in it is the layer's."""
    place, own = f"/tmp/root{folder}", -1
    with contextlib.suppress(FileNotFoundError):
        own = os.open(f"{place}/local", os.O_PATH)
    mount(folder, place, flags=BIND | RECURSIVE)
    if own >= 0:
        mount(f"/proc/self/fd/{own}", f"{place}/local", flags=BIND)
        os.close(own)


def trusted_view() -> None:
    """Change this process's root to one with the system programs as they were, and everything else as it is now.

    A tree of our own: names at its top cannot be swapped, and it is read-only. /usr is the pristine one, with what was added
    to it beside; what programs load code from is the pristine alone.
    """
    clean, place = HIDDEN, f"{HIDDEN}/mnt"
    top, pins = f"{place}/top", f"{place}/pins"
    checked(libc.unshare(NEW_MOUNTS), "unshare")
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    checked(libc.umount2(HIDDEN.encode(), 0), "uncover the pristine root")
    mount("tmpfs", place, "tmpfs", NO_DEVICES, "size=2m,nr_inodes=4000,mode=755")
    for folder in (top, pins, f"{place}/nothing"):
        os.mkdir(folder)
    for name in sorted({*os.listdir("/"), "etc", "usr"} - set(LINKS)):
        show_as_it_is(name, top)
    for name in LINKS:
        if os.path.islink(f"{clean}/{name}"):
            os.symlink(os.readlink(f"{clean}/{name}"), f"{top}/{name}")
        elif os.path.isdir(f"{clean}/{name}"):
            os.mkdir(f"{top}/{name}")
            mount(f"{clean}/{name}", f"{top}/{name}", flags=BIND)
    merge(f"{clean}/usr", "/usr", f"{top}/usr", f"{place}/nothing")
    if os.path.isdir("/usr/local") and not os.path.islink("/usr/local"):
        mount("/usr/local", f"{top}/usr/local", flags=BIND)
    for name in CODE:
        if os.path.isdir(f"{clean}/usr/{name}") and not os.path.islink(f"{clean}/usr/{name}"):
            mount(f"{clean}/usr/{name}", f"{top}/usr/{name}", flags=BIND | RECURSIVE)
    pin(f"{clean}/etc", pins)
    merge(pins, "/etc", f"{top}/etc", f"{place}/nothing")
    mount("none", place, "", REMOUNT | BIND | READ_ONLY | NO_DEVICES)
    os.chroot(top)


def show_as_it_is(name: str, top: str) -> None:
    """Let something at the top of the file system be seen in another tree; of /etc and /usr only the place is made."""
    place = f"{top}/{name}"
    if name in ("etc", "usr"):
        os.mkdir(place)
    elif os.path.islink(f"/{name}"):
        os.symlink(os.readlink(f"/{name}"), place)
    elif os.path.isdir(f"/{name}"):
        os.mkdir(place)  # /proc alone: what is mounted in it has this very tree beneath
        mount(f"/{name}", place, flags=BIND | (0 if name == "proc" else RECURSIVE))
    elif os.path.isfile(f"/{name}"):
        os.close(os.open(place, os.O_CREAT))
        mount(f"/{name}", place, flags=BIND)


def merge(first: str, second: str, place: str, nothing: str) -> None:
    """Mount at `place` what is in either folder, read-only; what is in both is the first's."""
    second = second if os.path.isdir(second) and not os.path.islink(second) else nothing
    mount("overlay", place, "overlay", READ_ONLY, f"lowerdir={first}:{second},userxattr")


def pin(etc: str, pins: str) -> None:
    """Copy the pinned part of a pristine /etc; a file that is not there is pinned as an empty one."""
    for name in [*PINNED, *(name for name in os.listdir(etc) if name.startswith("python3"))]:
        source, target = f"{etc}/{name}", f"{pins}/{name}"
        if os.path.isdir(source):
            os.mkdir(target)
            for link in os.listdir(source):
                if os.path.islink(f"{source}/{link}"):
                    os.symlink(os.readlink(f"{source}/{link}"), f"{target}/{link}")
                elif os.path.isfile(f"{source}/{link}"):
                    copy(f"{source}/{link}", f"{target}/{link}")
        else:
            copy(source, target)


def copy(source: str, target: str) -> None:
    with open(target, "wb") as made:
        if os.path.isfile(source):
            with open(source, "rb") as stream:
                made.write(stream.read())


# ---- a command -----------------------------------------------------------------------------------------------------


def become_command(request: dict[str, Any], config: dict[str, Any]) -> None:
    """In a child: give up what a command shall not have, and become it. Does not return."""
    trusted, script = request["trusted"], request["script"].encode()
    os.setsid()
    if trusted:
        trusted_view()
    words = COMMANDS[request["language"]]
    if len(words) > 2 or len(script) > LONG:
        held = os.memfd_create("script", 0)
        with open(held, "wb", closefd=False) as stream:
            stream.write(script)
        os.dup2(held, SCRIPT)
        words = words if len(words) > 2 else (words[0], f"/dev/fd/{SCRIPT}")
        os.closerange(SCRIPT + 1, 4096)
        os.closerange(3, SCRIPT)
    else:
        words = (*words, script)  # type: ignore[assignment]
        os.closerange(3, 4096)
    os.umask(0o022)
    os.chdir("/")
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for name, value in config["rlimits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    give_up(base64.b64decode(config["filter"]), (*KEPT, MARK) if trusted else KEPT)
    path = TRUSTED_PATH if trusted else PATH
    for folder in path.split(":"):
        with contextlib.suppress(OSError):
            os.execve(f"{folder}/{words[0]}", words, {**ENVIRONMENT, "PATH": path})
    os.write(2, f"{words[0]}: command not found\n".encode())
    os._exit(127)


def give_up(program: bytes, kept: tuple[int, ...]) -> None:
    """Drop all capabilities but these for good, and load the system-call filter."""
    prctl(AMBIENT, 4)
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
    """The processes of the sandbox: who ended, what they use, and the pipes that background jobs still write to."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.ended: dict[int, int] = {}
        self.drained: list[int] = []
        self.looked = 0.0
        self.killed_for_memory = 0

    def wait(self, more: tuple[int, ...] = (), seconds: float | None = None) -> set[int]:
        """Descriptors that are ready, of the other side's and `more`; looks after everything else meanwhile.

        Raises:
            Ended: the other side has closed.
        """
        poll = select.poll()
        for descriptor in (IN, *more, *self.drained):
            poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
        alive = self.reap()
        found = poll.poll(1000 * min(TICK if alive else 3600, 3600 if seconds is None else max(seconds, 0)))
        for descriptor, event in found:
            if descriptor == IN and event & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
                raise Ended
            if descriptor in self.drained and not os.read(descriptor, CHUNK):
                self.drained.remove(descriptor)
                os.close(descriptor)
        if alive and time.monotonic() - self.looked > TICK * 0.8:
            self.watch_memory()
        return {descriptor for descriptor, _ in found}

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
        if sum(held_kb(pid) for pid in processes()) > self.config["memory_mb"] * 1024:
            self.killed_for_memory += 1
            kill_all()
        self.looked = time.monotonic()

    def drain(self, reader: int) -> None:
        """Background jobs may hold this pipe for hours: go on emptying it, else they would block or die."""
        self.drained.append(reader)
        if len(self.drained) > DRAINED:
            os.close(self.drained.pop(0))

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one command to its end or its time's."""
        self.ended.clear()
        began, kills = time.monotonic(), self.killed_for_memory
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(request, self.config, writer)
        os.close(writer)
        exits, output = os.pidfd_open(pid), Output(reader, self.config["output_bytes"])
        timed_out = False
        while pid not in self.ended:
            left = began + request["seconds"] - time.monotonic()
            if left <= 0 and not timed_out:
                timed_out = True
                kill_command(pid)
            ready = self.wait((exits,) if output.over else (exits, reader), None if timed_out else left)
            if reader in ready:
                output.take()
            self.reap()
        output.take_rest()
        os.close(exits)
        if output.over:
            os.close(reader)
        else:
            self.drain(reader)
        code = self.ended.pop(pid)
        return {
            "code": None if timed_out else 128 - code if code < 0 else code,
            "output": bytes(output.kept).decode("utf-8", "replace"),
            "timed_out": timed_out,
            "out_of_memory": self.killed_for_memory > kills,
            "truncated": output.truncated,
            "seconds": time.monotonic() - began,
        }


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


def child(request: dict[str, Any], config: dict[str, Any], writer: int) -> None:
    """What the forked process does: never returns, never raises."""
    try:
        nothing = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((nothing, 0), (writer, 1), (writer, 2)):
            os.dup2(source, target)
        become_command(request, config)
    except BaseException as error:  # boundary: a forked process must end here
        os.write(2, f"sandbox: {error}\n".encode())
    finally:
        os._exit(126)


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def read_proc(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""  # it ended meanwhile


def held_kb(pid: int) -> int:
    """Memory that is not a file's: private, and shared without a file."""
    lines = (line.split() for line in read_proc(pid, "status").splitlines())
    return sum(int(words[1]) for words in lines if words and words[0] in ("RssAnon:", "RssShmem:"))


def kill_all() -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # everything in this namespace but process 1


def kill_command(pid: int) -> None:
    """Kill a command with all that it started and still waits for, and its whole session; other jobs live on.

    Who forks faster than we look is killed with everything else.
    """
    for _ in range(20):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-pid, signal.SIGKILL)  # its process group, at one stroke
        family, found = {pid}, []
        for other in processes():  # in the order of their numbers, which mostly is that of birth
            fields = read_proc(other, "stat").rpartition(")")[2].split()
            if fields and fields[0] != "Z" and (other == pid or int(fields[1]) in family or int(fields[3]) == pid):
                family.add(other)
                found.append(other)
        for other in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        if not found:
            return
    kill_all()


# ---- the conversation ----------------------------------------------------------------------------------------------


def receive(machine: Machine | None, held: bytearray) -> dict[str, Any]:
    """The next line. `held` keeps what was read beyond it."""
    while b"\n" not in held:
        if machine is None or IN in machine.wait():
            read = os.read(IN, CHUNK)
            if not read:
                raise Ended
            held += read
    line, _, rest = bytes(held).partition(b"\n")
    held[:] = rest
    return dict(json.loads(line))


def send(answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(OUT, data) :]


def main() -> None:
    """Serve until the other side is gone."""
    held = bytearray()
    config = receive(None, held)
    checked(prctl(SET_DUMPABLE, 0), "dumpable")
    os.setgroups([])
    os.nice(5)
    try:
        lay_out(config)
    except OSError as error:
        send({"error": str(error)})
        return
    machine = Machine(config)
    send({"ready": True})
    with contextlib.suppress(Ended, BrokenPipeError):
        while True:
            send(machine.run(receive(machine, held)))


if __name__ == "__main__":
    main()
    sys.exit()
