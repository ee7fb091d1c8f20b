"""Where things that outlive a run are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$LUDORA_CACHE, or $XDG_CACHE_HOME/ludora, or ~/.cache/ludora."""
    if own := os.environ.get("LUDORA_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ludora"
