"""The file system of a sandbox, made from within by its process 1: a writable layer, and the view of a trusted run.

Part of the agent's text: standard library only.
"""

from __future__ import annotations

import ctypes
import os

# At the top, into /usr; on older systems folders of their own.
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
TRUSTED_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
# Of /usr: what programs load code from, and compilers their text.
CODE = (
    *("lib", "lib32", "lib64", "libexec", "libx32", "share/perl", "share/perl5", "include"),
    *("x86_64-linux-gnu", "aarch64-linux-gnu"),
    *("share/file", "share/misc", "share/vim", "share/zsh"),  # what kinds of files there are; start-up files
    "share/locale",  # what programs say: with other words for it, `chage -l` may say what a verdict looks for
)
PYTHON_LOOKS_FOR = ("pyvenv.cfg", "pybuilddir.txt")  # beside itself and above, to learn where its modules are
LOCAL_CODE = ("lib", "share/perl", "include")  # of /usr/local
# Of /etc: what decides which code a program loads, or whom it asks. The rest of /etc is state: what verdicts are about.
PINNED = (
    *("ld.so.cache", "ld.so.conf", "ld.so.preload", "ld.so.conf.d", "nsswitch.conf", "alternatives"),
    *("ssl/openssl.cnf", "pki/tls/openssl.cnf", "krb5.conf", "pam.conf", "pam.d", "sudo.conf"),  # these name modules
    *("magic", "magic.mime", "wgetrc"),
)
# How folders of /etc begin that programs load code from: nothing is added to them.
ADDED_CODE = ("gss", "pkcs11")  # libraries look for these even where a system had none
PINNED_CODE = ("perl", "python3", *ADDED_CODE, "vim", "zsh", "php", "java")
# In root's home: what programs that a verdict runs read, and are told to do or say something else. Python reads none.
SETTINGS = (
    *(".jq", ".sqliterc", ".config/sqlite3", ".magic", ".magic.mgc", ".magic.mime", ".vimrc", ".vim", ".exrc"),
    *(".config/vim", ".zshenv", ".config/fish", ".curlrc", ".config/curlrc", ".wgetrc", ".perldb", ".psqlrc"),
    *(".gdbinit", ".config/gdb", ".Rprofile", ".my.cnf", ".mylogin.cnf", ".tclshrc", ".expect.rc", ".node_modules"),
    *(".node_libraries", ".npmrc", ".lesskey", ".config/lesskey", ".terminfo", ".pam_environment", ".dpkg.cfg"),
)
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
DEVICE_LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}  # of /proc/self/fd
HIDDEN = "/proc/tty"  # a folder that every /proc has and nobody needs: the pristine root is mounted there, and covered
CLEAN, BASE = HIDDEN, f"{HIDDEN}/tmp/base"  # what a sandbox started from, with what is mounted in it and without
PRIVATE_FOLDER = HIDDEN  # of a trusted run, in its own view: nobody else can look in

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
    for name in ("upper", "work", "root", "base"):
        os.mkdir(f"/tmp/{name}", 0o755)
    mount("/", "/tmp/base", flags=BIND)
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
    to it beside, unless that would be found before a pristine program; what programs load code from is the pristine
    one alone. /dev is a new one, and there is a folder for temporary files that nobody else sees.
    """
    place = f"{CLEAN}/mnt"
    top, pins, covers, local, nothing = (f"{place}/{name}" for name in ("top", "pins", "covers", "local", "nothing"))
    checked(libc.unshare(NEW_MOUNTS), "unshare")
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    checked(libc.umount2(HIDDEN.encode(), 0), "uncover the pristine root")
    mount("tmpfs", place, "tmpfs", NO_DEVICES, "size=2m,nr_inodes=40000,mode=755")
    for folder in (top, pins, covers, local, nothing):
        os.mkdir(folder)
    homes = roots_homes()
    hidden = {*LINKS, *PYTHON_LOOKS_FOR, *(SETTINGS if "/" in homes else ())}
    for name in sorted({*os.listdir("/"), "dev", "etc", "usr"} - hidden):
        show_as_it_is(name, top)
    for name in LINKS:
        if os.path.islink(f"{CLEAN}/{name}"):
            os.symlink(os.readlink(f"{CLEAN}/{name}"), f"{top}/{name}")
        elif os.path.isdir(f"{CLEAN}/{name}"):
            os.mkdir(f"{top}/{name}")
            mount(f"{CLEAN}/{name}", f"{top}/{name}", flags=BIND)
    cover(covers, f"{place}/cover")
    merge((f"{CLEAN}/usr", f"{covers}/usr"), "/usr", f"{top}/usr", nothing)
    for name in CODE:
        if os.path.isdir(f"{CLEAN}/usr/{name}") and not os.path.islink(f"{CLEAN}/usr/{name}"):
            mount(f"{CLEAN}/usr/{name}", f"{top}/usr/{name}", flags=BIND | RECURSIVE)
    if os.path.isdir(f"{top}/usr/local"):
        merge_local(local, f"{covers}/usr/local", f"{top}/usr/local", nothing)
    pin(f"{CLEAN}/etc", pins)
    merge((pins,), "/etc", f"{top}/etc", nothing)
    mount(f"{pins}/pam.d", f"{top}/etc/pam.d", flags=BIND)  # nothing is added; no pam_env, which sets LD_PRELOAD
    for number, home in enumerate(homes):
        hide_settings(f"{place}/home{number}", home, f"{top}{home}", nothing)
    for name in os.listdir(pins):
        if name.startswith(PINNED_CODE) and os.path.isdir(f"{pins}/{name}"):
            mount(
                f"{CLEAN}/etc/{name}" if os.path.isdir(f"{CLEAN}/etc/{name}") else nothing,
                f"{top}/etc/{name}",
                flags=BIND,
            )
    make_devices(f"{top}/dev")
    mount("tmpfs", top + PRIVATE_FOLDER, "tmpfs", NO_SUID | NO_DEVICES, "size=32m,nr_inodes=2000,mode=1777")
    mount("none", place, "", REMOUNT | BIND | READ_ONLY | NO_DEVICES)
    os.chroot(top)


def cover(covers: str, none: str) -> None:
    """Fill a layer that hides what, added to a folder of programs, would be found before a pristine one of its name.

    Such a file is hidden by a device 0/0, which overlay file systems know. So is code where there was none.
    """
    os.mknod(none, 0o20000)
    for name in CODE:
        if not os.path.lexists(f"{CLEAN}/usr/{name}"):
            os.makedirs(os.path.dirname(f"{covers}/usr/{name}"), exist_ok=True)
            os.link(none, f"{covers}/usr/{name}")
    os.makedirs(f"{covers}/usr/local", exist_ok=True)
    for name in PYTHON_LOOKS_FOR:
        os.link(none, f"{covers}/usr/{name}")
        os.link(none, f"{covers}/usr/local/{name}")
    later = set(PYTHON_LOOKS_FOR)
    for folder in reversed(TRUSTED_PATH.split(":")):
        pristine = f"{BASE if folder.startswith('/usr/local') else CLEAN}{folder}"
        names = set(os.listdir(pristine)) if os.path.isdir(pristine) and not os.path.islink(pristine) else set()
        os.makedirs(covers + folder, exist_ok=True)
        for name in later - names:
            os.link(none, f"{covers}{folder}/{name}")
        later |= names


def merge_local(local: str, covers: str, place: str, nothing: str) -> None:
    """Mount /usr/local as it is now, but for pristine code, and programs of their names."""
    programs = [name for name in ("sbin", "bin") if os.path.isdir(f"{BASE}/usr/local/{name}")]
    programs = [name for name in programs if os.listdir(f"{BASE}/usr/local/{name}")]
    for name in (*LOCAL_CODE, *programs):
        os.makedirs(f"{local}/{name}")
    merge((local, covers), "/usr/local", place, nothing)
    for name in LOCAL_CODE:
        clean = f"{BASE}/usr/local/{name}"
        mount(clean if os.path.isdir(clean) else nothing, f"{place}/{name}", flags=BIND)
    for name in programs:
        merge((f"{BASE}/usr/local/{name}", f"{covers}/{name}"), f"/usr/local/{name}", f"{place}/{name}", nothing)


def roots_homes() -> set[str]:
    """The folders that programs take for root's home: what it is, and what the list of users says."""
    homes = {"/root"}
    if os.path.isfile("/etc/passwd"):
        with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as stream:
            fields = [line.split(":") for line in stream]
        homes |= {user[5] for user in fields if len(user) > 5 and user[2].strip("0") == "" and user[5][:1] == "/"}
    return {os.path.realpath(home) for home in homes if "\0" not in home}


def hide_settings(covers: str, home: str, place: str, nothing: str) -> None:
    """Let none of `SETTINGS` be seen in a home; where there are none, it stays as it is and can be written to."""
    if not os.path.isdir(place) or home.startswith(("/proc", "/dev", "/usr", "/etc", "/sys")) or home == "/":
        return
    found = [name for name in SETTINGS if os.path.lexists(f"{home}/{name}")]
    for name in found:
        os.makedirs(os.path.dirname(f"{covers}/{name}"), exist_ok=True)
        os.link(f"{os.path.dirname(covers)}/cover", f"{covers}/{name}")
    if found:
        merge((covers,), home, place, nothing)


def make_devices(place: str) -> None:
    """A fresh /dev: the devices, the links that go with them, and the memory that is shared."""
    mount("tmpfs", place, "tmpfs", NO_SUID, "size=64k,nr_inodes=64,mode=755")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}") and os.stat(f"/dev/{name}").st_rdev:
            os.close(os.open(f"{place}/{name}", os.O_CREAT))
            mount(f"/dev/{name}", f"{place}/{name}", flags=BIND)
    for name in ("pts", "shm"):
        os.mkdir(f"{place}/{name}")
        if os.path.isdir(f"/dev/{name}"):
            mount(f"/dev/{name}", f"{place}/{name}", flags=BIND)
    os.symlink("pts/ptmx", f"{place}/ptmx")
    for name, number in DEVICE_LINKS.items():
        os.symlink(f"/proc/self/fd{number}", f"{place}/{name}")


def show_as_it_is(name: str, top: str) -> None:
    """Let something at the top of the file system be seen in another tree; of some only the place is made."""
    place = f"{top}/{name}"
    if name in ("dev", "etc", "usr"):
        os.mkdir(place)
    elif os.path.islink(f"/{name}"):
        os.symlink(os.readlink(f"/{name}"), place)
    elif os.path.isdir(f"/{name}"):
        os.mkdir(place)  # /proc alone: what is mounted in it has this very tree beneath
        mount(f"/{name}", place, flags=BIND | (0 if name == "proc" else RECURSIVE))
    elif os.path.isfile(f"/{name}"):
        os.close(os.open(place, os.O_CREAT))
        mount(f"/{name}", place, flags=BIND)


def merge(layers: tuple[str, ...], last: str, place: str, nothing: str) -> None:
    """Mount at `place` what is in any of these folders, read-only; of what is in several, the first's."""
    if os.path.isdir(last) and os.path.samefile(layers[0], last):
        mount(last, place, flags=BIND | RECURSIVE)  # a folder of the host, which nobody here can write to
        return
    if os.path.islink(last) or not os.path.isdir(last):
        last = nothing
    try:
        mount("overlay", place, "overlay", READ_ONLY, f"lowerdir={':'.join((*layers, last))},userxattr")
    except OSError:  # three layers on one another are one too many: take our own and the root beneath it
        found: list[str] = []
        for path in (*layers, f"{CLEAN}/tmp/upper{last}", f"{BASE}{last}", nothing):
            if os.path.isdir(path) and not any(os.path.samefile(path, before) for before in found):
                found.append(path)
        mount("overlay", place, "overlay", READ_ONLY, f"lowerdir={':'.join(found)},userxattr")


def pin(etc: str, pins: str) -> None:
    """Copy the pinned part of a pristine /etc; a file that is not there is pinned as an empty one."""
    added = [name for name in ADDED_CODE if os.path.lexists(f"/etc/{name}")]
    for name in ["perl", "pam.d", *added, *(name for name in os.listdir(etc) if name.startswith(PINNED_CODE))]:
        if os.path.isfile(f"{etc}/{name}"):
            copy(f"{etc}/{name}", f"{pins}/{name}")
        else:
            os.makedirs(f"{pins}/{name}", exist_ok=True)  # the place of a mount
    for name in PINNED:
        source, target = f"{etc}/{name}", f"{pins}/{name}"
        if name != "nsswitch.conf" and not (os.path.lexists(source) or os.path.lexists(f"/etc/{name}")):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
            for link in os.listdir(source):
                if os.path.islink(f"{source}/{link}"):
                    os.symlink(os.readlink(f"{source}/{link}"), f"{target}/{link}")
                elif os.path.isfile(f"{source}/{link}"):
                    copy(f"{source}/{link}", f"{target}/{link}", b"pam_env.so" if name == "pam.d" else b"")
        else:
            copy(source, target)
    with open(f"{pins}/nsswitch.conf", "r+b") as stream:  # systemd's module takes users from files of its own, too
        kept = stream.read().replace(b" systemd", b"")
        stream.seek(0)
        stream.truncate()
        stream.write(kept)


def copy(source: str, target: str, without: bytes = b"") -> None:
    """Copy a file but for the lines with `without`; one that is not there is copied as an empty one."""
    with open(target, "wb") as made:
        if os.path.isfile(source):
            with open(source, "rb") as stream:
                made.write(b"".join(line for line in stream if not without or without not in line))
