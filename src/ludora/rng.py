"""Random streams that depend on what they are for, never on what else runs.

A stream is a 64-bit integer derived from named parts with BLAKE2, so it is the same on every machine and
Python version; a draw is a function of (stream, position), so nothing has to be stored to replay it.
"""

from __future__ import annotations

import random
from hashlib import blake2b


def stream(*parts: int | str) -> int:
    """A 64-bit stream id for the given parts, e.g. `stream("sample", task.seed, seat, number)`.

    Other parts, another text: a separator within a part is doubled, and every part begins with its type.
    """
    text = "\x1f".join(f"{type(p).__name__}:{p}".replace("\x1f", "\x1f\x1f") for p in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def uniform(seed: int, position: int = 0) -> float:
    """The `position`-th draw in [0, 1) of a stream."""
    return (stream(seed, position) >> 11) / 2.0**53


def generator(*parts: int | str) -> random.Random:
    """A `random.Random` of its own for the given parts."""
    return random.Random(stream(*parts))
