"""Rows that write answers in step: one pass through the model per token serves all of them.

Whoever writes picks the tokens (`generate` draws them, `greedy` takes the likeliest); here the rows move on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ludora.models.adapters import Adapter
from ludora.models.attention import STEP, Grid, History
from ludora.models.machine import free_memory
from ludora.models.policy import Policy
from ludora.models.rows import Row, Tokens, fill, padded, parts, segments

CACHE_BYTES = 2 << 30  # of keys and values held at a time on a CPU
CACHE_SHARE = 0.4  # the same on a GPU, of its free memory; conversations may keep as much again
ROWS = 256  # answers written side by side at most
Take = Callable[[int, list[int], Tensor], Mapping[int, int]]


def waves(
    policy: Policy, lengths: Sequence[int], adapters: Sequence[Adapter | None], max_new_tokens: int, most: int
) -> Iterator[list[int]]:
    """Rows of about the same length, `most` or as many as their caches have room for, each wave sorted by adapter."""
    engine = policy.engine
    rank = {id(a): n for n, a in enumerate(dict.fromkeys(adapters))}
    waiting = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while waiting:
        row = (lengths[waiting[0]] + max_new_tokens + STEP) * engine.token_bytes
        size = max(1, min(most, _room(engine.base.device) // row))
        wave, waiting = waiting[:size], waiting[size:]
        yield sorted(wave, key=lambda i: rank[id(adapters[i])])


def _room(device: torch.device) -> int:
    """Bytes that the keys and values of a wave may take, now."""
    return int(CACHE_SHARE * free_memory(device)) if device.type == "cuda" else CACHE_BYTES


def write(
    policy: Policy,
    rows: Sequence[Tokens],
    adapters: Sequence[Adapter | None],
    max_new_tokens: int,
    take: Take,
    histories: Sequence[History] | None = None,
) -> None:
    """Write the answers of some rows, at most so many tokens each, in one batch.

    Args:
        rows: all tokens before the answer.
        adapters: per row, or None for the base; rows of one adapter side by side.
        take: gets the number of the token, the rows that go on, in order, and their states [rows, H]; returns the next
            token of each of those that go on further.
        histories: what is known of the rows already; they grow by what is read and written here.

    Raises:
        InputError: a row grows longer than the model's context.
    """
    desk = _InGrid(policy, rows, adapters, histories) if policy.engine.can_extend else _Anew(policy, rows, adapters)
    live, states = list(range(len(rows))), desk.first()
    for number in range(max_new_tokens):
        going = take(number, live, states)
        if not going or number + 1 == max_new_tokens:
            break
        live, states = list(going), desk.more(going)
    desk.close()


class _InGrid:
    """Rows with their keys and values kept side by side, filled up to a multiple of `BLOCK` rows.

    Those that ended go on unseen until a quarter has: copying costs, too.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Tokens],
        adapters: Sequence[Adapter | None],
        histories: Sequence[History] | None,
    ) -> None:
        filling = padded(len(prompts)) - len(prompts)
        self.policy, self.prompts, self.histories = policy, prompts, histories
        self.adapters = [*adapters, *[adapters[-1]] * filling]
        self.places = list(range(len(self.adapters)))  # per row of the grid; beyond the given ones: filling
        self.live = set(range(len(prompts)))
        self.grid = Grid(len(self.places), policy.engine.base.device)

    def first(self) -> Tensor:
        """The states [rows, H] that the first tokens follow from."""
        if self.histories is None:
            return self._read_prompts()
        fresh = [prompt[past.length :] for prompt, past in zip(self.prompts, self.histories, strict=True)]
        states = self.policy.engine.extend(self.histories, fresh, self.adapters[: len(fresh)])
        self.grid.load(self.histories)
        return states

    def _read_prompts(self) -> Tensor:
        found: list[Tensor] = []
        start = 0
        engine, width = self.policy.engine, max(map(len, self.prompts))
        for members in parts(list(range(len(self.prompts))), [None] * len(self.prompts), width, engine.chunk_tokens):
            part = slice(start, start := start + len(members))
            rows = [self.prompts[i] for i in members]
            ids, _ = fill(rows, [0] * len(rows), max(map(len, rows)))
            states = engine.advance(self.grid, part, ids, segments([self.adapters[i] for i in members]))
            lengths = torch.tensor([len(row) for row in rows]).to(states.device)
            self.grid.lengths[part] = lengths
            found.append(states[torch.arange(len(rows), device=states.device), lengths - 1])
        return torch.cat(found)

    def more(self, going: Mapping[int, int]) -> Tensor:
        """The states [rows, H] after the next token of every row that goes on; the others have ended."""
        self._end(self.live - going.keys())
        device = self.grid.lengths.device
        rows = [row for row, place in enumerate(self.places) if place in going]
        if padded(len(rows)) <= 0.75 * len(self.places):
            ended = [row for row, place in enumerate(self.places) if place not in going]
            kept = sorted(rows + ended[: padded(len(rows)) - len(rows)])
            self.grid.keep(torch.tensor(kept).to(device))
            self.adapters = [self.adapters[row] for row in kept]
            self.places = [self.places[row] for row in kept]
            rows = [row for row, place in enumerate(self.places) if place in going]
        ids = torch.zeros(len(self.places), 1, dtype=torch.long)
        ids[rows, 0] = torch.tensor(list(going.values()))
        live = torch.tensor([place in going for place in self.places]).to(device)
        self.grid.lengths *= live  # one that ended must not outgrow the model's context
        states = self.policy.engine.advance(self.grid, slice(0, len(self.places)), ids, segments(self.adapters))
        self.grid.lengths += live
        return states[rows, 0]

    def close(self) -> None:
        self._end(self.live)

    def _end(self, ended: set[int]) -> None:
        """Give rows that ended what was added to their histories."""
        if self.histories is not None:
            for row, place in enumerate(self.places):
                if place in ended:
                    self.grid.give(row, self.histories[place])
        self.live -= ended


class _Anew:
    """Rows of a family whose attention keeps no history: every token reads its whole row again."""

    def __init__(self, policy: Policy, prompts: Sequence[Tokens], adapters: Sequence[Adapter | None]) -> None:
        self.policy, self.rows, self.adapters = policy, list(prompts), adapters

    def first(self) -> Tensor:
        return self._read(range(len(self.rows)))

    def more(self, going: Mapping[int, int]) -> Tensor:
        for place, token in going.items():
            self.rows[place] += (token,)
        return self._read(list(going))

    def close(self) -> None:
        """There is nothing to give back."""

    def _read(self, places: Sequence[int]) -> Tensor:
        rows = [Row(self.rows[place]) for place in places]
        reads = [(len(row.tokens) - 1,) for row in rows]
        return self.policy.engine.encode(rows, reads, [self.adapters[place] for place in places])
