"""The TASK and PLAYER grammar: `name`, `name:variant`, `name(value, key=value)`. Parsed here and only here.

    spec   = name [":" word] ["(" [item {"," item}] ")"]
    item   = value | key "=" value
    value  = spec with parentheses | text in double quotes (JSON) | bare text

Bare text that reads as a number, true or false becomes that Python value; what holds a comma, a parenthesis or a
quote must be quoted. `str(parse(text))` is the canonical form and parses back to an equal spec.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ludora.errors import InputError
from ludora.types import Spec

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_NESTED = re.compile(rf"{_NAME.pattern}(:{_NAME.pattern})?\(")
_INT = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+|\.\d+[eE][+-]?\d+)")
_DEPTH = 20  # specs within specs; far more than any game has, far less than the stack
_DIGITS = 1000  # of a whole number; Python refuses to read much longer ones


def parse(text: str) -> Spec:
    """Parse a TASK or PLAYER string.

    Raises:
        InputError: the text does not follow the grammar.
    """
    spec, rest = _spec(text.strip(), text, 0)
    if rest:
        raise _unreadable(text, f"unexpected {rest!r}")
    return spec


def _unreadable(whole: str, why: str) -> InputError:
    hint = "write name, name:variant or name(value, key=value), for example leduc_poker or mcts(simulations=100)"
    return InputError(f"cannot read {_short(whole)}: {why}", hint)


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + " ...")


def _spec(text: str, whole: str, depth: int) -> tuple[Spec, str]:
    match = _NAME.match(text)
    if not match:
        raise _unreadable(whole, f"a name is expected before {_short(text)}")
    name, rest, variant = match[0], text[match.end() :], ""
    if rest.startswith(":"):
        match = _NAME.match(rest[1:])
        if not match:
            raise _unreadable(whole, "a word is expected after ':'")
        variant, rest = match[0], rest[1 + match.end() :]
    if not rest.startswith("("):
        return Spec(name, variant), rest.strip()
    if depth == _DEPTH:
        raise _unreadable(whole, "it is nested too deeply")
    args: list[Any] = []
    params: dict[str, Any] = {}
    rest = rest[1:].lstrip()
    while not rest.startswith(")"):
        key = re.match(r"([A-Za-z_]\w*)\s*=\s*", rest)
        value, rest = _value(rest[key.end() :] if key else rest, whole, depth)
        if key and key[1] in params:
            raise _unreadable(whole, f"{key[1]!r} is given twice")
        if key:
            params[key[1]] = value
        elif params:
            raise _unreadable(whole, "a plain value follows a key=value")
        else:
            args.append(value)
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif not rest.startswith(")"):
            raise _unreadable(whole, f"',' or ')' is expected before {_short(rest)}")
    return Spec(name, variant, tuple(args), tuple(sorted(params.items()))), rest[1:].strip()


def _value(text: str, whole: str, depth: int) -> tuple[Any, str]:
    """One value and what follows it: a nested spec, or text up to the next ',' or ')' of this level."""
    if _NESTED.match(text):
        spec, rest = _spec(text, whole, depth + 1)
        # within a spec, `name()` and `name` are the same: the bare name, as OpenSpiel writes it too
        return (spec if spec.args or spec.params else str(spec)), rest
    if text.startswith('"'):
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(text)
        except ValueError:
            raise _unreadable(whole, f"the quoted text does not end in {_short(text)}") from None
        return value, text[end:].lstrip()
    stop = re.search(r"[,()]", text)
    if not stop:
        raise _unreadable(whole, "')' is missing")
    if stop[0] == "(":
        raise _unreadable(whole, f"text that holds '(' needs double quotes: {_short(text)}")
    word, rest = text[: stop.start()].strip(), text[stop.start() :]
    if not word:
        raise _unreadable(whole, "a value is missing")
    return _plain(word, whole), rest


def _plain(word: str, whole: str) -> str | int | float | bool:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if _INT.fullmatch(word) and len(word) <= _DIGITS:
        return int(word)
    if _FLOAT.fullmatch(word) and math.isfinite(float(word)):
        return float(word)
    if _INT.fullmatch(word) or _FLOAT.fullmatch(word):
        raise _unreadable(whole, f"the number {_short(word)} is too large")
    return word
