"""What a command might try in order to leave its sandbox, or to use more than it may: one table.

`ludora shell probe` tries it all on the user's machine, and the tests do. A script prints ESCAPED when it got out and `tried`
when it came to its end, so that a probe whose tool is missing does not pass.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass

from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.sandbox.kernel import DENIED, MACHINES

SMALL = Limits(seconds=10.0, processes=40, memory_mb=128, disk_mb=16, inodes=2000, output_bytes=4096)
SECRET = "ludora-probe-secret"  # in the environment of whoever probes, and in a file
SLEEP = "86321"  # seconds, by which a left-over process is recognised

Wanted = Callable[[Done], bool]


def held(done: Done) -> bool:
    """It tried, and did not get out."""
    return "tried" in done.output and "ESCAPED" not in done.output and SECRET not in done.output


def killed(done: Done) -> bool:
    """Its time was up."""
    return done.timed_out and done.code is None


def at_most(limit: int) -> Wanted:
    """The number that it printed last."""
    return lambda done: 0 < int((re.findall(r"\d+\s*$", done.output) or ["0"])[-1]) <= limit


def prints(text: str, code: int = 0) -> Wanted:
    """Exactly this, and not by running out of time."""
    return lambda done: (done.output, done.code) == (text, code)


@dataclass(frozen=True)
class Probe:
    """One attempt, in a sandbox of its own.

    Attributes:
        group: what it is about.
        name: what it tries.
        script: PORT, ABSTRACT, PID and FILE in it stand for things of the host.
        wanted: whether the outcome is as it must be.
        seconds: it is given.
        then: run after it; must print `alive`. Empty where nothing can run any more.
    """

    group: str
    name: str
    script: str
    wanted: Wanted = held
    language: str = "bash"
    seconds: float = 10.0
    then: str = "echo alive"


def python(script: str) -> str:
    """A probe's script for Python: with what most of them need."""
    return f"import ctypes, os, socket, sys, time\n{script}\nprint('tried')"


_COLUMN = MACHINES.get(platform.machine(), MACHINES["x86_64"])[0]
_CALLS = {name: numbers[_COLUMN] for name, numbers in DENIED.items() if numbers[_COLUMN]}
_TRY_CALLS = python(
    f"""libc = ctypes.CDLL(None, use_errno=True)
for name, number in {_CALLS}.items():
    ctypes.set_errno(0)
    if libc.syscall(number, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1: print('ESCAPED', name, ctypes.get_errno())"""
)
_CLONE = MACHINES.get(platform.machine(), MACHINES["x86_64"])[2]
_TRY_CLONE = python(
    f"""libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    if (child := libc.syscall({_CLONE}, flag | 17, 0, 0, 0, 0)) == 0: os._exit(0)
    if child > 0: print('ESCAPED', hex(flag))
if libc.syscall(435, 0, 0) != -1 or ctypes.get_errno() != 38: print('ESCAPED clone3', ctypes.get_errno())"""
)
_FORK_ALL = """import os, time
count = 0
try:
    while count < 400:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except OSError: pass
print(count)"""
_FORK_USERS = """import os, time
try:
    for user in range(1000, 1010):
        if os.fork() == 0:
            os.setuid(user)
            try:
                for _ in range(40):
                    if os.fork() == 0: time.sleep(60)
            except OSError: pass
            time.sleep(60)
except OSError: pass
time.sleep(0.5)
print(sum(name.isdecimal() for name in os.listdir('/proc')))"""
_HOLD = "import os, sys, time\n{before}\nx = bytearray({mb} << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n{after}"
_OTHER_ABI = python(
    """import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b814000000cd80c3'))  # getpid by the 32-bit door, which has other numbers
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print('ESCAPED')"""
)
_X32 = python(
    """libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(0x40000000 | 165, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 38: print('ESCAPED')"""
)
_CHROOT = python(
    """os.mkdir('/z'); out = os.open('/', os.O_RDONLY); os.chroot('/z'); os.fchdir(out)
for _ in range(40): os.chdir('..')
os.chroot('.')
if os.path.exists('FILE'): print('ESCAPED')"""
)
_SOCKETS = python(
    """kinds = [(17, 3), (17, 2), (38, 5), (40, 1), (44, 3), (31, 3), (2, 3), (10, 3)]  # packet alg vsock xdp bluetooth raw
for family, kind in kinds:
    try: socket.socket(family, kind); print('ESCAPED', family, kind)
    except OSError: pass"""
)
_ABSTRACT = python(
    """try: socket.socket(socket.AF_UNIX).connect('\\0ABSTRACT'); print('ESCAPED')
except OSError: pass"""
)
_CAPABILITIES = python(
    """status = dict(line.split(':', 1) for line in open('/proc/self/status'))
if int(status['CapBnd'], 16) & ~0xa00405fb or int(status['CapEff'], 16) & ~0xa00405fb: print('ESCAPED', status['CapBnd'])
if status['Seccomp'].strip() != '2' or status['NoNewPrivs'].strip() != '1': print('ESCAPED')"""
)
_DRAIN = """python3 - <<'END' &
import os
own = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)
while True:
    os.write(1, b'x')
    try: os.read(own, 10)
    except OSError: pass
END
sleep 0.1"""
# A timer, and news of a file, that would send SIGCONT.
_ORDER_WAKING = """libc, event = ctypes.CDLL(None), (ctypes.c_int * 16)()
event[2] = 18
if libc.timer_create(0, event, ctypes.byref(ctypes.c_long())) == 0: print('ESCAPED')
if libc.fcntl(0, 10, 18) == 0: print('ESCAPED')"""
_DEVICES = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero console"

# fmt: off
PROBES = (
    # ---- time and processes
    Probe("processes", "fork bomb", ":(){ :|:& };:; sleep 60", killed, seconds=1.0),
    Probe("processes", "as many processes as there can be", _FORK_ALL, at_most(40), "python"),
    Probe("processes", "processes of ten users", _FORK_USERS, at_most(45), "python"),
    Probe("processes", "fork bomb of sessions", "b() { setsid bash -c \"$(declare -f b); b & b\" & }; b; sleep 60", killed, seconds=1.0),
    Probe("time", "endless loop", "while :; do :; done", killed, seconds=0.5),
    Probe("time", "trapped signals", "trap '' TERM INT HUP QUIT; while :; do sleep 60; done", killed, seconds=0.5),
    Probe("time", "16 endless loops", "for i in {1..16}; do (while :; do :; done) & done; wait", killed, seconds=0.5, then="until [ $(ls /proc | grep -c '^[0-9]') -le 6 ]; do :; done; echo alive"),
    Probe("time", "loop in another session", f"setsid -w sleep {SLEEP}", killed, seconds=0.5, then=f"while pgrep -f '^sleep {SLEEP}'; do :; done; echo alive"),
    Probe("time", "background job that holds the output", f"sleep {SLEEP} & echo done", prints("done\n"), then=f"until pgrep -f '^sleep {SLEEP}' > /dev/null; do :; done; echo alive"),
    Probe("time", "daemon", f"(setsid nohup sleep {SLEEP} > /dev/null 2>&1 &); echo done", prints("done\n"), then=f"until pgrep -f '^sleep {SLEEP}' > /dev/null; do :; done; echo alive"),
    Probe("processes", "kill process 1", "kill -9 1; kill -TERM 1; kill -STOP 1; echo tried"),
    Probe("processes", "kill everything", "kill -9 -1; echo tried"),
    Probe("processes", "kill a process of the host", "kill -9 PID && [ PID -gt 100 ] && echo ESCAPED; echo tried"),
    Probe("processes", "see processes of the host", "[ $(ls /proc | grep -c '^[0-9]') -gt 8 ] && echo ESCAPED; echo tried"),
    Probe("processes", "raise limits", "ulimit -u 9999 && echo ESCAPED; ulimit -v unlimited && echo ESCAPED; ulimit -f unlimited && echo ESCAPED; echo tried"),
    Probe("processes", "limits of another process", "sleep 5 & for p in 1 $!; do prlimit --pid $p --nofile=4 && echo ESCAPED; done; echo tried"),
    Probe("processes", "wake a stopped process", python(_ORDER_WAKING), language="python"),
    Probe("processes", "a higher priority", "renice -n -10 $$ && echo ESCAPED; echo tried"),
    # ---- memory, disk, output
    Probe("memory", "1 GB in one process", _HOLD.format(before="", mb=1024, after="print('ESCAPED')"), lambda done: done.code != 0 and "ESCAPED" not in done.output, "python"),
    Probe("memory", "200 MB in five processes", _HOLD.format(before="[os.fork() for _ in range(2)] and os.fork()", mb=40, after="time.sleep(60)"), lambda done: done.out_of_memory, "python"),
    Probe("memory", "200 MB shared without a file", "import mmap, time\nx = mmap.mmap(-1, 200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(60)", lambda done: done.out_of_memory, "python"),
    Probe("memory", "memory of a daemon", "setsid python3 -c 'import time; x = bytearray(200 << 20); time.sleep(60)' & sleep 60", lambda done: done.out_of_memory),
    Probe("memory", "System V shared memory", python("if ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0: print('ESCAPED')"), language="python"),
    Probe("memory", "System V semaphores", python("if ctypes.CDLL(None).semget(0, 32000, 0o1600) >= 0: print('ESCAPED')"), language="python"),
    Probe("memory", "System V messages", python("if ctypes.CDLL(None).msgget(0, 0o1600) >= 0: print('ESCAPED')"), language="python"),
    Probe("memory", "POSIX messages", python("if ctypes.CDLL('librt.so.1').mq_open(b'/x', 0o102, 0o600, None) >= 0: print('ESCAPED')\ntry: open('/dev/mqueue/x', 'w'); print('ESCAPED') if os.path.ismount('/dev/mqueue') else 0\nexcept OSError: pass"), language="python"),
    Probe("memory", "memory behind a descriptor", python("try: os.memfd_create('x'); print('ESCAPED')\nexcept OSError: pass"), language="python"),
    Probe("memory", "never be killed for memory", "echo -1000 > /proc/self/oom_score_adj && echo ESCAPED; echo tried"),
    Probe("disk", "a large file", "dd if=/dev/zero of=/big bs=1M count=500 2> /dev/null; stat -c %s /big", at_most(16 << 20)),
    Probe("disk", "many files", "for i in {1..8}; do dd if=/dev/zero of=/b$i bs=1M count=8 2> /dev/null; done; cat /b? | wc -c", at_most(16 << 20)),
    Probe("disk", "100 TB with holes", "truncate -s 100T /sparse && echo ESCAPED; echo tried"),
    Probe("disk", "inodes", "import os\nos.mkdir('/q'); n = 0\ntry:\n    while n < 5000: open(f'/q/{n}', 'w').close(); n += 1\nexcept OSError: pass\nprint(n)", at_most(2000), "python"),
    Probe("disk", "/dev/shm", "dd if=/dev/zero of=/dev/shm/x bs=1M count=100 2> /dev/null; stat -c %s /dev/shm/x", at_most(16 << 20)),
    Probe("disk", "/dev", "dd if=/dev/zero of=/dev/x bs=1k count=1000 2> /dev/null; stat -c %s /dev/x", at_most(64 << 10)),
    Probe("disk", "delete everything", "rm -rf --no-preserve-root / 2> /dev/null; echo done", prints("done\n"), seconds=60.0, then=""),
    Probe("output", "endless lines", "yes", lambda done: killed(done) and done.truncated and len(done.output) <= 4096, seconds=0.5),
    Probe("output", "endless bytes", "cat /dev/zero", lambda done: killed(done) and done.truncated and len(done.output) <= 4096, seconds=0.5),
    Probe("output", "endless output in the background", "yes & echo done; disown", lambda done: done.code == 0 and len(done.output) <= 4096),
    Probe("output", "emptying a pipe before process 1 does", _DRAIN, lambda done: done.code == 0, then="sleep 0.5; echo alive"),
    Probe("output", "bytes that are no text", "printf 'a\\377\\376\\0b'", prints("a\ufffd\ufffd\ufffdb")),
    Probe("output", "what a terminal obeys", "printf '\\033[2J\\033]0;x\\007\\rok\\n'", prints("\ufffd[2J\ufffd]0;x\ufffd\ufffdok\n")),
    Probe("output", "closed output", "exec >&- 2>&-; sleep 0.1; exit 3", prints("", 3)),
    Probe("output", "waiting for input", "cat; echo done", prints("done\n")),
    Probe("output", "type into a terminal", python("import fcntl\nfor request in (0x5412, 0x541C):\n    try: fcntl.ioctl(0, request, b'x'); print('ESCAPED')\n    except OSError: pass\ntry: os.open('/dev/tty', os.O_RDWR); print('ESCAPED')\nexcept OSError: pass"), language="python"),
    # ---- network
    Probe("network", "a port of the host", "(exec 3<> /dev/tcp/127.0.0.1/PORT) 2> /dev/null && echo ESCAPED; echo tried"),
    Probe("network", "the internet", "(exec 3<> /dev/tcp/1.1.1.1/80) 2> /dev/null && echo ESCAPED; echo tried", seconds=5.0),
    Probe("network", "a name server", "getent hosts example.com && echo ESCAPED; echo tried", seconds=8.0),
    Probe("network", "a socket of the host without a path", _ABSTRACT, language="python"),
    Probe("network", "sockets of other kinds", _SOCKETS, language="python"),
    Probe("network", "other interfaces", "grep -v -e lo: -e '|' /proc/net/dev && echo ESCAPED; echo tried"),
    # ---- files and environment of the host
    Probe("host", "environment", "env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'; echo tried"),
    Probe("host", "read a file", "cat FILE /proc/1/rootFILE /proc/1/cwd/FILE /proc/self/rootFILE 2> /dev/null; echo tried"),
    Probe("host", "write a file", "mkdir -p $(dirname FILE); echo ESCAPED > FILE; echo x > /proc/1/rootFILE; echo tried", lambda done: "tried" in done.output),
    Probe("host", "a link to a file", "ln -s FILE /tmp/a.out; cat /tmp/a.out; ln -sf /proc/1/root /var/x; ls /var/x/ && echo ESCAPED; echo tried"),
    Probe("host", "what belongs to process 1", "for f in mem maps environ; do head -c 1 /proc/1/$f && echo ESCAPED; done; ls /proc/1/root/ /proc/1/cwd/ /proc/1/fd/ && echo ESCAPED; echo tried"),
    Probe("host", "write into process 1", "for f in mem uid_map setgroups; do (echo 1 > /proc/1/$f) && echo ESCAPED; done; echo tried"),
    Probe("host", "descriptors left open", "[ $(ls /proc/self/fd | wc -l) -gt 4 ] && echo ESCAPED; ls -l /proc/$$/fd | grep socket: && echo ESCAPED; echo tried"),
    Probe("host", "out of a changed root", _CHROOT, language="python"),
    Probe("host", "settings of the kernel", "for f in kernel/core_pattern kernel/modprobe vm/drop_caches fs/file-max kernel/hostname; do (echo x > /proc/sys/$f) && echo ESCAPED $f; done; (echo h > /proc/sysrq-trigger) && echo ESCAPED; echo tried"),
    Probe("host", "clock, name, restart", "date -s 2001-01-01 && echo ESCAPED; hostname x && echo ESCAPED; dmesg && echo ESCAPED; echo tried"),
    # ---- mounts, namespaces, devices, privileges
    Probe("mounts", "mount", "for a in '-t tmpfs x' '-t proc x' '--bind /' '-o remount,rw /proc'; do mount $a /mnt && echo ESCAPED; done; echo tried"),
    Probe("mounts", "unmount", "umount -l /proc/tty && echo ESCAPED; umount -l /dev/shm && echo ESCAPED; umount -l /proc && echo ESCAPED; echo tried"),
    Probe("namespaces", "new ones", "for a in -U -m -n -p -i -u -C; do unshare $a true && echo ESCAPED; done; unshare -Ur true && echo ESCAPED; echo tried"),
    Probe("namespaces", "those of process 1", "for a in -m -p -n -U -a; do nsenter -t 1 $a true && echo ESCAPED; done; echo tried"),
    Probe("namespaces", "new ones by clone", _TRY_CLONE, language="python"),
    Probe("devices", "make one", "mknod /sda b 8 0 && echo ESCAPED; mknod /mem c 1 1 && echo ESCAPED; mknod /n c 1 3 && echo ESCAPED; echo tried"),
    Probe("devices", "unpack one", python("import io, tarfile\nm = tarfile.TarInfo('d'); m.type = tarfile.BLKTYPE; m.devmajor = 8\ntry: tarfile.TarFile(fileobj=io.BytesIO(), mode='w').makedev(m, '/d'); print('ESCAPED')\nexcept (OSError, tarfile.TarError): pass"), language="python"),
    Probe("devices", "those that are there", f"for d in $(ls /dev); do case ' {_DEVICES} ' in *\" $d \"*) ;; *) echo ESCAPED $d;; esac; done; echo tried"),
    Probe("privileges", "a program with its setuid bit", "cp /bin/bash /sb; chmod 4755 /sb; useradd a; su a -c '/sb -p -c \"id -u\"' | grep -qx 0 && echo ESCAPED; echo tried"),
    Probe("privileges", "capabilities", _CAPABILITIES, language="python"),
    Probe("privileges", "take capabilities from a file", "cp /bin/true /t; python3 -c 'import os; os.setxattr(\"/t\", \"security.capability\", bytes.fromhex(\"0100000200002000000000000000000000000000\"))'; cp /bin/mount /t; mount -t tmpfs x /mnt && echo ESCAPED; echo tried"),
    Probe("kernel", "every denied system call", _TRY_CALLS, language="python"),
    Probe("kernel", "32-bit system calls", _OTHER_ABI, lambda done: done.code is not None and done.code > 128, "python"),
    Probe("kernel", "x32 system calls", _X32, language="python"),
    Probe("kernel", "take the filter off", python("if ctypes.CDLL(None).prctl(22, 0, 0, 0, 0) == 0: print('ESCAPED')"), language="python"),
    Probe("kernel", "trace a process", "sleep 5 & python3 -c 'import ctypes, sys; print(\"ESCAPED\" if ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0) == 0 else \"\")' $!; echo tried"),
)
