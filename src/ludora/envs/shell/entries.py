"""A task for a shell: what is asked, how the machine is set up, what decides, and one way to do it.

Files are those of LifelongAgentBench: a JSON object of entries by key, or its parquet form, whose nested fields are
texts that spell Python values.

    {"0": {"sample_index": 0, "instruction": "...", "skill_list": ["mkdir"],
           "initialization_command_item": {"command_name": "bash", "script": "..."},
           "evaluation_info": {"evaluation_command_item": {...}, "ground_truth_command_item": {...}}}, ...}
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ludora.data.lines import SHOWN, Unreadable, need, need_texts, short
from ludora.errors import InputError, MissingExtra

LANGUAGES = ("bash", "python", "c", "cpp")
_HINT = "an object of entries by key, as LifelongAgentBench has them (.json or .parquet)"
_NESTED = ("initialization_command_item", "evaluation_info", "skill_list")


@dataclass(frozen=True, slots=True)
class Script:
    """A text to run, and in which of `LANGUAGES`."""

    text: str
    language: str = "bash"


@dataclass(frozen=True, slots=True)
class Entry:
    """One task.

    Attributes:
        key: its name in its file, or among the built-in ones.
        instruction: what the agent is asked to do.
        setup: run before; must end with status 0.
        check: run afterwards; status 0 means that the task was done.
        solution: the reference, after which `check` is to succeed.
        skills: commands that it takes, for tables.
        level: 1 to 3 by difficulty; 0 where nobody said.
        template: the built-in template it was made from.
    """

    key: str
    instruction: str
    setup: Script
    check: Script
    solution: Script
    skills: tuple[str, ...]
    level: int = 0
    template: str = ""


def read_entries(path: Path) -> Mapping[str, Entry]:
    """The entries of a file by key, in the file's order. A file that has not changed is read once.

    Raises:
        InputError: there is no such file, it is none of this kind, or entries are malformed (they are named by key).
        MissingExtra: it is parquet, and pyarrow is not installed.
    """
    try:
        stamp = path.stat()
    except (OSError, ValueError):  # ValueError: a path with a NUL
        raise InputError(f"there is no file {path}", _HINT) from None
    return _read(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int, _size: int) -> Mapping[str, Entry]:
    raw = _parquet(path) if path.suffix == ".parquet" else _json(path)
    entries: dict[str, Entry] = {}
    bad: dict[str, str] = {}
    for key, data in raw.items():
        try:
            entries[key] = _entry(key, data)
        except Unreadable as error:
            bad[key] = str(error)
    if bad:
        told = "; ".join(f"entry {short(key)}: {why}" for key, why in list(bad.items())[:SHOWN])
        rest = ", ".join(list(bad)[SHOWN:])
        more = f"; and entries {rest}" if rest else ""
        raise InputError(
            f"{path}: {len(bad)} of {len(raw)} entries cannot be used: {told}{more}", "mend or delete them"
        )
    if not entries:
        raise InputError(f"{path} holds no entries", _HINT)
    return entries


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", _HINT) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {' '.join(str(error).split())}", _HINT) from None
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no object", _HINT)
    return data


def _parquet(path: Path) -> Mapping[str, Any]:
    """The rows by their `sample_index`, nested fields read as the Python values that they spell."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise MissingExtra(f"{path}: reading parquet needs pyarrow", "pip install 'ludora[shell]'") from None
    try:
        rows = read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} is not parquet: {str(error).splitlines()[0]}", _HINT) from None
    found: dict[str, Any] = {}
    for number, row in enumerate(rows):
        key = str(row.get("sample_index", number))
        if key in found:
            raise InputError(f"{path}: two rows have the sample_index {key}", "an index names one entry")
        found[key] = {name: _value(value) if name in _NESTED else value for name, value in row.items()}
    return found


def _value(text: Any) -> Any:
    """The value that a text spells; one that spells none stays, and is then no object of the kind that is needed."""
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _entry(key: str, data: Any) -> Entry:
    if not isinstance(data, dict):
        raise Unreadable("it is not an object")
    need({"its key": key}, "its key", str)  # which is also sent to clients
    info = need(data, "evaluation_info", dict)
    return Entry(
        key,
        need(data, "instruction", str),
        _script(data, "initialization_command_item"),
        _script(info, "evaluation_command_item"),
        _script(info, "ground_truth_command_item"),
        tuple(need_texts(data, "skill_list")),
    )


def _script(data: Mapping[str, Any], key: str) -> Script:
    item = need(data, key, dict)
    try:
        language = need(item, "command_name", str)
        if language not in LANGUAGES:
            raise Unreadable(f"'command_name' is {short(language)}, not one of {', '.join(LANGUAGES)}")
        text = need(item, "script", str)
        if "\0" in text:
            raise Unreadable("'script' holds a NUL")
    except Unreadable as error:
        raise Unreadable(f"{key}: {error}") from None
    return Script(text, language)
