"""Sampling free text, with the keys and values of a conversation kept across its turns.

Turn t costs its own new tokens, not the whole history again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ludora.models.adapters import Adapter
from ludora.models.attention import History
from ludora.models.cache import ByteLRU
from ludora.models.draw import draw
from ludora.models.policy import Policy
from ludora.models.trie import Tokens
from ludora.models.writing import ROWS, waves, write
from ludora.rng import uniform
from ludora.types import Move, Stop

PREFIX_BYTES = 256 << 20  # of keys and values of rules kept per sampler


@dataclass(slots=True)
class Talk:
    """A conversation: all its tokens, of which the first `history.length` are encoded.

    The token that ended an answer is left out: the chat's own layout brings it along with what follows. Its first
    `prefix` tokens are the rules, which conversations have in common.
    """

    tokens: Tokens
    prefix: int = 0
    history: History = field(default_factory=History)

    def hear(self, tokens: Tokens) -> None:
        """Append what the other side said."""
        self.tokens += tokens

    def forget(self) -> None:
        """Drop the cache, not the conversation: the next answer reads all of it again."""
        self.history = History()


class Sampler:
    """Samples answers for many conversations at once.

    Args:
        stop_ids: any of them ends an answer.
        top_p: nucleus to sample from. Recorded log-probabilities are those of the full distribution (at the policy's
            temperature), in training too, so the ratio compares like with like.
    """

    def __init__(self, policy: Policy, stop_ids: Sequence[int], top_p: float = 1.0) -> None:
        self.policy, self.stop_ids, self.top_p = policy, frozenset(stop_ids), top_p
        self._prefixes = ByteLRU(PREFIX_BYTES)

    @torch.no_grad()
    def sample(
        self, talks: Sequence[Talk], adapter: Adapter | None, seeds: Sequence[int], max_new_tokens: int
    ) -> list[Move]:
        """One answer per conversation, appended to it. Token i of an answer is drawn by (its seed, i) alone.

        Raises:
            InputError: a conversation grows longer than the model's context.
            TrainingFailed: the model's probabilities are not finite.
        """
        self._share_prefixes(talks, adapter)
        prompts = [talk.tokens for talk in talks]
        said: list[list[int]] = [[] for _ in talks]
        scores: list[list[float]] = [[] for _ in talks]
        stops = [Stop.LENGTH] * len(talks)
        adapters = [adapter] * len(talks)
        for wave in waves(self.policy, [len(prompt) for prompt in prompts], adapters, max_new_tokens, ROWS):

            def take(number: int, live: list[int], states: Tensor, wave: list[int] = wave) -> dict[int, int]:
                going: dict[int, int] = {}
                quantiles = [uniform(seeds[wave[place]], number) for place in live]
                drawn = self._draw(self.policy.logits(states), quantiles)
                for place, token, log_prob in zip(live, *drawn, strict=True):
                    i = wave[place]
                    said[i].append(token)
                    scores[i].append(log_prob)
                    if token in self.stop_ids:
                        stops[i] = Stop.END
                    else:
                        talks[i].tokens += (token,)
                        going[place] = token
                return going

            rows, histories = [prompts[i] for i in wave], [talks[i].history for i in wave]
            write(self.policy, rows, [adapter] * len(wave), max_new_tokens, take, histories)
        return [Move("", tuple(said[i]), tuple(scores[i]), stops[i], prompt=prompts[i]) for i in range(len(talks))]

    def _share_prefixes(self, talks: Sequence[Talk], adapter: Adapter | None) -> None:
        """Conversations that begin with the same rules begin with the same keys and values, computed once."""
        if not self.policy.engine.can_extend:
            return
        who = (-1, 0) if adapter is None else (adapter.serial, adapter.version)
        for talk in talks:
            if talk.history.length or not 0 < talk.prefix < len(talk.tokens):
                continue
            tokens = talk.tokens[: talk.prefix]
            known: History | None = self._prefixes.get((who, tokens))
            if known is None:
                self.policy.engine.extend([known := History()], [tokens], [adapter])
                self._prefixes.put((who, tokens), known, known.bytes)
            talk.history = known.copy()

    def _draw(self, logits: Tensor, quantiles: Sequence[float]) -> tuple[list[int], list[float]]:
        """Tokens of logits [R, V], and their log-probabilities."""
        return draw(logits, quantiles, self.top_p)
