"""Sample episodes of a run, to look at: `episodes/step-000500.jsonl.gz`, trajectories as JSON lines.

An update that is repeated writes its file again: the same bytes for the same text.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from ludora.runs import files

_FILE = re.compile(r"step-(\d{6,12})\.jsonl\.gz")


def write(folder: Path, step: int, text: str) -> Path:
    """Keep the episodes of one step."""
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:06d}.jsonl.gz"
    files.replace_file(path, gzip.compress(text.encode(), mtime=0))
    return path


def found(folder: Path) -> dict[int, Path]:
    """Step -> its file, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return dict(sorted((int(match[1]), path) for path in paths if (match := _FILE.fullmatch(path.name))))


def forget(folder: Path, after: int) -> None:
    """Delete those of later steps."""
    for step, path in found(folder).items():
        if step > after:
            path.unlink()
