"""Failure replay: tasks that were not won are dealt again, until they are.

What is kept is the task, not the game: (game, parameters, seed, seat, opponent). Dealt again it has the same cards and
the same opponent, who draws the same numbers; only the learner's own moves are drawn anew. Games are played afresh by
the policy of now, so nothing off-policy is learned from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from ludora.grammar import parse
from ludora.rng import generator
from ludora.types import Outcome, Task, Trajectory

SELF = "self"  # a game against oneself is not one to be won


@dataclass(slots=True)
class Failure:
    """How a kept task went last, and the update at which it was first lost."""

    score: float
    since: int


@dataclass(slots=True)
class Replay:
    """A buffer of failed tasks.

    A task's weight is (1 - score) * decay ** (age in updates). It leaves once a replay of it is won; where there are
    more than `size`, those of least weight leave.

    Args:
        share: probability that a game is one of these rather than a fresh one.
        size: tasks kept.
        decay: of the weight, per update.
    """

    share: float
    size: int
    decay: float
    failures: dict[Task, Failure] = field(default_factory=dict)
    _dealt: set[Task] = field(default_factory=set)  # in this update
    _table: tuple[list[Task], list[float]] | None = None  # tasks and their running sums of weights, of this update
    _last: dict[str, float] = field(default_factory=dict)  # metrics of the update observed last

    def choose(self, seed: int, update: int) -> Task | None:
        """The task of one game if it is to be a replay, to be confirmed by `deal`; `seed` is the game's own."""
        random = generator("replay", seed)
        if not self.failures or random.random() >= self.share:
            return None
        if self._table is None:
            weights = (self._weight(failure, update) for failure in self.failures.values())
            self._table = list(self.failures), list(accumulate(weights))
        tasks, sums = self._table
        if sums[-1] <= 0.0:
            return None
        return random.choices(tasks, cum_weights=sums)[0]

    def deal(self, task: Task) -> None:
        """A chosen task is played in this update."""
        self._dealt.add(task)

    def observe(self, trajectories: Iterable[Trajectory], update: int) -> None:
        """Take in how the learner's games of an update went, replays and fresh ones."""
        replays, won, mastered = 0, 0, 0
        for t in trajectories:
            if t.seat != t.task.seat or SELF in t.task.opponent:
                continue
            success = t.outcome is Outcome.WON
            if t.task in self._dealt:
                replays, won = replays + 1, won + success
            if success:
                mastered += self.failures.pop(t.task, None) is not None
            elif known := self.failures.get(t.task):
                known.score = t.score
            elif self.share and t.task not in self._dealt:  # one that was won and lost in this update stays mastered
                self.failures[t.task] = Failure(t.score, update)
        if len(self.failures) > self.size:
            order = sorted(self.failures.items(), key=lambda item: (-self._weight(item[1], update), -item[1].since))
            self.failures = dict(order[: self.size])
        self._dealt, self._table = set(), None
        self._last = {"replays": float(replays), "replay_mastered": float(mastered)}
        if replays:
            self._last["replay_success"] = won / replays

    def _weight(self, failure: Failure, update: int) -> float:
        return float((1.0 - failure.score) * self.decay ** (update - failure.since))

    @property
    def named(self) -> Collection[str]:
        """The opponents that kept tasks are against: who must still be there when they are dealt again."""
        return {name for task in self.failures for name in task.opponent}

    def metrics(self, update: int) -> dict[str, float]:
        """The buffer after an update; nothing where there is no replay."""
        if not self.share:
            return {}
        ages = [update - failure.since for failure in self.failures.values()]
        known = {"replay_size": float(len(ages))}
        if ages:
            known["replay_age"] = math.fsum(ages) / len(ages)
            known["replay_score"] = math.fsum(f.score for f in self.failures.values()) / len(ages)
        return known | self._last

    # ---- checkpoint ------------------------------------------------------------------------------------------------

    def state(self) -> list[list[Any]]:
        """The tasks kept, in order, for JSON."""
        return [
            [str(task.env), task.seed, task.seat, list(task.opponent), failure.score, failure.since]
            for task, failure in self.failures.items()
        ]

    def load(self, state: Iterable[list[Any]]) -> None:
        """The inverse of `state`."""
        self.failures = {
            Task(parse(env), seed, seat, tuple(opponent)): Failure(score, since)
            for env, seed, seat, opponent, score, since in state
        }
        self._dealt, self._table, self._last = set(), None, {}
