"""Sampling free text, with the keys and values of a conversation kept across its turns.

Turn t costs its own new tokens, not the whole history again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ludora.errors import TrainingFailed
from ludora.models.adapters import Adapter
from ludora.models.attention import History
from ludora.models.policy import Policy
from ludora.models.rows import Row
from ludora.models.trie import Tokens
from ludora.rng import uniform
from ludora.types import Move, Stop


@dataclass(slots=True)
class Talk:
    """A conversation: all its tokens, of which the first `history.length` are encoded.

    The token that ended an answer is left out: the chat's own layout brings it along with what follows.
    """

    tokens: Tokens
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

    @torch.no_grad()
    def sample(
        self, talks: Sequence[Talk], adapter: Adapter | None, seeds: Sequence[int], max_new_tokens: int
    ) -> list[Move]:
        """One answer per conversation, appended to it. Token i of an answer is drawn by (its seed, i) alone.

        Raises:
            InputError: a conversation grows longer than the model's context.
            TrainingFailed: the model's probabilities are not finite.
        """
        prompts = [talk.tokens for talk in talks]
        said: list[list[int]] = [[] for _ in talks]
        scores: list[list[float]] = [[] for _ in talks]
        stops = [Stop.LENGTH] * len(talks)
        live = list(range(len(talks)))
        for step in range(max_new_tokens):
            log_probs = self._next([talks[i] for i in live], adapter)
            still = []
            for i, row in zip(live, log_probs, strict=True):
                token = self._draw(row, uniform(seeds[i], step))
                said[i].append(token)
                scores[i].append(float(row[token]))
                if token in self.stop_ids:
                    stops[i] = Stop.END
                else:
                    talks[i].tokens += (token,)
                    still.append(i)
            live = still
            if not live:
                break
        return [Move("", tuple(said[i]), tuple(scores[i]), stops[i], prompt=prompts[i]) for i in range(len(talks))]

    def _next(self, talks: Sequence[Talk], adapter: Adapter | None) -> Tensor:
        """log-probabilities [B, vocabulary] of the next token, on the CPU."""
        engine = self.policy.engine
        adapters = [adapter] * len(talks)
        if engine.can_extend:
            fresh = [talk.tokens[talk.history.length :] for talk in talks]
            hidden = engine.extend([talk.history for talk in talks], fresh, adapters)
        else:
            rows = [Row(talk.tokens) for talk in talks]
            hidden = engine.encode(rows, [(len(row.tokens) - 1,) for row in rows], adapters)
        return self.policy.logits(hidden).log_softmax(-1).cpu()

    def _draw(self, log_probs: Tensor, u: float) -> int:
        """The token at quantile u of the distribution, or of its nucleus: the likeliest that hold top_p of it."""
        p, index = log_probs.double().exp(), None
        if self.top_p < 1:
            p, index = p.sort(descending=True, stable=True)
            p = p[: int((p.cumsum(0) < self.top_p).sum()) + 1]
        edges = p.cumsum(0)
        if not torch.isfinite(edges[-1]):
            raise TrainingFailed("the model's probabilities are not finite", "use another adapter, or dtype=fp32")
        token = min(int(torch.searchsorted(edges, u * float(edges[-1]), right=True)), len(p) - 1)
        return token if index is None else int(index[token])
