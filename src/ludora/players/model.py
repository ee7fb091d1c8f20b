"""A language model as a player: chooses among legal actions, or says its move.

`choose`  one exact distribution over the legal actions; one uniform number of the turn's own stream picks.
`say`     free text with a budget of tokens, parsed (last match wins), retried, and forfeited if nothing legal was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np
import torch

from ludora.models.adapters import Adapter
from ludora.models.chat import ChatFormat, parse_action
from ludora.models.generate import Sampler, Talk
from ludora.models.policy import Policy, Query
from ludora.rng import uniform
from ludora.types import Message, Move, Stop, Turn

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Acting:
    """How a model acts; the values of `ludora.config.ModelSettings` that concern it."""

    act: str = "choose"
    labels: str = "letters"
    history: bool = False
    reasoning: bool = False
    max_new_tokens: int = 32
    retries: int = 2


class ModelPlayer:
    """One adapter (or the base: None) of a pack, playing.

    The distributions of a `choose` player are kept until its adapter changes, so a state that comes up again within a
    rollout costs nothing.
    """

    def __init__(
        self, name: str, policy: Policy, chat: ChatFormat, adapter: Adapter | None, acting: Acting, sampler: Sampler
    ) -> None:
        self.name = name
        self.policy, self.chat, self.adapter, self.acting, self.sampler = policy, chat, adapter, acting, sampler
        self._known: dict[Query, np.ndarray] = {}
        self._version = -1
        self._talks: dict[tuple[int, int], Talk] = {}

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        """One move per turn. All sampling comes from `Turn.seed`."""
        if self.acting.act == "say" or any(turn.legal is None for turn in turns):
            return self._say(turns)
        queries = [self.query(turn) for turn in turns]
        moves = []
        for turn, query, log_probs in zip(turns, queries, self.log_probs(queries), strict=True):
            index = pick(np.exp(log_probs), uniform(turn.seed))
            moves.append(
                Move(
                    text=cast("tuple[str, ...]", turn.legal)[index],
                    tokens=query.choices[index],
                    logprobs=(float(log_probs[index]),),
                    prompt=query.prompt,
                    choices=query.choices,
                    index=index,
                )
            )
        return moves

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        """The exact distribution over `Turn.legal` for each turn."""
        queries = [self.query(turn) for turn in turns]
        return [np.exp(row).tolist() for row in self.log_probs(queries)]

    def query(self, turn: Turn) -> Query:
        """The prompt and choices this player would face."""
        return _query(self.chat, turn.messages, cast("tuple[str, ...]", turn.legal), self.acting.labels)

    def log_probs(self, queries: Sequence[Query]) -> list[np.ndarray]:
        """fp64 log-probabilities of the legal actions of each query."""
        version = self.adapter.version if self.adapter else 0
        if version != self._version:
            self._known.clear()
            self._version = version
        missing = list({q: None for q in queries if q not in self._known})
        if missing:
            with torch.no_grad():
                table = self.policy.action_log_probs(missing, [self.adapter] * len(missing)).double().cpu().numpy()
            for query, row in zip(missing, table, strict=True):
                self._known[query] = row[: len(query.choices)]
        return [self._known[query] for query in queries]

    def _say(self, turns: Sequence[Turn]) -> list[Move]:
        """Sample, parse, and ask again while nothing legal was said. The last answer counts."""
        version = self.adapter.version if self.adapter else 0
        if version != self._version:  # keys and values of adapted layers die with the weights that made them
            self._talks = {key: talk.cold() for key, talk in self._talks.items()}
            self._version = version
        talks = [self._talk(turn) for turn in turns]
        moves: list[Move | None] = [None] * len(turns)
        waiting = list(range(len(turns)))
        for attempt in range(self.acting.retries + 1):
            seeds = [turns[i].seed + attempt for i in waiting]
            said = self.sampler.sample([talks[i] for i in waiting], self.adapter, seeds, self.acting.max_new_tokens)
            for i, answer in zip(waiting, said, strict=True):
                text = self.chat.tokenizer.decode(answer.tokens, skip_special_tokens=True)
                moves[i] = replace(answer, text=text.strip(), attempts=attempt + 1)
                legal = turns[i].legal
                if legal is not None:
                    found = parse_action(text, legal, labels_of(legal, self.acting.labels))
                    moves[i] = (
                        replace(moves[i], stop=Stop.INVALID)
                        if found is None
                        else replace(moves[i], text=legal[found], index=found)
                    )
            waiting = [i for i in waiting if cast(Move, moves[i]).stop == Stop.INVALID]
            if not waiting:
                break
            if attempt < self.acting.retries:
                for i in waiting:
                    talks[i].hear(self.chat.following((Message("user", _AGAIN),), self._stem))
        return cast("list[Move]", moves)

    @property
    def _stem(self) -> str:
        return "" if self.acting.reasoning else STEM

    def _talk(self, turn: Turn) -> Talk:
        """The conversation this turn continues, or a new one."""
        key = (turn.game, turn.seat)
        talk = self._talks.get(key) if self.acting.history and turn.number > 0 else None
        messages = ask(turn.messages, turn.legal, self.acting.labels, self.acting.reasoning)
        if talk is None:
            talk = Talk(self.chat.opening(messages, self._stem))
        else:
            users = tuple(m for m in messages if m.role != "system")
            talk.hear(self.chat.following(users, self._stem))
        if self.acting.history:
            self._talks[key] = talk
            while len(self._talks) > 4096:  # games that were left; playing ones are at the end
                self._talks.pop(next(iter(self._talks)))
        return talk


STEM = "Move:"
_AGAIN = "That is not one of the options. Answer with one of them."


def labels_of(legal: Sequence[str], labels: str) -> tuple[str, ...]:
    """The labels of the legal actions: letters (up to 26, names beyond), the names themselves, or their numbers."""
    if labels == "letters" and len(legal) <= len(LETTERS):
        return tuple(LETTERS[: len(legal)])
    return tuple(legal) if labels in ("letters", "names") else tuple(str(i) for i in range(len(legal)))


def ask(
    messages: tuple[Message, ...], legal: tuple[str, ...] | None, labels: str, reasoning: bool = False
) -> tuple[Message, ...]:
    """The turn's messages with the options added to the last one."""
    if legal is None:
        return messages
    names = labels_of(legal, labels)
    options = ", ".join(name if name == label else f"{label} {name}" for name, label in zip(legal, names, strict=True))
    text = f"{messages[-1].content}\nOptions: {options}"
    if reasoning:
        text += f"\nThink briefly, then end with '{STEM} ' and your option."
    return (*messages[:-1], Message(messages[-1].role, text))


@lru_cache(maxsize=1 << 16)
def _query(chat: ChatFormat, messages: tuple[Message, ...], legal: tuple[str, ...], labels: str) -> Query:
    """Equal turns give the identical query object, so later look-ups compare by identity first."""
    prompt = chat.opening(ask(messages, legal, labels), STEM)
    return Query(prompt, len(chat.prefix(messages)), chat.label_tokens(labels_of(legal, labels), STEM))


def pick(p: np.ndarray, u: float) -> int:
    """Index drawn from the distribution p by the uniform number u in [0, 1)."""
    edges = np.cumsum(p)
    return int(min(np.searchsorted(edges, u * edges[-1], side="right"), len(p) - 1))
