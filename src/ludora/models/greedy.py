"""The likeliest answers to many prompts under many adapters at once, token by token, all rows in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ludora.models.adapters import Adapter
from ludora.models.policy import PIECE, Policy
from ludora.models.rows import Tokens
from ludora.models.writing import ROWS, waves, write
from ludora.types import Stop

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
        progress: Callable[[], None] = lambda: None,
    ) -> list[tuple[Tokens, Stop]]:
        """One answer per row of (prompt, adapter), and why it ended.

        Args:
            prompts: tokens, per row.
            adapters: per row, or None for the base.
            max_new_tokens: of one answer.
            over: asked after every token, with the row's number and what was said so far, whether that is enough.
            progress: called after every answer.

        Raises:
            InputError: a conversation grows longer than the model's context.
        """
        said: list[list[int]] = [[] for _ in prompts]
        stops = [Stop.LENGTH] * len(prompts)
        for wave in waves(self.policy, [len(p) for p in prompts], adapters, max_new_tokens, self.rows):

            def take(number: int, live: list[int], states: Tensor, wave: list[int] = wave) -> dict[int, int]:
                going: dict[int, int] = {}
                for place, token in zip(live, likeliest(self.policy, states), strict=True):
                    i = wave[place]
                    if token in self.stop_ids:
                        stops[i] = Stop.END
                        progress()
                        continue
                    said[i].append(token)
                    if over(i, said[i]):
                        stops[i] = Stop.END
                        progress()
                    else:
                        going[place] = token
                return going

            write(self.policy, [prompts[i] for i in wave], [adapters[i] for i in wave], max_new_tokens, take)
            for i in wave:
                if stops[i] is Stop.LENGTH:
                    progress()
        return [(tuple(answer), stop) for answer, stop in zip(said, stops, strict=True)]


def likeliest(policy: Policy, hidden: Tensor) -> list[int]:
    """The token with the largest logit after each state [R, H]; the first of equals."""
    step = max(1, PIECE // int(policy.engine.base.model.config.vocab_size))
    return [int(t) for piece in torch.split(hidden, step) for t in policy.logits(piece).argmax(-1).tolist()]
