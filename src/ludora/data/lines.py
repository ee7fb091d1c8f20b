"""Files of one JSON object per line, read strictly: a line that cannot be read is named by its number, with the reason.

The good lines of such a file are kept. Whether to go on without the bad ones is for whoever asked to say.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from ludora.errors import InputError

Item = TypeVar("Item")
SHOWN = 5  # bad lines that are told with their reason
_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be read; `number` counts from 1."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Reading(Generic[Item]):
    """What the `lines` good lines of a file hold, and the lines that could not be read."""

    path: Path
    items: tuple[Item, ...]
    lines: int
    bad: tuple[BadLine, ...]

    @property
    def complaint(self) -> str:
        """One line that names every bad line by number, the first ones with the reason; "" if there are none."""
        if not self.bad:
            return ""
        told = "; ".join(f"line {line.number}: {line.why}" for line in self.bad[:SHOWN])
        rest = ", ".join(str(line.number) for line in self.bad[SHOWN:])
        of = f"{len(self.bad)} of {len(self.bad) + self.lines} lines cannot be read"
        return f"{self.path}: {of}: {told}{f'; and lines {rest}' if rest else ''}"

    def all_good(self) -> tuple[Item, ...]:
        """The items, if every line could be read.

        Raises:
            InputError: there is a bad line.
        """
        if self.bad:
            raise InputError(self.complaint, "mend or delete these lines, or ask for the good ones alone")
        return self.items


class Unreadable(Exception):
    """Why a line cannot be read."""


def read_lines(path: Path, read: Callable[[Mapping[str, Any], int], list[Item]]) -> Reading[Item]:
    """All items of a file and all its bad lines. Blank lines mean nothing.

    Args:
        path: of the file.
        read: makes items of an object, given how many good lines came before it; raises `Unreadable`.

    Raises:
        InputError: there is no such file, or it is a damaged .gz.
    """
    items: list[Item] = []
    bad: list[BadLine] = []
    good = 0
    for number, line in _lines(path):
        try:
            items += read(_object(line), good)
            good += 1
        except Unreadable as error:
            bad.append(BadLine(number, str(error)))
        except RecursionError:
            bad.append(BadLine(number, "it is nested too deeply"))
    return Reading(path, tuple(items), good, tuple(bad))


def check_file(path: Path) -> None:
    """Whether there is such a file at all.

    Raises:
        InputError: there is none.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", "ludora data snake writes one")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    check_file(path)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path} cannot be unpacked: {error}", "copy it again") from None


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8") from None
    except ValueError as error:
        raise Unreadable(f"it is not JSON ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise Unreadable("it is not a JSON object")
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


@dataclass(slots=True)
class Memo:
    """Equal values are kept once: most of a file of games is repetition."""

    known: dict[Any, Any] = field(default_factory=dict)

    def once(self, value: Item) -> Item:
        return self.known.setdefault(value, value)  # type: ignore[no-any-return]


# ---- values, each of exactly the type that is wanted ---------------------------------------------------------------


def need(data: Mapping[str, Any], key: str, kind: type) -> Any:
    """A value of a type; a whole number may stand for a float, true and false stand for no number.

    Raises:
        Unreadable: it is missing, of another type, not finite, or a text that cannot be written.
    """
    if key not in data:
        raise Unreadable(f"{key!r} is missing")
    value = data[key]
    if kind is float and type(value) in (int, float):
        if not -1e300 < value < 1e300:
            raise Unreadable(f"{key!r} is not a finite number")
        return float(value)
    if type(value) is not kind:
        raise Unreadable(f"{key!r} is not {_NAMES[kind]}")
    if kind is str:
        _check_text(value)
    return value


def need_texts(data: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts.

    Raises:
        Unreadable: it is something else.
    """
    values = need(data, key, list)
    for value in values:
        if type(value) is not str:
            raise Unreadable(f"{key!r} is not a list of texts")
        _check_text(value)
    return list(values)


def no_others(data: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse keys that nobody would read.

    Raises:
        Unreadable: there is one.
    """
    if others := sorted(data.keys() - known):
        raise Unreadable(f"{short(others[0])} is an unknown key")


def short(value: object, limit: int = 40) -> str:
    """A value as a message can show it: ASCII, and not too long."""
    text = json.dumps(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _check_text(text: object) -> None:
    try:
        str(text).encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable("a text holds half a character (a lone surrogate)") from None
