"""Where metrics go beside `metrics.jsonl`: TensorBoard, Weights & Biases, Trackio. All optional, imported on use."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from ludora.errors import MissingExtra, nearest

PROJECT = "ludora"


class Tracker(Protocol):
    """Takes the metrics of one step after another, until it is closed."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a step."""

    def close(self) -> None:
        """Hand over what is left. Idempotent."""


class TensorBoard:
    """Event files in the run folder, written by the `tensorboard` package alone: no torch is needed for that."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Start an event file in `folder`/tensorboard."""
        writer = _package("tensorboard", "tensorboard.summary.writer.event_file_writer")
        self._proto = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._writer = writer.EventFileWriter(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a step."""
        entries = [self._summary.Summary.Value(tag=key, simple_value=value) for key, value in values.items()]
        summary = self._summary.Summary(value=entries)
        self._writer.add_event(self._proto.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


class _Session:
    """wandb and trackio, which share one interface: `init`, `log`, `finish`."""

    def __init__(self, package: Any, **start: Any) -> None:
        self._package = package
        package.init(project=PROJECT, **start)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._package.log(dict(values), step=step)

    def close(self) -> None:
        self._package.finish()


def _wandb(folder: Path, config: Mapping[str, Any]) -> Tracker:
    # A run that was killed goes on in the same curve. Its id must differ from that of a run of the same name elsewhere.
    package = _package("wandb", "wandb")
    place = f"{socket.gethostname()} {folder.resolve()} {folder.stat().st_ino}"
    id = f"{folder.name}-{sha256(place.encode()).hexdigest()[:8]}"
    return _Session(package, name=folder.name, id=id, resume="allow", config=dict(config), dir=str(folder))


def _trackio(folder: Path, config: Mapping[str, Any]) -> Tracker:
    package = _package("trackio", "trackio")
    return _Session(package, name=folder.name, resume="allow", config=dict(config))


def _package(extra: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra(f"the tracker {extra} is not installed", f"pip install 'ludora[{extra}]'") from None


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": _wandb,
    "trackio": _trackio,
}


def start(name: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    """Start a tracker for a run folder.

    Raises:
        MissingExtra: its package is not installed.
    """
    if name not in TRACKERS:
        raise MissingExtra(f"there is no tracker {name!r}", nearest(name, TRACKERS))
    os.environ.setdefault("WANDB_SILENT", "true")  # its banner goes to stdout, which is for results
    return TRACKERS[name](folder, config)
