"""One writer per run folder: an flock, which the system frees however its process ends.

The file itself stays: deleting it would let two processes hold locks on two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from ludora.errors import RunInUse

_TRIES = 5  # `holder` takes the lock for a moment; that must not look like a writer
_PAUSE = 0.02  # seconds


def acquire(path: Path) -> int:
    """Lock a file and write into it who holds it; the lock lasts until the returned descriptor is closed.

    Raises:
        RunInUse: another process (or another open in this one) holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for attempt in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == _TRIES - 1:
                who = _read(descriptor) or "another process"
                os.close(descriptor)
                raise RunInUse(f"run {path.parent} is in use by {who}", "wait for it, or stop it") from None
            time.sleep(_PAUSE)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor


def holder(path: Path) -> str:
    """Who holds the lock now; empty if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except BlockingIOError:
        return _read(descriptor) or "another process"
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
