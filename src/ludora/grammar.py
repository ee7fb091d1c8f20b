"""The TASK and PLAYER grammar: `name`, `name:variant`, `name(value, key=value)`. Parsed here and only here.

    spec   = name [":" word] ["(" [item {"," item}] ")"]
    item   = value | key "=" value
    value  = spec | quoted string | bare text          (numbers and true/false become Python values)

`str(parse(text))` is the canonical form and parses back to an equal spec.
"""

from __future__ import annotations

import re
from typing import Any

from ludora.errors import InputError
from ludora.types import Spec

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_INT = re.compile(r"[+-]?\d+$")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+|\d+\.\d*[eE][+-]?\d+)$")


def parse(text: str) -> Spec:
    """Parse a TASK or PLAYER string.

    Raises:
        InputError: the text does not follow the grammar.
    """
    spec, rest = _spec(text.strip(), text)
    if rest:
        raise InputError(f"cannot read {text!r}: unexpected {rest!r}", _HINT)
    return spec


_HINT = "write name, name:variant or name(value, key=value), for example leduc_poker or mcts(simulations=100)"


def _spec(text: str, whole: str) -> tuple[Spec, str]:
    match = _NAME.match(text)
    if not match:
        raise InputError(f"cannot read {whole!r}: a name is expected before {text!r}", _HINT)
    name, rest, variant = match[0], text[match.end() :], ""
    if rest.startswith(":"):
        match = _NAME.match(rest[1:])
        if not match:
            raise InputError(f"cannot read {whole!r}: a word is expected after ':'", _HINT)
        variant, rest = match[0], rest[1 + match.end() :]
    if not rest.startswith("("):
        return Spec(name, variant), rest.strip()
    args: list[Any] = []
    params: dict[str, Any] = {}
    rest = rest[1:].lstrip()
    while not rest.startswith(")"):
        key = re.match(r"([A-Za-z_]\w*)\s*=\s*", rest)
        value, rest = _value(rest[key.end() :] if key else rest, whole)
        if key and key[1] in params:
            raise InputError(f"cannot read {whole!r}: {key[1]!r} is given twice", _HINT)
        if key:
            params[key[1]] = value
        elif params:
            raise InputError(f"cannot read {whole!r}: a plain value follows a key=value", _HINT)
        else:
            args.append(value)
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif not rest.startswith(")"):
            raise InputError(f"cannot read {whole!r}: ',' or ')' is expected before {rest!r}", _HINT)
    return Spec(name, variant, tuple(args), tuple(sorted(params.items()))), rest[1:].strip()


def _value(text: str, whole: str) -> tuple[Any, str]:
    """One value and what follows it: a nested spec, or bare text up to the next ',' or ')' of this level."""
    nested = re.match(r"[A-Za-z_]\w*(:\w+)?\(", text)
    if nested:
        return _spec(text, whole)
    end = re.search(r"[,()]", text)
    if not end or end[0] == "(":
        raise InputError(f"cannot read {whole!r}: ')' is missing", _HINT)
    word, rest = text[: end.start()].strip(), text[end.start() :]
    if not word:
        raise InputError(f"cannot read {whole!r}: a value is missing", _HINT)
    if word.lower() in ("true", "false"):
        return word.lower() == "true", rest
    if _INT.match(word):
        return int(word), rest
    if _FLOAT.match(word):
        return float(word), rest
    return word, rest
