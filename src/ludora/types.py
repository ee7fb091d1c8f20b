"""The nouns of Ludora. Read this file first; it needs nothing but the standard library.

A `Task` names one reproducible start. An environment turns it into `Turn`s, a player answers each
with a `Move`, the rollout pairs them into `Step`s, and every seat of a finished game yields one
`Trajectory`. Everything is frozen: what has happened cannot be edited.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Value = "str | int | float | bool | Spec"

# text that reads back as itself without quotes: no number, no true or false, nothing that the grammar gives a meaning
_BARE = re.compile(r"(?!(?:true|false|[+-]?[\d.][\d.eE+-]*)$)[^\s,()=\"]([^,()=\"]*[^\s,()=\"])?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """`name`, `name:variant` or `name(value, key=value)`: the one grammar for tasks and players.

    Parsed and printed by `ludora.grammar`; `params` is sorted by key, so equal specs are equal. Values of unlike types
    are not, though Python finds 1 and True equal: `level=true` is no `level=1`, whatever was looked up before.
    """

    name: str
    variant: str = ""
    args: tuple[Any, ...] = ()
    params: tuple[tuple[str, Any], ...] = ()

    def get(self, key: str, default: Any = None) -> Any:
        return dict(self.params).get(key, default)

    def _told_apart(self) -> tuple[Any, ...]:
        types = (*map(type, self.args), *(type(value) for _, value in self.params))
        return self.name, self.variant, self.args, self.params, types

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._told_apart() == other._told_apart()

    def __hash__(self) -> int:
        return hash(self._told_apart())

    def __str__(self) -> str:
        def show(value: Any) -> str:
            if isinstance(value, str) and not _BARE.fullmatch(value):
                return json.dumps(value, ensure_ascii=False)
            return str(value) if not isinstance(value, bool) else str(value).lower()

        inside = [show(a) for a in self.args] + [f"{k}={show(v)}" for k, v in self.params]
        head = f"{self.name}:{self.variant}" if self.variant else self.name
        return f"{head}({', '.join(inside)})" if inside else head


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Task:
    """One reproducible start: the same task deals the same game, whatever else runs.

    `opponent` holds one concrete PLAYER string per other seat, in seat order (empty: given by the caller).
    """

    env: Spec
    seed: int = 0
    seat: int = 0
    opponent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """What one seat sees when it must move.

    `messages` holds rules and state, never the engine's secrets. `legal` lists the texts of all legal
    actions, or is None where any text is an answer. `state` is an engine handle for bots; no model sees
    it. `game` and `number` are filled in by the rollout: which running game this is, and how many turns
    this seat has had in it. `seed` is the stream that all sampling for this turn must draw from: it
    depends on (task seed, seat, number) only, so the composition of a batch changes no game.
    """

    seat: int
    messages: tuple[Message, ...]
    legal: tuple[str, ...] | None = None
    state: Any = None
    game: int = 0
    number: int = 0
    seed: int = 0


class Stop(StrEnum):
    """Why an answer ended."""

    CHOSEN = "chosen"  # an action picked from the legal ones
    END = "end"  # the model ended its own answer
    LENGTH = "length"  # the token budget ended it
    INVALID = "invalid"  # no legal action could be read from it, after all retries
    CONTEXT = "context"  # the conversation has outgrown the model's context: nothing was said


@dataclass(frozen=True, slots=True)
class Move:
    """What a player answered. Tokens and log-probabilities are recorded where they were sampled.

    `text` is the action (one of `Turn.legal`) or the free text. A model also records `prompt` (the
    exact tokens it read), `tokens` (the exact tokens it sampled) with one `logprobs` entry each, and,
    where it chose among legal actions, `choices`: the token path of each of them, in the order of
    `Turn.legal`, of which `index` is the one taken; its single log-probability is `sum(logprobs)`.
    `attempts` counts the answers sampled until one could be read; `rejected` are those before it that could not.
    `reasoning` is why the move was made, in words, where the player says so. `label` is the move to learn here where
    that is not the one that was played: an expert that is made to err now and then labels every position with what it
    would have done.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    stop: Stop = Stop.CHOSEN
    prompt: tuple[int, ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()
    index: int = -1
    attempts: int = 1
    reasoning: str = ""
    label: str = ""
    rejected: tuple[Move, ...] = ()

    @property
    def unread(self) -> int:
        """Answers that could not be read: all before the last one, and that one too where the move is invalid."""
        return self.attempts - (self.stop is not Stop.INVALID)


@dataclass(frozen=True, slots=True)
class Step:
    """A turn, the move made there, and every reward that reached the seat until its next turn."""

    turn: Turn
    move: Move
    reward: float
    info: Mapping[str, float] = field(default_factory=dict)


class Outcome(StrEnum):
    """How a game ended for one seat. A draw is a draw, never a failure."""

    WON = "won"
    DREW = "drew"
    LOST = "lost"
    FORFEITED = "forfeited"  # this seat answered nothing legal
    TRUNCATED = "truncated"  # a turn or token budget ended the game


class End(StrEnum):
    """What ended a game: its own rules, or a budget laid over them."""

    TERMINATED = "terminated"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Result:
    """How a finished game went: outcome and score (0..1) of every seat, in seat order.

    `info` holds facts of this one game that its environment wants measured (apples, steps) or counted (a word).
    """

    end: End
    outcomes: tuple[Outcome, ...]
    scores: tuple[float, ...]
    info: Mapping[str, float | str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One seat's view of one finished game.

    `unclaimed` is reward that reached a seat before its first move, or a seat that never moved. `info` is the game's,
    as its `Result` has it; empty where a budget of the rollout ended the game.
    """

    task: Task
    seat: int
    player: str
    steps: tuple[Step, ...]
    outcome: Outcome
    score: float
    end: End
    unclaimed: float = 0.0
    info: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Undiscounted return of this seat."""
        return self.unclaimed + sum(step.reward for step in self.steps)
