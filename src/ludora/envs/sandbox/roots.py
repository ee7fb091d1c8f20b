"""Root file systems for sandboxes: made once, shared by all, never written to.

A minimal Debian (mmdebstrap), what a container engine exports, or the programs of this very machine. Each comes as a
tar archive and is unpacked by root of a user namespace, so that every file belongs to an id of the sandbox.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ludora.envs.sandbox.host_root import BINDS, host_archive
from ludora.envs.sandbox.userns import BASE, as_root_inside
from ludora.errors import InputError
from ludora.places import cache_dir

PACKAGES = (
    *("acl", "adduser", "bc", "cron", "file", "less", "passwd", "procps", "python3"),
    *("tree", "unzip", "vim", "zip"),
)
NOTE = "root.json"
PYTHONS = ("usr/bin/python3", "usr/local/bin/python3")
MAKING = ".making-"


@dataclass(frozen=True)
class Root:
    """A root file system.

    Attributes:
        folder: it lies there, owned by the ids of a sandbox.
        source: what it was made of: `debian`, `host`, or an archive's name.
        digest: sha256 of what it holds, times left out.
        python: of the interpreter in it, which the agent runs on.
        binds: folders of this machine that are seen in it, read-only.
    """

    folder: Path
    source: str
    digest: str
    python: str
    binds: tuple[str, ...] = ()


def store() -> Path:
    """The folder of all root file systems: as root, where the ids of a sandbox can reach it."""
    if os.geteuid() == 0 and not os.environ.get("LUDORA_CACHE"):
        return Path("/var/cache/ludora/shell")
    return cache_dir() / "shell"


def find_root() -> Root:
    """The root file system that was made last.

    Raises:
        InputError: there is none.
    """
    notes = sorted(store().glob(f"*/{NOTE}"), key=lambda path: path.stat().st_mtime)
    if not notes:
        raise InputError(f"there is no root file system for sandboxes in {store()}", "ludora shell setup")
    return read_root(notes[-1].parent)


def read_root(folder: Path) -> Root:
    """The root file system in a folder of the store."""
    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    return Root(folder / "fs", note["source"], note["digest"], note["python"], tuple(note["binds"]))


def setup(source: str, say: Callable[[str], None], packages: tuple[str, ...] = PACKAGES) -> Root:
    """Make a root file system, or find the equal one that was made before; it becomes the one that is used.

    Args:
        source: `debian`, `host`, or the path of a tar archive.
        say: told what takes long.
        packages: of Debian, beside the least that there is.

    Raises:
        InputError: the source is not there or holds too little; nothing was kept.
    """
    target = store()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=target, ignore_cleanup_errors=True) as name:
        if source == "host":
            archive: Path = Path(name) / "host.tar"
            archive.write_bytes(host_archive())
        elif source == "debian":
            archive = debian(Path(name) / "debian.tar", packages, say)
        else:
            archive = Path(source)
        try:
            digest, python = inspect(archive, host=source == "host")
        except (OSError, tarfile.TarError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise InputError(
                f"{archive}: {why}", "a tar archive of a root file system, such as docker export writes"
            ) from None
        folder = target / f"{'host' if source == 'host' else 'root'}-{digest[:12]}"
        root = Root(folder / "fs", source, digest, python, tuple(BINDS) if source == "host" else ())
        if not folder.exists():
            say(f"unpacking into {folder}")
            unpack(archive, root)
    os.utime(folder / NOTE)
    return root


def unpack(archive: Path, root: Root) -> None:
    """Unpack an archive as root of a user namespace; the folder appears when all of it is there.

    Raises:
        InputError: the ids of a sandbox cannot reach the folder.
        EnvBroken: unpacking failed.
    """
    folder = root.folder.parent
    made = Path(tempfile.mkdtemp(prefix=MAKING, dir=folder.parent))
    try:
        (made / NOTE).write_text(json.dumps({**asdict(root), "folder": str(root.folder)}), encoding="utf-8")
        (made / "fs").mkdir()
        if os.geteuid() == 0:  # none but these ids may look in: it holds programs with their setuid bit
            for path in (made, made / "fs"):
                os.chown(path, BASE, BASE)
            shut = next((path for path in made.resolve().parents if not path.stat().st_mode & 1), None)
            if shut:
                raise InputError(
                    f"the ids of a sandbox cannot reach {folder.parent}",
                    f"chmod o+x {shut}, or set LUDORA_CACHE to another folder",
                )
        command = ["tar", "-xp", "--numeric-owner", "--exclude=./dev/*", "--exclude=dev/*", "-C", str(made / "fs")]
        with archive.open("rb") as stream:
            as_root_inside(command, stream)
        made.rename(folder)
    except BaseException:  # boundary: what is half made goes, whatever happened
        remove(made)
        raise


def remove(folder: Path) -> None:
    """Delete a root file system, whoever owns what is in it."""
    if os.geteuid() != 0 and (folder / "fs").exists():
        as_root_inside(["rm", "-rf", "--", str(folder / "fs")])
    shutil.rmtree(folder)


def inspect(archive: Path, host: bool) -> tuple[str, str]:
    """sha256 of what an archive holds, times left out, and the path of its Python.

    Raises:
        InputError: there is none, or no bash.
    """
    seen = hashlib.sha256()
    names = {"usr/bin/python3", "usr/bin/bash"} if host else set()
    with tarfile.open(archive, "r:*") as stream:
        for member in stream:
            names.add(member.name.removeprefix("./"))
            facts = (
                member.name,
                member.mode,
                member.uid,
                member.gid,
                member.type.decode(),
                member.linkname,
                member.size,
            )
            seen.update(repr(facts).encode())
            if (content := stream.extractfile(member) if member.isfile() else None) is not None:
                for block in iter(lambda content=content: content.read(1 << 20), b""):  # type: ignore[misc]
                    seen.update(block)
    python = next((name for name in PYTHONS if name in names), "")
    for what, there in (("python3", bool(python)), ("bash", bool(names & {"bin/bash", "usr/bin/bash"}))):
        if not there:
            raise InputError(
                f"{archive.name} holds no {what}",
                f"install {what} in it: the sandbox's process 1 and its commands run on them",
            )
    return seen.hexdigest(), f"/{python}"


def debian(archive: Path, packages: tuple[str, ...], say: Callable[[str], None]) -> Path:
    """Write an archive of a minimal Debian with these packages, from the mirror that this machine's apt uses.

    Raises:
        InputError: the tool for it is not there, or failed.
    """
    tool = shutil.which("mmdebstrap")
    if tool is None:
        raise InputError(
            "mmdebstrap is not installed",
            "apt install mmdebstrap, or without a network: ludora shell setup --from host",
        )
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
    mode = "root" if os.geteuid() == 0 else "unshare"
    say("building a minimal Debian (minutes)")
    command = [tool, "--quiet", f"--mode={mode}", "--variant=minbase", f"--include={','.join(packages)}", *excluded]
    done = subprocess.run([*command, "stable", str(archive)], capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it failed"]
        raise InputError(f"mmdebstrap: {last[0]}", "without a network: ludora shell setup --from host")
    return archive
