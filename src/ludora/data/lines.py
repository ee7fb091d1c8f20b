"""Files of one JSON object per line, read strictly: a line that cannot be read is named by its number, with the reason.

The good lines of such a file are kept. Whether to go on without the bad ones is for whoever asked to say.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

from ludora.errors import BadLines, InputError

Item = TypeVar("Item")
SHOWN = 5  # bad lines that are told with their reason
LONGEST = 160  # characters of a reason
_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a line stands; `number` counts from 1."""

    path: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}:{self.number}"


@dataclass(frozen=True, slots=True, order=True)
class BadLine:
    """A line that cannot be used, and why."""

    place: Place
    why: str


@dataclass(frozen=True, slots=True)
class Reading(Generic[Item]):
    """What the good lines of files hold, an item each, and the lines that could not be read; both in their order."""

    items: tuple[Item, ...]
    bad: tuple[BadLine, ...]

    @property
    def complaint(self) -> str:
        """See `complaint`; "" where every line could be read."""
        return complaint(self.bad, len(self.items) + len(self.bad)) if self.bad else ""

    def all_good(self) -> tuple[Item, ...]:
        """The items, if every line could be read.

        Raises:
            BadLines: there is one.
        """
        if self.bad:
            raise BadLines(self.complaint, "mend or delete these lines, or ask for the good ones alone")
        return self.items


def complaint(bad: Sequence[BadLine], lines: int) -> str:
    """One line that names every bad one of so many lines by its number, then the first ones with the reason."""
    told = "; ".join(f"{line.place}: {_cut(line.why)}" for line in bad[:SHOWN])
    if len(bad) > SHOWN:
        every = "; ".join(f"{path} lines {numbers}" for path, numbers in ranges(bad).items())
        told = f"{every}. The first: {told}"
    return f"{len(bad)} of {lines} lines cannot be used: {told}"


def ranges(bad: Sequence[BadLine]) -> dict[str, str]:
    """By file, the numbers of all its bad lines: `1-400, 402`."""
    numbers: dict[str, list[int]] = {}
    for line in bad:
        numbers.setdefault(line.place.path, []).append(line.place.number)
    return {path: ", ".join(_runs(sorted(set(found)))) for path, found in numbers.items()}


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    """Rising numbers, those that follow one another as FIRST-LAST."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _cut(why: str) -> str:
    """A reason may quote what the line holds, which may be long."""
    return why if len(why) <= LONGEST else f"{why[:LONGEST]} ..."


class Unreadable(Exception):
    """Why a line cannot be read."""


def read_lines(path: Path, read: Callable[[Mapping[str, Any], Place], Item]) -> Reading[Item]:
    """What every line of a file holds, and all its bad lines. Blank lines mean nothing.

    Args:
        path: of the file.
        read: makes an item of an object and its place; raises `Unreadable`.

    Raises:
        InputError: there is no such file, or it cannot be read or unpacked.
    """
    items: list[Item] = []
    bad: list[BadLine] = []
    for number, line in _lines(path):
        place = Place(str(path), number)
        try:
            items.append(read(_object(line), place))
        except Unreadable as error:
            bad.append(BadLine(place, str(error)))
        except RecursionError:
            bad.append(BadLine(place, "it is nested too deeply"))
    return Reading(tuple(items), tuple(bad))


def check_file(path: Path) -> None:
    """Whether there is such a file at all.

    Raises:
        InputError: there is none.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", "ludora data snake writes one")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank."""
    try:
        check_file(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} cannot be unpacked: {error}", "copy it again") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path} cannot be read: {reason}", "a file of one JSON object per line is wanted") from None


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
