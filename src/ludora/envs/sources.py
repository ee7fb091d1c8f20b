"""What training draws its games from: a TASK, or `ids(FIRST, LAST)`, any of a range of task ids.

`ids(0, 799999999)` is every variant of the first eight numbered games, each id as likely as any other;
`ids(2300000000, 2999999999, wrap=true)` goes past the catalogue and counts on from the first game.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from ludora.envs.build import task_spec
from ludora.envs.catalogue import BLOCK, CATALOGUE, decode
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.types import Spec

MOST_BLOCKS = 1000  # games of a range; far more than anybody lists, and a wrong id stays a small mistake


@dataclass(frozen=True, slots=True)
class Source:
    """One game to draw from: `spec`, or one of the task ids from `first` to `last`.

    `game` is what its results, advantages and baselines are kept apart by: the TASK, or the name of a numbered game.
    """

    game: str
    spec: Spec | None = None
    first: int = 0
    last: int = 0

    def draw(self, random: Random) -> Spec:
        """The game to play, in its canonical form."""
        return self.spec or _numbered(random.randint(self.first, self.last))

    @property
    def example(self) -> Spec:
        """A game of this source."""
        return self.spec or _numbered(self.first)


def sources(text: str) -> tuple[tuple[Source, float], ...]:
    """The games a TASK or a range of ids stands for, each with its share of the draws; the shares sum to 1.

    Raises:
        InputError: as `task_spec`; or the range is empty, runs past the catalogue, or has other options than `wrap`.
    """
    spec = parse(text)
    if spec.name != "ids":
        found = task_spec(text)
        return ((Source(str(found), found), 1.0),)
    first, last, wrap = _range(spec)
    blocks = range(first // BLOCK, last // BLOCK + 1)
    if len(blocks) > MOST_BLOCKS:
        raise InputError(f"{text} spans {len(blocks)} games", f"a range spans {MOST_BLOCKS} at most")
    games = []
    for block in blocks:
        decode(block * BLOCK, wrap=wrap)  # past the catalogue, refused
        low, high = max(first, block * BLOCK), min(last, (block + 1) * BLOCK - 1)
        name = CATALOGUE[block % len(CATALOGUE)].name
        games.append((Source(name, None, low, high), (high - low + 1) / (last - first + 1)))
    return tuple(games)


def _range(spec: Spec) -> tuple[int, int, bool]:
    """First id, last id, and whether ids past the catalogue count on from the first game."""
    wrap: Any = spec.get("wrap", False)
    whole = [a for a in spec.args if type(a) is int and a >= 0]
    if spec.variant or len(spec.args) != 2 or len(whole) != 2 or dict(spec.params).keys() - {"wrap"}:
        raise InputError(f"{spec} does not name a first and a last task id", "for example ids(0, 799999999)")
    if type(wrap) is not bool:
        raise InputError(f"{spec}: wrap must be true or false", "for example ids(2200000000, 2999999999, wrap=true)")
    first, last = whole
    if first > last:
        raise InputError(f"{spec} holds no task id: {first} is above {last}", f"write ids({last}, {first})")
    return first, last, wrap


def _numbered(task_id: int) -> Spec:
    return _canonical(decode(task_id, wrap=True))  # what may not wrap was refused when the range was read


@lru_cache(maxsize=1024)
def _canonical(spec: Spec) -> Spec:
    return task_spec(str(spec))
