"""The file system of a sandbox, made from within by its process 1: a writable layer, and the view of a trusted run.

Part of the agent's text: standard library only.
"""

from __future__ import annotations

import ctypes
import os

# At the top, into /usr; on older systems folders of their own.
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
CODE = ("lib", "lib32", "lib64", "libexec", "libx32", "local/lib")  # of /usr: what programs load code from
# Of /etc: what decides which code a program loads, or whom it asks. The rest of /etc is state: what verdicts are about.
PINNED = ("ld.so.cache", "ld.so.conf", "ld.so.preload", "ld.so.conf.d", "nsswitch.conf", "alternatives")
HIDDEN = "/proc/tty"  # a folder that every /proc has and nobody needs: the pristine root is mounted there, and covered

READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC, REMOUNT, BIND, MOVE = 1, 2, 4, 8, 32, 4096, 8192
RECURSIVE, PRIVATE, NEW_MOUNTS = 16384, 1 << 18, 0x20000

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Raises OSError when a call into the C library failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    texts = [text.encode() or None for text in (source, target, kind)]
    checked(libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None), f"mount {kind or source} on {target}")


def lay_out(disk_mb: int, inodes: int, binds: tuple[str, ...]) -> None:
    """Put a fresh writable layer over the root, which becomes the pristine one.

    The layer lies in memory, so it has a size. The pristine root stays mounted, covered by an empty folder.
    """
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", NO_DEVICES, f"size={disk_mb}m,nr_inodes={inodes},mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"/tmp/{name}", 0o755)
    mount("overlay", "/tmp/root", "overlay", NO_DEVICES, "lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work,userxattr")
    for folder in binds:
        show(folder)
    for folder in ("/proc", "/dev"):
        mount(folder, f"/tmp/root{folder}", flags=MOVE)
    checked(libc.pivot_root(b"/tmp/root", f"/tmp/root{HIDDEN}".encode()), "pivot_root")
    os.chdir("/")
    mount("none", HIDDEN, "tmpfs", READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC, "size=4k,nr_inodes=2")
    mount("none", "/dev", "tmpfs", REMOUNT | NO_SUID, "size=64k,nr_inodes=256,mode=755")
    mount("none", "/dev/shm", "tmpfs", NO_SUID | NO_DEVICES, "size=16m,nr_inodes=1000,mode=1777")


def show(folder: str) -> None:
    """Let a folder that is mounted in the root be seen in the layer over it too; a `local` in it is the layer's."""
    place = f"/tmp/root{folder}"
    own = os.open(f"{place}/local", os.O_PATH) if os.path.isdir(f"{place}/local") else -1
    mount(folder, place, flags=BIND | RECURSIVE)
    if own >= 0:
        mount(f"/proc/self/fd/{own}", f"{place}/local", flags=BIND)
        os.close(own)


def trusted_view() -> None:
    """Change this process's root to one with the system programs as they were, and everything else as it is now.

    A tree of our own, read-only: nobody can swap the names at its top. /usr is the pristine one, with what was added
    to it beside; what programs load code from is the pristine one alone.
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
            os.makedirs(f"{top}/usr/{name}", exist_ok=True)
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
    if os.path.isdir(second) and os.path.samefile(first, second):
        mount(first, place, flags=BIND | RECURSIVE)  # a folder of the host, which nobody here can write to
        return
    if os.path.islink(second) or not os.path.isdir(second):
        second = nothing
    try:
        mount("overlay", place, "overlay", READ_ONLY, f"lowerdir={first}:{second},userxattr")
    except OSError:  # three layers on one another are one too many: take our own and the root beneath it
        wanted = (first, f"{HIDDEN}/tmp/upper{second}", f"{HIDDEN}{second}", nothing)
        layers = [path for path in dict.fromkeys(wanted) if os.path.isdir(path)]
        mount("overlay", place, "overlay", READ_ONLY, f"lowerdir={':'.join(layers)},userxattr")


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
    """Copy a file; one that is not there is copied as an empty one."""
    with open(target, "wb") as made:
        if os.path.isfile(source):
            with open(source, "rb") as stream:
                made.write(stream.read())
