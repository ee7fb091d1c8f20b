"""The run folder: what a run writes, where, and how it is found again. No other file knows these names.

    runs/NAME/config.json metrics.jsonl events.jsonl episodes/ checkpoints/step-000500/ best adapter/
              variants/NAME/ evaluation.json report.html report.md lock

One process at a time writes to a run: it holds an flock on `lock`, which the system frees however the process ends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ludora.errors import DamagedCheckpoint, InputError
from ludora.runs import episodes, files
from ludora.runs.clock import Clock
from ludora.runs.lock import acquire, holder

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LOCK = "lock"
LOGS = ("metrics.jsonl", "events.jsonl")
_STEP = re.compile(r"step-(\d{6,12})")


class Checkpoint(NamedTuple):
    """A verified checkpoint: the step and its files' bytes by name."""

    step: int
    files: dict[str, bytes]


class Run:
    """One run folder. Made by `create`, `open` (both lock it for writing) or `read`; a context manager.

    `warn` receives one-line warnings (a damaged checkpoint passed over, a disk that is nearly full).
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        """Use `create`, `open` or `read`."""
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"  # the final one, in PEFT's format
        self.variants = path / "variants"  # adapters of those that lived on when an evolution ended
        self.episodes = path / "episodes"
        self.evaluation = path / "evaluation.json"
        self.report_html = path / "report.html"
        self.warn: Callable[[str], None] = _warn
        self._lock = lock
        self._logs: dict[str, int] = {}
        self._clock: Clock | None = None
        self._warned_of_space = False

    @classmethod
    def create(cls, runs_dir: str | Path, name: str, config: Mapping[str, Any]) -> Run:
        """A new folder NAME, or NAME-2, NAME-3 ... where that exists, locked, with its `config.json`.

        Raises:
            InputError: the name could leave `runs_dir`, or nothing can be written there.
        """
        check_name(name)
        root = Path(runs_dir)
        try:
            path = cls._new_folder(root, name)
        except OSError as error:
            raise InputError(
                f"cannot make a run folder in {runs_dir}: {error.strerror}", "choose another with runs_dir=FOLDER"
            ) from None
        run = cls(path, acquire(path / LOCK))
        run.checkpoints.mkdir()
        run.write_json("config.json", config)
        files.sync_folder(root)
        return run

    @staticmethod
    def _new_folder(root: Path, name: str) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()  # atomic: of two processes one gets this name, the other the next
            except FileExistsError:
                continue
            return path
        raise AssertionError("numbers do not end")

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, locked for writing; leftovers of a killed process are swept away.

        Raises:
            InputError: there is no run.
            RunInUse: another process writes to it.
        """
        run = cls.read(path)
        run._lock = acquire(run.path / LOCK)
        run.checkpoints.mkdir(exist_ok=True)
        for folder in (run.path, run.checkpoints, run.episodes, run.variants):
            files.recover(folder)
        return run

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """An existing run, to read only; it may be in use.

        Raises:
            InputError: there is no run.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is not a run folder", "ludora runs list shows the runs there are")
        return cls(path, None)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the logs and free the lock. Idempotent."""
        for descriptor in self._logs.values():
            os.close(descriptor)
        self._logs = {}
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def in_use(self) -> str:
        """Who writes to this run now, as `process N on HOST`; empty if nobody does."""
        return holder(self.path / LOCK)

    @property
    def name(self) -> str:
        """The folder's name, unique among the runs beside it."""
        return self.path.name

    # ---- whole files

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a file of the run, atomically and durably."""
        self._writable()
        files.replace_file(self.path / name, data)
        return self.path / name

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file of the run; NaN is refused, since JSON has none."""
        return self.write_bytes(name, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """A JSON file of the run.

        Raises:
            InputError: it is missing or no JSON.
        """
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / name} cannot be read: {error}", "is the run complete?") from None

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, as `Settings.to_json` gave it."""
        config = self.read_json("config.json")
        return config if isinstance(config, dict) else {}

    def write_adapter(self, contents: Mapping[str, bytes]) -> Path:
        """Write the final adapter over an earlier one."""
        self._writable()
        files.replace_folder(self.adapter, contents)
        return self.adapter

    def write_variant(self, name: str, contents: Mapping[str, bytes]) -> None:
        """Write the adapter of one variant of a population, beside the final one."""
        self._writable()
        self.variants.mkdir(exist_ok=True)
        files.replace_folder(self.variants / name, contents)

    def write_episodes(self, step: int, text: str) -> Path:
        """Keep sample episodes of one step: see `ludora.runs.episodes`."""
        self._writable()
        return episodes.write(self.episodes, step, text)

    # ---- logs

    def append(self, log: str, row: Mapping[str, Any]) -> None:
        """Append one JSON line to `metrics.jsonl` or `events.jsonl`; durable from the next checkpoint on."""
        self._writable()
        if log not in self._logs:
            self._logs[log] = os.open(self._log(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            files.sync_folder(self.path)  # or the power could take the name of a file whose lines are safe
        line = memoryview((json.dumps(row, allow_nan=False) + "\n").encode())
        while line:
            line = line[os.write(self._logs[log], line) :]

    def rows(self, log: str) -> Iterator[dict[str, Any]]:
        """The lines of a log. A last line that a kill cut short is left out.

        Raises:
            InputError: a line is damaged.
        """
        path = self._log(log)
        try:
            with path.open("rb") as file:
                yield from (_row(line, path, n) for n, line in enumerate(file, start=1) if line.endswith(b"\n"))
        except FileNotFoundError:
            return

    def _log(self, log: str) -> Path:
        if log not in LOGS:
            raise ValueError(f"{log!r} is no log; there are {LOGS}")
        return self.path / log

    def _log_lengths(self) -> dict[str, int]:
        """Bytes of each log, all of them on the disk when this returns."""
        lengths = {}
        for log in LOGS:
            if log in self._logs:
                os.fsync(self._logs[log])
            lengths[log] = self._log(log).stat().st_size if self._log(log).exists() else 0
        return lengths

    def clock(self, step: int, seconds: float) -> float:
        """The seconds first given for a step, whatever is given later: see `ludora.runs.clock`."""
        self._writable()
        self._clock = self._clock or Clock(self.path / "clock.jsonl")
        return self._clock.at(step, seconds)

    # ---- checkpoints

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, oldest first."""
        found = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return sorted(int(match[1]) for path in found if (match := _STEP.fullmatch(path.name)) and path.is_dir())

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.checkpoints / f"step-{step:06d}"

    def save_checkpoint(self, step: int, contents: Mapping[str, bytes]) -> Path | None:
        """Save a checkpoint: whole and durable when this returns, or not there at all.

        A step that is already there, intact, is left as it is: it belongs to the same history. None where the disk
        is full: that is warned of, and the checkpoints there are stay as they were.
        """
        self._writable()
        path = self.checkpoint(step)
        if path.exists():
            try:
                files.read_folder(path)
                return path
            except DamagedCheckpoint:
                files.remove_folder(path)
        self._check_space(sum(map(len, contents.values())))
        try:
            files.write_folder(path, contents, {"step": step, "logs": self._log_lengths()})
        except OSError as error:
            if error.errno not in files.DISK_FULL:
                raise
            last = f"the last one is step {self.steps[-1]}" if self.steps else "there is none yet"
            self.warn(f"checkpoint of step {step} was not saved: {error.strerror}; {last}")
            return None
        return path

    def load_checkpoint(self, step: int | None = None) -> Checkpoint:
        """A checkpoint, every byte verified; the newest intact one unless `step` asks for one.

        Raises:
            InputError: there is none (of that step).
            DamagedCheckpoint: that step is damaged, or all are.
        """
        steps = self.steps
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            hint = f"there are steps {', '.join(map(str, steps))}" if steps else "train it without --resume"
            raise InputError(f"run {self.name} has {wanted}", hint)
        for candidate in reversed(steps) if step is None else [step]:
            try:
                return Checkpoint(candidate, files.read_folder(self.checkpoint(candidate))[0])
            except DamagedCheckpoint as error:
                if step is not None:
                    others = ", ".join(str(s) for s in steps if s != step)
                    raise DamagedCheckpoint(error.message, f"other steps: {others or 'none'}") from None
                self.warn(f"{error.message}; trying the one before")
        raise DamagedCheckpoint(f"every checkpoint of run {self.name} is damaged", "start a new run")

    def resume(self, step: int | None = None) -> Checkpoint | None:
        """Load a checkpoint and take the run back to it: later checkpoints, episodes, log lines and a later best go.

        None if there is no checkpoint yet and none was asked for: the run starts over, with empty logs.

        Raises:
            InputError, DamagedCheckpoint: as `load_checkpoint`; nothing was changed.
        """
        self._writable()
        if step is None and not self.steps:
            self._truncate_logs(dict.fromkeys(LOGS, 0))
            episodes.forget(self.episodes, after=-1)
            return None
        found = self.load_checkpoint(step)
        later = [s for s in self.steps if s > found.step]
        if later:
            self.warn(f"going on from step {found.step}; the later {', '.join(map(str, later))} are deleted")
        # Newest first, so that a kill in between leaves a history that just ends later than asked for.
        for gone in reversed(later):
            files.remove_folder(self.checkpoint(gone))
        self._truncate_logs(files.read_manifest(self.checkpoint(found.step))["facts"]["logs"])
        episodes.forget(self.episodes, after=found.step)
        if (best := self.best) is not None and best not in self.steps:
            (self.path / "best").unlink()
        return found

    def _truncate_logs(self, lengths: Mapping[str, int]) -> None:
        for log, length in lengths.items():
            path = self._log(log)
            size = path.stat().st_size if path.exists() else 0
            if size < length:
                self.warn(f"{log} is shorter than when the checkpoint was saved; {length - size} bytes are missing")
            elif size > length:
                os.truncate(path, length)

    @property
    def best(self) -> int | None:
        """Step of the best checkpoint, if one was marked."""
        try:
            text = (self.path / "best").read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return int(text) if text.isdecimal() else None

    def mark_best(self, step: int | None) -> None:
        """Remember which checkpoint is the best, if it was saved; `prune` keeps it.

        To be called after every save and resume: a full disk may have left it out, or a kill come before the mark.
        """
        self._writable()
        if step is not None and step != self.best and step in self.steps:
            self.write_bytes("best", f"{step}\n".encode())

    def prune(self, keep: int, best: int | None = None, also: Collection[int] = ()) -> None:
        """Delete all checkpoints but the newest `keep`, the `best` (by default the marked one) and those in `also`."""
        self._writable()
        kept = {*self.steps[-keep:], self.best if best is None else best, *also}
        for step in self.steps:
            if step not in kept:
                files.remove_folder(self.checkpoint(step))

    def _check_space(self, size: int) -> None:
        """Warn once while there is still time to make room: saving needs twice the size for a moment, and logs grow."""
        free = shutil.disk_usage(self.path).free
        if free < 3 * size and not self._warned_of_space:
            self._warned_of_space = True
            self.warn(f"the disk is nearly full: {free / 1e6:.0f} MB free, a checkpoint takes {size / 1e6:.0f} MB")

    def _writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"run {self.name} was opened for reading, or is closed")


def check_name(name: str) -> str:
    """A run's name, refused where it could lead out of the runs folder.

    Raises:
        InputError: it is not letters, digits, dots, dashes and underscores.
    """
    if not RUN_NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be the name of a run", "use letters, digits, dots and dashes, 100 at most")
    return name


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """One line of a log.

    Raises:
        InputError: it is damaged.
    """
    try:
        row = json.loads(line.decode())
        if not isinstance(row, dict):
            raise ValueError("it holds no table")
    except ValueError as error:
        raise InputError(f"{path}:{number} is damaged: {error}", "mend or delete that line") from None
    return row
