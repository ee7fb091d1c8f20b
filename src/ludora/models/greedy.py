"""The likeliest answers to many prompts under many adapters at once, token by token, all rows in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ludora.models.adapters import Adapter
from ludora.models.attention import STEP, Grid
from ludora.models.policy import PIECE, Policy
from ludora.models.rows import Row, Tokens, fill, parts, segments
from ludora.types import Stop

CACHE_BYTES = 2 << 30  # of keys and values held at a time
ROWS = 256  # answers written side by side at most
Over = Callable[[int, list[int]], bool]


class Greedy:
    """Writes answers without drawing anything: a prompt has one answer under one adapter.

    Args:
        stop_ids: any of them ends an answer, and is not part of it.
        rows: answers written side by side at most; fewer where their keys and values would take too much memory.
    """

    def __init__(self, policy: Policy, stop_ids: Sequence[int], rows: int = ROWS) -> None:
        self.policy, self.stop_ids, self.rows = policy, frozenset(stop_ids), rows

    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[Tokens],
        adapters: Sequence[Adapter | None],
        max_new_tokens: int,
        over: Over = lambda number, said: False,
    ) -> list[tuple[Tokens, Stop]]:
        """One answer per row of (prompt, adapter), and why it ended.

        Args:
            prompts: tokens, per row.
            adapters: per row, or None for the base.
            max_new_tokens: of one answer.
            over: asked after every token, with the row's number and what was said so far, whether that is enough.

        Raises:
            InputError: a conversation grows longer than the model's context.
        """
        said: list[list[int]] = [[] for _ in prompts]
        stops = [Stop.LENGTH] * len(prompts)
        for wave in self._waves(prompts, adapters, max_new_tokens):
            kind = _InGrid if self.policy.engine.can_extend else _Anew
            rows = kind(self.policy, [prompts[i] for i in wave], [adapters[i] for i in wave])
            live = list(range(len(wave)))  # places within the wave
            tokens = rows.first()
            for number in range(max_new_tokens):
                going: dict[int, int] = {}
                for place, token in zip(live, tokens, strict=True):
                    i = wave[place]
                    if token in self.stop_ids:
                        stops[i] = Stop.END
                        continue
                    said[i].append(token)
                    if over(i, said[i]):
                        stops[i] = Stop.END
                    else:
                        going[place] = token
                if not going or number + 1 == max_new_tokens:
                    break
                live, tokens = list(going), rows.more(going)
        return [(tuple(answer), stop) for answer, stop in zip(said, stops, strict=True)]

    def _waves(
        self, prompts: Sequence[Tokens], adapters: Sequence[Adapter | None], max_new_tokens: int
    ) -> Iterator[list[int]]:
        """Rows of about the same length, as many as their caches have room for, each wave sorted by adapter."""
        rank = {id(a): n for n, a in enumerate(dict.fromkeys(adapters))}
        waiting = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        while waiting:
            columns = len(prompts[waiting[0]]) + max_new_tokens + STEP
            room = CACHE_BYTES // (columns * self._bytes_per_token())
            size = max(1, min(self.rows, room))
            wave, waiting = waiting[:size], waiting[size:]
            yield sorted(wave, key=lambda i: rank[id(adapters[i])])

    def _bytes_per_token(self) -> int:
        """Of keys and values in all layers; every head counted as one of keys, which is the most that there can be."""
        base = self.policy.engine.base
        return 2 * base.layers * base.hidden * base.dtype.itemsize


class _InGrid:
    """Rows with their keys and values kept. Rows that ended go on unseen until a quarter has: copying costs, too."""

    def __init__(self, policy: Policy, prompts: Sequence[Tokens], adapters: Sequence[Adapter | None]) -> None:
        self.policy, self.prompts, self.adapters = policy, prompts, list(adapters)
        self.grid = Grid(len(prompts), policy.engine.base.device)
        self.places = list(range(len(prompts)))  # per row of the grid

    def first(self) -> list[int]:
        """The first token of every answer, in order."""
        found: list[int] = []
        start = 0
        engine, budget = self.policy.engine, self.policy.engine.chunk_tokens
        width = max(map(len, self.prompts))
        for members in parts(list(range(len(self.prompts))), [None] * len(self.prompts), width, budget):
            part = slice(start, start := start + len(members))
            rows = [self.prompts[i] for i in members]
            ids, _ = fill(rows, [0] * len(rows), max(map(len, rows)))
            states = engine.advance(self.grid, part, ids, segments([self.adapters[i] for i in members]))
            lengths = torch.tensor([len(row) for row in rows]).to(states.device)
            self.grid.lengths[part] = lengths
            found += likeliest(self.policy, states[torch.arange(len(rows), device=states.device), lengths - 1])
        return found

    def more(self, going: dict[int, int]) -> list[int]:
        """The next token of the answers that go on, given their last one by place; the others have ended."""
        rows = [row for row, place in enumerate(self.places) if place in going]
        if len(rows) <= 0.75 * len(self.places):
            self.grid.keep(torch.tensor(rows).to(self.grid.lengths.device))
            self.adapters = [self.adapters[row] for row in rows]
            self.places = [self.places[row] for row in rows]
            rows = list(range(len(rows)))
        ids = torch.zeros(len(self.places), 1, dtype=torch.long)
        ids[rows, 0] = torch.tensor([going[self.places[row]] for row in rows])
        live = torch.tensor([place in going for place in self.places]).to(self.grid.lengths.device)
        self.grid.lengths *= live  # one that ended must not outgrow the model's context
        states = self.policy.engine.advance(self.grid, slice(0, len(self.places)), ids, segments(self.adapters))
        self.grid.lengths += live
        return likeliest(self.policy, states[rows, 0])


class _Anew:
    """Rows of a family whose attention keeps no history: every token reads its whole row again."""

    def __init__(self, policy: Policy, prompts: Sequence[Tokens], adapters: Sequence[Adapter | None]) -> None:
        self.policy, self.rows, self.adapters = policy, list(prompts), adapters

    def first(self) -> list[int]:
        return self._read(range(len(self.rows)))

    def more(self, going: dict[int, int]) -> list[int]:
        for place, token in going.items():
            self.rows[place] += (token,)
        return self._read(list(going))

    def _read(self, places: Sequence[int]) -> list[int]:
        rows = [Row(self.rows[place]) for place in places]
        reads = [(len(row.tokens) - 1,) for row in rows]
        return likeliest(self.policy, self.policy.engine.encode(rows, reads, [self.adapters[p] for p in places]))


def likeliest(policy: Policy, hidden: Tensor) -> list[int]:
    """The token with the largest logit after each state [R, H]; the first of equals."""
    step = max(1, PIECE // int(policy.engine.base.model.config.vocab_size))
    return [int(t) for piece in torch.split(hidden, step) for t in policy.logits(piece).argmax(-1).tolist()]
