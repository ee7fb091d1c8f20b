"""A root file system of this machine's own programs: /usr as it is, read-only; everything else made anew."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # at the top: links into /usr, or folders of their own
BINDS = ("/usr", *(f"/{name}" for name in SYSTEM if Path(f"/{name}").is_dir() and not Path(f"/{name}").is_symlink()))
# Of /etc: how programs are set up, and nothing that a host has for itself - no users, keys, proxies or mounts.
ETC = (
    *("adduser.conf", "alternatives", "bash.bashrc", "debian_version", "default/useradd", "deluser.conf", "host.conf"),
    *("inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "login.defs", "magic", "mime.types"),
    *(
        "nsswitch.conf",
        "os-release",
        "pam.conf",
        "pam.d",
        "profile",
        "protocols",
        "rpc",
        "security",
        "services",
        "shells",
    ),
    *("skel", "terminfo", "vim", "xattr.conf"),
)
FOLDERS = {
    **dict.fromkeys(("boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "run", "srv", "sys", "usr"), 0o755),
    **dict.fromkeys(
        ("usr/local", "var", "var/backups", "var/cache", "var/lib", "var/log", "var/opt", "var/spool"), 0o755
    ),
    **dict.fromkeys(
        (f"usr/local/{name}" for name in ("bin", "etc", "games", "include", "lib", "sbin", "share", "src")), 0o755
    ),
    **dict.fromkeys(("run/lock", "tmp", "var/tmp"), 0o1777),
    "root": 0o700,
    "var/mail": 0o2775,
    "var/local": 0o2775,
}
LINKS = {"var/run": "/run", "var/lock": "/run/lock", "var/spool/mail": "../mail"}
# name, id, group, home, shell: the users that every Debian has, and nobody else
USERS = (
    *(("root", 0, 0, "/root", "/bin/bash"), ("daemon", 1, 1, "/usr/sbin", ""), ("bin", 2, 2, "/bin", "")),
    *(("sys", 3, 3, "/dev", ""), ("sync", 4, 65534, "/bin", "/bin/sync"), ("games", 5, 60, "/usr/games", "")),
    *(("man", 6, 12, "/var/cache/man", ""), ("lp", 7, 7, "/var/spool/lpd", ""), ("mail", 8, 8, "/var/mail", "")),
    *(
        ("www-data", 33, 33, "/var/www", ""),
        ("backup", 34, 34, "/var/backups", ""),
        ("nobody", 65534, 65534, "/nonexistent", ""),
    ),
)
GROUPS = {
    **{
        "root": 0,
        "daemon": 1,
        "bin": 2,
        "sys": 3,
        "adm": 4,
        "tty": 5,
        "disk": 6,
        "lp": 7,
        "mail": 8,
        "man": 12,
        "sudo": 27,
    },
    **{"www-data": 33, "backup": 34, "operator": 37, "src": 40, "shadow": 42, "utmp": 43, "video": 44, "staff": 50},
    **{"games": 60, "users": 100, "nogroup": 65534},
}
OWNED = {
    "etc/shadow": GROUPS["shadow"],
    "etc/gshadow": GROUPS["shadow"],
    "var/mail": GROUPS["mail"],
    "var/local": GROUPS["staff"],
}


def host_archive() -> bytes:
    """The tar archive of everything but /usr."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in FOLDERS.items():
            _add(archive, name, tarfile.DIRTYPE, mode)
        for name in SYSTEM:
            if (path := Path(f"/{name}")).is_symlink():
                _add(archive, name, tarfile.SYMTYPE, 0o777, link=os.readlink(path))
            elif path.is_dir():
                _add(archive, name, tarfile.DIRTYPE, 0o755)
        for name, link in LINKS.items():
            _add(archive, name, tarfile.SYMTYPE, 0o777, link=link)
        for name in ETC:
            if os.path.lexists(f"/etc/{name}"):
                _add_host(archive, Path("/etc", name))
        for name, text in _own_files().items():
            _add(archive, name, tarfile.REGTYPE, 0o640 if "shadow" in name else 0o644, text.encode())
    return held.getvalue()


def _own_files() -> dict[str, str]:
    shells = [(name, uid, gid, home, shell or "/usr/sbin/nologin") for name, uid, gid, home, shell in USERS]
    return {
        "etc/passwd": "".join(
            f"{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n" for name, uid, gid, home, shell in shells
        ),
        "etc/shadow": "".join(f"{name}:*:19000:0:99999:7:::\n" for name, *_ in USERS),
        "etc/group": "".join(f"{name}:x:{gid}:\n" for name, gid in GROUPS.items()),
        "etc/gshadow": "".join(f"{name}:*::\n" for name in GROUPS),
        "etc/hostname": "sandbox\n",
        "etc/hosts": "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost\n",
        "etc/fstab": "",
        "root/.bashrc": "",
        "root/.profile": "",
        "var/log/lastlog": "",
        "var/log/wtmp": "",
    }


def _add_host(archive: tarfile.TarFile, path: Path) -> None:
    """A file, link or folder of the host's /etc, so far as everybody may read it."""
    mode = path.lstat().st_mode
    name = str(path).lstrip("/")
    if stat.S_ISLNK(mode):
        _add(archive, name, tarfile.SYMTYPE, 0o777, link=os.readlink(path))
    elif stat.S_ISDIR(mode) and mode & 0o005 == 0o005:
        _add(archive, name, tarfile.DIRTYPE, 0o755)
        for inner in sorted(path.iterdir()):
            _add_host(archive, inner)
    elif stat.S_ISREG(mode) and mode & 0o004:
        _add(archive, name, tarfile.REGTYPE, 0o644, path.read_bytes())


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname, member.size = kind, mode, link, len(data)
    member.gid = OWNED.get(name, 0)
    archive.addfile(member, io.BytesIO(data))
