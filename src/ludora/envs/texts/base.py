"""What a game's text is, and the little that many of them need."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GameText:
    """How one game is told.

    `state` gets the string that the state is told from, the seat and the game's parameters. `names` gets that
    string, the legal action ids and the engine's words for them, and returns our words in the same order; actions
    that get equal words must lead to the same position, and only the first of them is offered.

    The string is the engine's own for the seat. Where that does not hold all that a player may know, `reads` makes
    it from the engine's state; it must not tell more than the seat is allowed to see.
    """

    rules: str
    state: Callable[[str, int, Params], str]
    names: Callable[[str, Sequence[int], Sequence[str]], tuple[str, ...]]
    reads: Callable[[Any, int], str] | None = None


def as_named(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    """The engine's own words."""
    return tuple(names)


def field(text: str, name: str) -> str:
    """What follows `name:` on its line."""
    match = re.search(rf"^{name}: ?(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def square(row: int, column: int) -> str:
    """The name of a square: a letter for the column, a number for the row, both from 0."""
    return f"{'abcdefghijklmnopqrstuvwxyz'[column]}{row + 1}"


def grid(rows: Sequence[Sequence[str]], *, slant: bool = False, upwards: bool = False) -> str:
    """A board with letters over its columns and numbers before its rows.

    Args:
        rows: the cells, one character each, the first row on top.
        slant: every row begins half a cell further right than the one above it (hexagons).
        upwards: the bottom row has number 1, not the top one.
    """
    wide = len(str(len(rows)))
    lines = [" " * (wide + 1) + " ".join("abcdefghijklmnopqrstuvwxyz"[: len(rows[0])])]
    for i, row in enumerate(rows):
        number = len(rows) - i if upwards else i + 1
        lines.append(" " * (i if slant else 0) + f"{number:>{wide}} " + " ".join(row))
    return "\n".join(lines)


def count(number: int, word: str) -> str:
    """`1 box`, `2 boxes`; `word` with a plural behind a bar: `box|boxes`."""
    one, _, many = word.partition("|")
    return f"{number} {one if number == 1 else many or one + 's'}"
