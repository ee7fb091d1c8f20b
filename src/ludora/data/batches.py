"""What is learnt, as tokens: in which order, in how many parts, and beside what its frozen part is computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from ludora.models.engine import Engine
from ludora.models.policy import Policy, Query, Text
from ludora.models.rows import Row, Tokens
from ludora.rng import generator


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the legal actions is to be chosen, exactly as a player chooses: the loss is -log of its probability."""

    query: Query
    index: int


Item = Choice | Text


def units(item: Item) -> int:
    """How many losses an item has: one per choice, one per learnt token."""
    return 1 if isinstance(item, Choice) else len(item.targets)


def width(item: Item) -> int:
    """Tokens that an item alone adds to a pass; a shared prefix is not its own."""
    if isinstance(item, Choice):
        return len(item.query.prompt) - item.query.prefix
    return len(item.row.tokens) - item.row.prefix


def digest(items: Sequence[Item]) -> str:
    """A hash of all that is learnt, in order: other examples give another one."""
    hashed = sha256()
    for item in items:
        if isinstance(item, Choice):
            plain: tuple[object, ...] = (item.query.prompt, item.query.prefix, item.query.choices, item.index)
        else:
            plain = (item.row.tokens, item.row.prefix, item.row.tree, item.reads, item.targets)
        hashed.update(json.dumps(plain).encode())
    return hashed.hexdigest()


def single(prompt: Tokens, prefix: int, answer: Tokens, end: int) -> Text:
    """One answer to one prompt, whose first `prefix` tokens are shared: a row with a loss on the answer alone."""
    return several([(prompt, answer)], prefix, end)


def several(rounds: Sequence[tuple[Tokens, Tokens]], prefix: int, end: int) -> Text:
    """Rounds of (what is heard, what is answered) in one row. The last token that is heard says the first of the
    answer, and the answer's last token says the end; the end itself is never read.
    """
    tokens: list[int] = []
    reads: list[int] = []
    targets: list[int] = []
    for heard, answer in rounds:
        tokens += heard
        for target in (*answer, end):
            reads.append(len(tokens) - 1)
            targets.append(target)
            tokens.append(target)
        tokens.pop()
    return Text(Row(tuple(tokens), prefix), tuple(reads), tuple(targets))


class Order:
    """The batches of all steps: every epoch in a random order of its own, cut into equal parts of about `batch`.

    A step's batch is a function of (seed, step) alone, so a checkpoint need not say which examples are left.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.per_epoch = max(1, round(count / batch))
        self._epoch, self._shuffled = -1, list[int]()

    def at(self, step: int) -> list[int]:
        """Indices of the examples of a step, from 0."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, list(range(self.count))
            generator("epoch", self.seed, epoch).shuffle(self._shuffled)
        start, stop = (self.count * i // self.per_epoch for i in (place, place + 1))
        return self._shuffled[start:stop]


def parts(items: Sequence[Item], least: int, budget: int) -> Iterator[list[Item]]:
    """The items in consecutive parts of `budget` tokens at most (but at least an item), so narrow that they are about
    `least` parts or more.
    """
    limit = min(budget, -(-sum(map(width, items)) // least))
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + width(item) > limit:
            yield part
            part, size = [], 0
        part.append(item)
        size += width(item)
    if part:
        yield part


class Homes:
    """Which examples' frozen part (the trunk below the lowest adapted layer) is computed together and then kept.

    A row's bits may depend on the rows beside it, and a resumed run starts with an empty cache. So every row has a
    home, the batch of the first epoch where it comes first, and is only ever computed with the others of its home. Rows
    beyond what the cache holds have none: they are computed anew in every batch.
    """

    def __init__(self, engine: Engine, policy: Policy, batches: Sequence[Sequence[Item]]) -> None:
        self._engine, self._policy = engine, policy
        self._home: dict[Row, int] = {}
        self._groups: list[list[Row]] = []
        engine.caches = not engine.has_trunk  # from here on only what has a home is kept
        if not engine.has_trunk:
            return
        for batch in batches:
            new = [row for row in dict.fromkeys(self._rows(batch)) if row not in self._home]
            self._home |= dict.fromkeys(new, len(self._groups))
            self._groups.append(new)
        room = engine.room_for(list(self._home))
        for row in list(self._home)[room:]:
            self._groups[self._home.pop(row)].remove(row)

    def __len__(self) -> int:
        return len(self._home)

    def prepare(self, items: Sequence[Item]) -> None:
        """Have the trunk of these examples ready."""
        for home in sorted({self._home[row] for row in self._rows(items) if row in self._home}):
            self._engine.keep(self._groups[home])

    def leave(self) -> None:
        """Forget everything; from here on the engine keeps what it computes, as it does for a player."""
        self._policy.forget()
        self._engine.caches = True

    def _rows(self, items: Sequence[Item]) -> list[Row]:
        return [self._policy.row(item.query) if isinstance(item, Choice) else item.row for item in items]
