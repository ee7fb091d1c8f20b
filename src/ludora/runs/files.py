"""Writing that survives a kill, a power cut or a full disk at any moment, and reading that notices damage.

The order is always: write under a temporary name in the same folder, fsync it, rename, fsync the folder. A rename
is the only moment at which something becomes visible, so a reader sees the old content or the new, never a mixture.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ludora.errors import DamagedCheckpoint

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp-"
ASIDE = ".old-"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: a renamed file may be lost with the power until this returns."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_new(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:  # one call may write less than it was given, 2 GiB at most on Linux
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)


def replace_file(path: Path, data: bytes) -> None:
    """Write a whole file, atomically and durably.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        _write_new(temporary, data)
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes], facts: Mapping[str, Any] | None = None) -> None:
    """Write a whole folder, atomically and durably. With `facts`, a manifest of sizes and hashes goes with it.

    Raises:
        OSError: it could not be written (FileExistsError or ENOTEMPTY: there is one already); nothing is left behind.
        ValueError: a name is no plain file name.
    """
    for name in files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise ValueError(f"{name!r} cannot be a file of a checkpoint")
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        os.mkdir(temporary)
        for name, data in files.items():
            _write_new(temporary / name, data)
        if facts is not None:
            _write_new(temporary / MANIFEST, _manifest(files, facts))
        sync_folder(temporary)
        os.rename(temporary, path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def replace_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder over an older one. `recover` finishes what a kill between the two renames left undone."""
    if path.exists():
        new = path.with_name(f"{TEMPORARY}new-{path.name}")
        remove_folder(new)
        write_folder(new, files)
        aside = path.with_name(ASIDE + path.name)
        remove_folder(aside)  # of a kill that nobody recovered from: `path` has been written anew since
        os.rename(path, aside)
        os.rename(new, path)
        sync_folder(path.parent)
        remove_folder(aside)
    else:
        write_folder(path, files)


def remove_folder(path: Path) -> None:
    """Delete a folder such that a kill leaves it whole or gone, never half: it is renamed away first."""
    doomed = path.with_name(f"{TEMPORARY}gone-{path.name}-{os.getpid()}")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed)


def recover(folder: Path) -> None:
    """Put back what was moved aside, and sweep away what a killed process left under temporary names."""
    for path in sorted(folder.glob(f"{ASIDE}*")):
        target = path.with_name(path.name.removeprefix(ASIDE))
        if target.exists():
            remove_folder(path)
        else:
            os.rename(path, target)
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _manifest(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> bytes:
    listed = {name: {"sha256": sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()}
    body = {"files": listed, "facts": dict(facts)}
    return _canonical({**body, "sha256": sha256(_canonical(body)).hexdigest()})


def read_manifest(path: Path) -> dict[str, Any]:
    """A folder's manifest: `files` and `facts`.

    Raises:
        DamagedCheckpoint: it is missing, or differs in any bit from what was written.
    """
    try:
        raw = (path / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        if not isinstance(manifest, dict) or _canonical(manifest) != raw:
            raise ValueError
        digest = manifest.pop("sha256", None)
        if digest != sha256(_canonical(manifest)).hexdigest():
            raise ValueError
    except (OSError, ValueError, RecursionError):
        raise DamagedCheckpoint(f"{path.name} is damaged: its {MANIFEST} is missing or altered") from None
    return manifest


def read_folder(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """All files of a folder and the facts in its manifest, every byte of it verified.

    Raises:
        DamagedCheckpoint: anything differs from what was written; the message names the first such file.
    """
    manifest = read_manifest(path)
    files = {}
    for name, wanted in manifest["files"].items():
        file = path / name
        try:
            # Size first: a file that grew beyond all bounds must not be read into memory to learn that.
            data = file.read_bytes() if file.stat().st_size == wanted["size"] and not file.is_symlink() else b""
        except OSError as error:
            raise DamagedCheckpoint(f"{path.name} is damaged: {name}: {error.strerror}") from None
        if len(data) != wanted["size"] or sha256(data).hexdigest() != wanted["sha256"]:
            raise DamagedCheckpoint(f"{path.name} is damaged: {name} is not what was written")
        files[name] = data
    return files, manifest["facts"]
