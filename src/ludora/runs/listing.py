"""Runs beside one another: list them, find one by name, delete old ones."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ludora.errors import InputError, RunInUse, nearest
from ludora.runs.files import remove_folder
from ludora.runs.store import Run, check_name


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What `ludora runs list` shows of a run. `changed` is a Unix time, `size` is bytes on disk."""

    name: str
    path: str
    kind: str
    task: str
    model: str
    last_step: int | None
    best_step: int | None
    finished: bool
    in_use: str
    changed: float
    size: int

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def list_runs(runs_dir: str | Path) -> list[RunInfo]:
    """All runs in a folder, the most recently changed first. What is no run folder is passed over."""
    root = Path(runs_dir)
    folders = [p for p in root.iterdir() if (p / "config.json").is_file()] if root.is_dir() else []
    return sorted((run_info(path) for path in folders), key=lambda info: (-info.changed, info.name))


def run_info(path: Path) -> RunInfo:
    """What is in one run folder."""
    run = Run.read(path)
    try:
        config = run.config
    except InputError:  # a damaged run must not hide the others from the list
        config = {"kind": "unreadable"}
    steps = run.steps
    changed, size = _measure(path)
    return RunInfo(
        name=run.name,
        path=str(path),
        kind=str(config.get("kind", "")),
        task=str(config.get("task") or config.get("data", "")),  # what it learns, or learns from
        model=str(config.get("model", "")),
        last_step=steps[-1] if steps else None,
        best_step=run.best,
        finished=run.adapter.is_dir(),
        in_use=run.in_use,
        changed=changed,
        size=size,
    )


def _measure(path: Path) -> tuple[float, int]:
    """Time of the last change, and bytes; a run in use may lose files while we look."""
    changed, size = 0.0, 0
    for file in path.rglob("*"):
        try:
            stat = file.lstat()
        except FileNotFoundError:
            continue
        if not file.is_dir():
            changed, size = max(changed, stat.st_mtime), size + stat.st_size
    return changed, size


def find_run(runs_dir: str | Path, text: str) -> tuple[Path, int | None]:
    """`RUN` or `RUN@STEP` as a folder and a step; RUN is a folder's path or the name of a run in `runs_dir`.

    Raises:
        InputError: there is no such run.
    """
    name, at, step = text.rpartition("@")
    name, step = (name, step) if at and step.isdecimal() and len(step) < 20 else (text, "")
    for path in (Path(runs_dir) / name, Path(name)):
        if (path / "config.json").is_file():
            return path, int(step) if step else None
    known = [info.name for info in list_runs(runs_dir)]
    raise InputError(
        f"there is no run {name!r} in {runs_dir}", nearest(name, known) if known else "ludora train starts one"
    )


def find_whole_run(runs_dir: str | Path, text: str) -> Path:
    """The folder of RUN, where all of a run is asked for.

    Raises:
        InputError: there is no such run, or a step is named.
    """
    path, step = find_run(runs_dir, text)
    if step is not None:
        raise InputError(f"{text!r} names step {step}, but this is about a whole run", f"leave out @{step}")
    return path


def latest_run(runs_dir: str | Path, name: str) -> Path:
    """The newest of NAME, NAME-2, NAME-3 ...

    Raises:
        InputError: there is none.
    """
    pattern = re.compile(re.escape(check_name(name)) + r"(?:-(\d+))?")
    found = [(int(match[1] or 1), info) for info in list_runs(runs_dir) if (match := pattern.fullmatch(info.name))]
    if not found:
        raise InputError(f"there is no run {name!r} in {runs_dir} to resume", "leave --resume out to start one")
    return Path(max(found, key=lambda pair: pair[0])[1].path)


def clean(runs_dir: str | Path, keep: int) -> tuple[list[Path], list[RunInfo]]:
    """Delete all but the newest `keep` runs. Returns what was deleted, and what was left because it is in use."""
    deleted, left = [], []
    for info in outdated(runs_dir, keep):
        path = Path(info.path)
        try:
            # Under the run's own lock, so that nobody resumes it while it goes.
            with Run.open(path):
                remove_folder(path)
        except RunInUse:
            left.append(info)
        else:
            deleted.append(path)
    return deleted, left


def outdated(runs_dir: str | Path, keep: int) -> list[RunInfo]:
    """The runs that `clean` would delete: all but the newest `keep`, links left out."""
    return [info for info in list_runs(runs_dir)[keep:] if not Path(info.path).is_symlink()]
