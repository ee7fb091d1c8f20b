"""Sandboxes for tests: over this machine's programs, as whoever runs the tests and, when that is root, as somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ludora.envs.sandbox.checks import checks
from ludora.envs.sandbox.host_root import host_archive
from ludora.envs.sandbox.roots import remove

SOURCE = Path(__file__).parents[3] / "src"
REQUIRED = "LUDORA_SANDBOX_TESTS"  # set where these tests must run, as .ci/run does
USER = 54_321


def need(*programs: str) -> None:
    """Skip the test, or fail it where it must run, when this machine cannot have a sandbox or lacks one of these."""
    missing = [
        f"{check.name}: {check.found}; {check.fix}"
        for check in checks()
        if check.fix and check.name != "root file system"
    ]
    missing += [f"{name} is not installed" for name in programs if shutil.which(name) is None]
    if missing and os.environ.get(REQUIRED):
        pytest.fail(missing[0])
    if missing:
        pytest.skip(missing[0])


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach, as pytest's own are not; with what may lie in it taken away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ludora-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for root in (folder / "shell").glob("*/fs"):
            remove(root.parent)
        shutil.rmtree(folder)


# What the forgeries and their verdicts run, and more that bash scripts take.
PROGRAMS = (
    *(
        "bash",
        "cat",
        "chage",
        "chgrp",
        "chmod",
        "cmp",
        "cp",
        "dirname",
        "env",
        "getent",
        "grep",
        "groupadd",
        "groupdel",
        "id",
    ),
    *(
        "ln",
        "ls",
        "mkdir",
        "mount",
        "mv",
        "nohup",
        "perl",
        "python3",
        "rm",
        "sed",
        "seq",
        "setsid",
        "sh",
        "sleep",
        "stat",
    ),
    *("tee", "true", "useradd", "usermod"),
)

# Of Python's library
UNUSED = {
    *("__pycache__", "asyncio", "curses", "dist-packages", "distutils", "email", "ensurepip", "idlelib", "lib2to3"),
    *("multiprocessing", "pydoc_data", "site-packages", "sqlite3", "test", "tkinter", "turtledemo", "unittest", "xml"),
}


def writable_archive(path: Path) -> Path:
    """An archive of a small root file system with a /usr of its own, out of this machine's programs."""
    path.write_bytes(host_archive())
    found = [shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in PROGRAMS]
    programs = [Path(name) for name in found if name]
    standard = Path("/usr/lib", Path("/usr/bin/python3").resolve().name)
    folders = [standard, *Path("/usr/lib").glob("*/perl-base"), *Path("/usr/lib/locale").glob("C.utf8")]
    told = subprocess.run(["ldd", *programs, *standard.glob("lib-dynload/*.so")], capture_output=True, text=True).stdout
    libraries = {Path(word) for word in told.split() if word.startswith("/") and not word.endswith(":")}

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if UNUSED & set(member.name.split("/")) or "/config-" in member.name else member

    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/share", "usr/share/perl5"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for source in {*programs, *libraries}:
            archive.add(source, str(source.parent.resolve() / source.name).lstrip("/"))
        for source in folders:
            archive.add(source, str(source).lstrip("/"), filter=wanted)
    return path


# Nothing of the host is changed: its users and ids are others in a mount namespace of the process alone.
_BECOME = """
set -e
cd "$1"; shift
mount --bind passwd /etc/passwd
for kind in subuid subgid; do touch $kind; mount --bind $kind /etc/$kind; done
mount --bind "$1" python; mount --bind "$2" src; shift 2
exec setpriv --reuid=USER --regid=USER --clear-groups env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$PWD/home" PYTHONPATH="$PWD/src" \
  "$PWD/python/bin/$1" -c "$2"
""".replace("USER", str(USER))


def as_ordinary_user(code: str) -> str:
    """What Python code prints that an ordinary user runs who has subordinate ids. Needs root."""
    with open_folder() as folder:
        for name in ("home", "python", "src"):
            (folder / name).mkdir()
        os.chown(folder / "home", USER, USER)
        passwd = Path("/etc/passwd").read_text(encoding="utf-8")
        (folder / "passwd").write_text(f"{passwd}ludora-test:x:{USER}:{USER}::/:/bin/sh\n", encoding="utf-8")
        for kind in ("subuid", "subgid"):
            Path("/etc", kind).touch()
            (folder / kind).write_text("ludora-test:1700000000:65536\n", encoding="utf-8")
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        words = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            _BECOME,
            "sh",
            str(folder),
            sys.base_prefix,
            str(SOURCE),
            python,
            code,
        ]
        done = subprocess.run(words, capture_output=True, text=True)
        subprocess.run(
            ["rm", "-rf", str(folder / "home")], check=True
        )  # its files belong to ids that only root can reach
        assert done.returncode == 0, done.stderr
        return done.stdout
