"""Examples to learn from, read from JSONL files: recorded games, conversations, prompts with their completions.

One JSON object per line, of one of three kinds:

    {"version": 1, "kind": "trajectory", "task": "snake(size=8)", "seat": 0, "steps": [{"messages": [...],
     "legal": ["up", "down"], "move": "up", "reasoning": "..."}, ...], ...}
    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
    {"prompt": "...", "completion": "..."}

A line that cannot be used is never passed over in silence: it is reported with file, number and reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ludora.errors import InputError
from ludora.types import Message

VERSION = 1
ROLES = ("system", "user", "assistant")
SHOWN = 5  # bad lines named one by one


@dataclass(frozen=True, slots=True)
class ExpertTurn:
    """What one seat saw, and the move that it made there. `legal` is None where any text is an answer."""

    messages: tuple[Message, ...]
    legal: tuple[str, ...] | None
    move: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One line: a seat's turns in one game (`task` names it), or a conversation (`messages`); never both."""

    where: str
    task: str = ""
    seat: int = 0
    turns: tuple[ExpertTurn, ...] = ()
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used, as `file:number`, and why."""

    where: str
    reason: str


@dataclass(slots=True)
class Examples:
    """All that was read, in order of files and lines."""

    records: list[Record] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)


def read_examples(paths: Sequence[str]) -> Examples:
    """Read JSONL files, one after the other.

    Raises:
        InputError: a file cannot be read, or holds no line at all.
    """
    found = Examples()
    for path in paths:
        before = len(found.records) + len(found.bad)
        for number, line in _lines(path):
            where = f"{path}:{number}"
            try:
                found.records.append(_record(line, where))
            except _Unusable as error:
                found.bad.append(BadLine(where, str(error)))
        if len(found.records) + len(found.bad) == before:
            raise InputError(f"{path} holds no examples", "one JSON object per line")
    return found


def refuse(bad: Sequence[BadLine]) -> InputError:
    """The one line for all lines that cannot be used; the first ones are named, with the reason of the first."""
    first = bad[0]
    others = [line.where.rpartition(":")[2] for line in bad[1:SHOWN]]
    more = f"; so are {len(bad) - 1} others" if len(bad) > 1 else ""
    named = f" (line {', '.join(others)}{' ...' if len(bad) > SHOWN else ''})" if others else ""
    return InputError(f"{first.where} cannot be used: {first.reason}{more}{named}", "mend it, or set bad_lines=skip")


class _Unusable(Exception):
    """Why a line cannot be used."""


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank."""
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "data names JSONL files") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path} cannot be read: {reason}", "data names JSONL files") from None


def _record(line: bytes, where: str) -> Record:
    try:
        data = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _Unusable(f"it is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise _Unusable(f"it is no JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise _Unusable(f"it is no JSON: {type(error).__name__}") from None
    if not isinstance(data, dict):
        raise _Unusable(f"it is {_kind(data)}, not an object")
    if data.get("kind") == "trajectory" or "steps" in data:
        return _trajectory(data, where)
    if "messages" in data:
        return Record(where, messages=_conversation(data["messages"]))
    if "prompt" in data and "completion" in data:
        pair = [{"role": "user", "content": data["prompt"]}, {"role": "assistant", "content": data["completion"]}]
        return Record(where, messages=_conversation(pair))
    raise _Unusable("it has neither steps, nor messages, nor prompt and completion")


def _trajectory(data: Mapping[str, Any], where: str) -> Record:
    version = data.get("version")
    if version != VERSION or isinstance(version, bool):
        raise _Unusable(f"its version is {_short(version)}, not {VERSION}")
    seat = data.get("seat", 0)
    if not isinstance(seat, int) or isinstance(seat, bool) or seat < 0:
        raise _Unusable(f"seat is {_short(seat)}, not a number of a seat")
    steps = data.get("steps")
    if not isinstance(steps, list):
        raise _Unusable(f"steps is {_kind(steps)}, not a list")
    return Record(where, _text(data, "task"), seat, tuple(_turn(step, n) for n, step in enumerate(steps, 1)))


def _turn(step: object, number: int) -> ExpertTurn:
    try:
        if not isinstance(step, dict):
            raise _Unusable(f"it is {_kind(step)}, not an object")
        messages = _messages(step.get("messages"))
        if not messages or messages[-1].role == "assistant":
            raise _Unusable("its messages do not end with one to answer")
        move, legal = _text(step, "move"), step.get("legal")
        if legal is None:
            return ExpertTurn(messages, None, move, _text(step, "reasoning", optional=True))
        if not isinstance(legal, list) or not all(isinstance(text, str) for text in legal):
            raise _Unusable(f"legal is {_kind(legal)}, not a list of texts")
        actions = tuple(_clean(text, "legal") for text in legal)
        if move not in actions:
            raise _Unusable(f"the move {_short(move)} is not among its legal ones")
        return ExpertTurn(messages, actions, move, _text(step, "reasoning", optional=True))
    except _Unusable as error:
        raise _Unusable(f"step {number}: {error}") from None


def _conversation(data: object) -> tuple[Message, ...]:
    """The messages up to the last answer: what stands behind it teaches nothing."""
    messages = _messages(data)
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
    if last < 0:
        raise _Unusable("no message is the assistant's")
    if not any(message.role == "user" for message in messages[:last]):
        raise _Unusable("the assistant answers nobody")
    if not messages[last].content.strip():
        raise _Unusable("the assistant's last message is empty")
    return messages[: last + 1]


def _messages(data: object) -> tuple[Message, ...]:
    if not isinstance(data, list):
        raise _Unusable(f"messages is {_kind(data)}, not a list")
    found = []
    for number, message in enumerate(data, 1):
        if not isinstance(message, dict):
            raise _Unusable(f"message {number} is {_kind(message)}, not an object")
        role = message.get("role")
        if role not in ROLES:
            raise _Unusable(f"message {number} has the role {_short(role)}, not {', '.join(ROLES[:-1])} or {ROLES[-1]}")
        found.append(Message(role, _text(message, "content")))
    return tuple(found)


def _text(data: Mapping[str, Any], key: str, *, optional: bool = False) -> str:
    value = data.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise _Unusable(f"{key} is {_kind(value)}, not text" if key in data else f"{key} is missing")
    return _clean(value, key)


def _clean(text: str, key: str) -> str:
    """JSON can smuggle in half of a character, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unusable(f"{key} holds half of a character") from None
    return text


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, dict | list) else _kind(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
