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
import numpy.typing as npt
import torch

from ludora.errors import InputError, TrainingFailed
from ludora.models.adapters import Adapter
from ludora.models.cache import ByteLRU
from ludora.models.chat import ChatFormat, parse_action, strip_thinking
from ludora.models.generate import Sampler, Talk
from ludora.models.policy import Policy, Query
from ludora.rng import uniform
from ludora.types import Message, Move, Stop, Turn

Numbers = npt.NDArray[np.float64]
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
    rollout costs nothing. With `history`, so are the keys and values of every conversation, under a memory bound.
    """

    def __init__(
        self, name: str, policy: Policy, chat: ChatFormat, adapter: Adapter | None, acting: Acting, sampler: Sampler
    ) -> None:
        self.name = name
        self.policy, self.chat, self.adapter, self.acting, self.sampler = policy, chat, adapter, acting, sampler
        self._known = ByteLRU(KNOWN_BYTES)
        self._version = -1
        self._talks: dict[tuple[int, int], Talk] = {}

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        """One move per turn. All sampling comes from `Turn.seed`.

        Raises:
            InputError: a turn does not fit into the model's context, or its actions cannot be told apart.
            TrainingFailed: the model's probabilities are not finite.
        """
        self._follow_adapter()
        says = [i for i, turn in enumerate(turns) if self.acting.act == "say" or turn.legal is None]
        chooses = [i for i in range(len(turns)) if i not in set(says)]
        moves: dict[int, Move] = {}
        for places, answer in ((says, self._say), (chooses, self._choose)):
            if places:
                moves |= zip(places, answer([turns[i] for i in places]), strict=True)
        return [moves[i] for i in range(len(turns))]

    def _follow_adapter(self) -> None:
        """Nothing that older weights computed may be used: answers, keys and values die with them."""
        version = self.adapter.version if self.adapter else 0
        if version != self._version:
            self._version = version
            self._known.clear()
            for talk in self._talks.values():
                talk.forget()

    # ---- choose ----------------------------------------------------------------------------------------------------

    def _choose(self, turns: Sequence[Turn]) -> list[Move]:
        queries = [self.query(turn) for turn in turns]
        full = [bool(turn.number) and self._is_full(query) for turn, query in zip(turns, queries, strict=True)]
        known = iter(self.log_probs([query for query, over in zip(queries, full, strict=True) if not over]))
        moves = []
        for turn, query, over in zip(turns, queries, full, strict=True):
            if over:
                moves.append(Move("", stop=Stop.CONTEXT, prompt=query.prompt))
                continue
            log_probs = next(known)
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

    def forget(self, shared: object = None) -> bool:
        """Drop the distributions that were kept, and what its policy keeps, unless that is the `shared` one."""
        self._known.clear()
        if self.policy is not shared:
            self.policy.forget()
        return True

    def query(self, turn: Turn) -> Query:
        """The prompt and choices this player would face."""
        return _query(self.chat, turn.messages, cast("tuple[str, ...]", turn.legal), self.acting.labels)

    def log_probs(self, queries: Sequence[Query]) -> list[Numbers]:
        """fp64 log-probabilities of the legal actions of each query.

        Raises:
            TrainingFailed: they are not finite.
        """
        self._follow_adapter()
        found: dict[Query, Numbers | None] = {query: self._known.get(query) for query in queries}
        missing = [query for query, row in found.items() if row is None]
        if missing:
            with torch.no_grad():
                table = self.policy.action_log_probs(missing, [self.adapter] * len(missing)).double().cpu().numpy()
            if np.isnan(table).any():
                raise TrainingFailed(f"the probabilities of {self.name} are not finite", _DAMAGED)
            for query, row in zip(missing, table, strict=True):
                found[query] = row[: len(query.choices)].copy()  # a view would keep the whole table alive
                self._known.put(query, found[query], 16 * (len(query.prompt) + len(query.choices)))
        return [cast(Numbers, found[query]) for query in queries]

    # ---- say -------------------------------------------------------------------------------------------------------

    def _say(self, turns: Sequence[Turn]) -> list[Move]:
        """Sample, parse, and ask again while nothing legal was said. The last answer counts.

        A conversation that has outgrown the model's context has no more answers; the first turn has to fit.
        """
        talks = [self._talk(turn) for turn in turns]
        moves = {
            i: Move("", (), (), Stop.CONTEXT, prompt=talk.tokens)
            for i, (turn, talk) in enumerate(zip(turns, talks, strict=True))
            if turn.number and self._is_full(talk)
        }
        waiting = [i for i in range(len(turns)) if i not in moves]
        for attempt in range(self.acting.retries + 1):
            if attempt:
                waiting = [
                    i
                    for i in waiting
                    if moves[i].stop is Stop.INVALID and self._ask_again(talks[i], self.stem(turns[i]))
                ]
            if not waiting:
                break
            seeds = [turns[i].seed + attempt for i in waiting]
            said = self.sampler.sample([talks[i] for i in waiting], self.adapter, seeds, self.acting.max_new_tokens)
            for i, answer in zip(waiting, said, strict=True):
                before = (*moves[i].rejected, replace(moves[i], rejected=())) if attempt else ()
                moves[i] = self._read(turns[i], replace(answer, attempts=attempt + 1, rejected=before))
        self._bound_memory()
        return [moves[i] for i in range(len(turns))]

    def _ask_again(self, talk: Talk, stem: str) -> bool:
        """Say that nothing legal was said, if another answer fits after that."""
        again = self.chat.following((Message("user", _AGAIN),), stem, retry=True)
        if self._is_full(talk, len(again)):
            return False
        talk.hear(again)
        return True

    def _read(self, turn: Turn, answer: Move) -> Move:
        """The answer with its text, and with the action that it names. One that names none stays as it was said."""
        text = str(self.chat.tokenizer.decode(list(answer.tokens), skip_special_tokens=True)).strip()
        if turn.legal is None:
            return replace(answer, text=strip_thinking(text) if self.acting.reasoning else text)
        found = parse_action(text, turn.legal, labels_of(turn.legal, self.acting.labels))
        if found is None:
            return replace(answer, text=text, stop=Stop.INVALID)
        return replace(answer, text=turn.legal[found], index=found)

    def stem(self, turn: Turn) -> str:
        """What the model's answer to a turn begins with: nothing where any text is an answer."""
        return "" if self.acting.reasoning or turn.legal is None else STEM

    def _talk(self, turn: Turn) -> Talk:
        """The conversation this turn continues, or a new one."""
        key = (turn.game, turn.seat)
        talk = self._talks.pop(key, None) if self.acting.history and turn.number > 0 else None
        messages = ask(turn.messages, turn.legal, self.acting.labels, self.acting.reasoning)
        if talk is None:
            talk = Talk(self.chat.opening(messages, self.stem(turn)), len(self.chat.prefix(messages)))
        else:
            talk.hear(self.chat.following(news(messages), self.stem(turn), plain=not self.acting.reasoning))
        if self.acting.history:
            self._talks.pop(key, None)
            self._talks[key] = talk  # at the end: what was used last is forgotten last
        return talk

    def _is_full(self, asked: Talk | Query, more: int = 0) -> bool:
        """Whether the model's context may be too short for an answer, after so many tokens more."""
        context = self.policy.engine.context
        if isinstance(asked, Query):
            taken = len(asked.prompt) + max(map(len, asked.choices))
        else:
            taken = len(asked.tokens) + self.acting.max_new_tokens
        return context is not None and taken + more > context

    def _bound_memory(self) -> None:
        """Forget conversations that nobody goes on with, and the caches of the oldest beyond the bound."""
        while len(self._talks) > MAX_TALKS:
            self._talks.pop(next(iter(self._talks)))
        held = sum(talk.history.bytes for talk in self._talks.values())
        for talk in self._talks.values():
            if held <= HISTORY_BYTES:
                return
            held -= talk.history.bytes
            talk.forget()


class Chooser(ModelPlayer):
    """A model that always chooses, and can therefore say how likely each action is (`players.base.Explicit`).

    A model that says its moves cannot: nobody could add up the probabilities of all texts that name an action.
    """

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        """The exact distribution over `Turn.legal` for each turn.

        Raises:
            InputError: a turn has no legal actions to choose from.
        """
        if any(turn.legal is None for turn in turns):
            raise InputError(f"{self.name} answers this task in free text", "its probabilities are not known")
        queries = [self.query(turn) for turn in turns]
        return [np.exp(row).tolist() for row in self.log_probs(queries)]


KNOWN_BYTES = 256 << 20  # of answers kept per player
HISTORY_BYTES = 2 << 30  # of keys and values kept per player between turns
MAX_TALKS = 4096
STEM = "Move:"
_AGAIN = "That is not one of the options. Answer with one of them."
_DAMAGED = "use another adapter, or dtype=fp32"


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


def news(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a turn adds to a conversation that is kept: all but the rules, or what follows the answer before.

    A task whose state is what was said (a shell) shows the whole conversation at every turn, a game only its state now.
    """
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    return tuple(m for m in messages[answers[-1] + 1 if answers else 0 :] if m.role != "system")


@lru_cache(maxsize=1 << 14)
def _query(chat: ChatFormat, messages: tuple[Message, ...], legal: tuple[str, ...], labels: str) -> Query:
    """Equal turns give the identical query object, so later look-ups compare by identity first."""
    prompt = chat.opening(ask(messages, legal, labels), STEM)
    return Query(prompt, len(chat.prefix(messages)), chat.label_tokens(labels_of(legal, labels), STEM))


def pick(p: Numbers, u: float) -> int:
    """Index drawn from the distribution p by the uniform number u in [0, 1)."""
    edges = np.cumsum(p)
    return int(min(np.searchsorted(edges, u * edges[-1], side="right"), len(p) - 1))
