"""Whole files of games, written and read by what the product does so with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ludora.data.lines import Memo, Reading, read_lines
from ludora.data.trajectories import Writer, from_object
from ludora.types import Trajectory


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> int:
    """A whole file, or none where a game cannot be written; returns how many lines it has."""
    writer, done = Writer(path), False
    try:
        for trajectory in trajectories:
            writer.write(trajectory)
        done = True
    finally:
        writer.close(keep=done)
    return writer.lines


def read_trajectories(path: Path) -> Reading[Trajectory]:
    memo = Memo()
    return read_lines(path, lambda data, place: from_object(data, memo))
