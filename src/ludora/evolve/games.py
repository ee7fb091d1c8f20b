"""Evolution by games: learners imitate a teacher's moves, and are selected by what they are worth against an opponent.

In a small game that is the exact expected value, without noise. Elsewhere it is the score of games on the same deals
for everybody, every deal from every seat; each generation plays other deals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from ludora.data.batches import Choice, Item, digest
from ludora.envs.build import make_env, num_players, task_spec
from ludora.errors import EnvBroken, InputError
from ludora.evals import exact
from ludora.evals.evaluate import deals, seated
from ludora.evals.quiz import Quiz
from ludora.evolve.fitness import TOGETHER, Answers
from ludora.evolve.history import Score
from ludora.evolve.settings import EvolveConfig
from ludora.learn.pupil import chunks
from ludora.models.adapters import Adapter
from ludora.players.base import Explicit, Player, check_plays
from ludora.players.build import fixed_player
from ludora.players.model import ModelPlayer
from ludora.players.studio import Studio
from ludora.rng import stream
from ludora.rollout import collect
from ludora.types import Spec, Task

LESSONS_AT_ONCE = 64  # games that the teacher plays at a time


class GameFitness:
    """A game: a teacher's choices are learnt, and what an adapter is worth against the opponent is selected by."""

    def __init__(self, config: EvolveConfig, studio: Studio) -> None:
        self.config, self.studio = config, studio
        self.spec = task_spec(config.game)
        alone = num_players(self.spec) == 1
        self.opponent = None if alone else fixed_player(config.opponent, studio)
        teacher = fixed_player(config.teacher, studio)
        for player in filter(None, (teacher, self.opponent)):
            check_plays(player, self.spec)
        self.exact = exact.is_exact(self.spec) and isinstance(self.opponent, Explicit)
        self.items = list(_lessons(self.spec, teacher, self.opponent, studio.player("self", None), config))
        self.digest = digest(self.items)
        self.seen: Mapping[str, Any] = {}  # no questions
        how = "by exact value" if self.exact else f"by {config.evaluate_games} games"
        self.about = (
            f"{self.spec}, moves of {config.teacher}, {how} against {config.opponent if self.opponent else 'nobody'}"
        )
        self._theirs = exact.tabulate(self.spec, self.opponent) if self.exact else None  # type: ignore[arg-type]

    def measure(self, adapters: Sequence[Adapter | None], block: str) -> list[Score]:
        """See `Fitness`."""
        players = [self.studio.player(adapter.name if adapter else "base", adapter) for adapter in adapters]
        return [self._value(player) if self.exact else self._play(player, block) for player in players]

    def examine(self, adapters: Sequence[Adapter | None], block: str) -> list[Answers]:
        """See `Fitness`; games have no records of questions."""
        return [Answers(score) for score in self.measure(adapters, block)]

    def quiz(self, found: Mapping[str, Answers]) -> Quiz | None:
        """See `Fitness`: in a game no questions are asked."""
        return None

    def _value(self, player: ModelPlayer) -> Score:
        """Expected return, mean over the seats; exact."""
        queries = [player.query(turn) for turn in exact.information_states(self.spec)]
        for part in chunks(list(dict.fromkeys(map(self.studio.policy.row, queries))), TOGETHER):
            self.studio.engine.keep(part)  # so that all adapters share it
        assert self._theirs is not None and isinstance(player, Explicit)
        table = exact.tabulate(self.spec, player)
        values = exact.expected_value(self.spec, table, self._theirs)
        mean = math.fsum(values) / len(values)
        return Score(1, mean, 0.0, {"expected_value": mean, "nash_conv": exact.nash_conv(self.spec, table)})

    def _play(self, player: ModelPlayer, block: str) -> Score:
        """Score of games, one deal from every seat being one observation."""
        number = block if self.config.fresh_questions else "all"
        tasks = deals(self.spec, self.config.evaluate_games, stream("evolve", self.config.seed, number) >> 33)
        finished = collect([seated(task, player, self.opponent) for task in tasks], make_env)
        by_deal: dict[int, list[float]] = {}
        wins = games = 0
        for f in finished:
            if f.trajectories:
                own = f.trajectories[f.game.task.seat]
                by_deal.setdefault(own.task.seed, []).append(own.score)
                wins, games = wins + (own.score == 1.0), games + 1
        if not games:
            raise EnvBroken(f"not one game could be played: {finished[0].error}", "ludora check-env TASK says more")
        values = [math.fsum(v) / len(v) for v in by_deal.values()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
        paired = tuple(values) if games == len(tasks) else ()  # with gaps, nobody knows what belongs together
        return Score(len(values), mean, variance, {"win_rate": wins / games}, paired)


def _lessons(
    spec: Spec, teacher: Player, opponent: Player | None, asked: ModelPlayer, config: EvolveConfig
) -> Iterator[Item]:
    """The teacher's choices, in games against the opponent, until there are enough.

    Raises:
        InputError: the game has no moves to choose from.
        EnvBroken: it could not be played.
    """
    seats, found = num_players(spec), 0
    for first in count(0, LESSONS_AT_ONCE):
        numbers = range(first, first + LESSONS_AT_ONCE)
        tasks = [Task(spec, stream("lesson", config.seed, i) >> 33, i % seats) for i in numbers]
        before = found
        for f in collect([seated(task, teacher, opponent) for task in tasks], make_env):
            if not f.trajectories:
                raise EnvBroken(f"a game of {spec} broke: {f.error}", "ludora check-env TASK says more")
            for step in f.trajectories[f.game.task.seat].steps:
                legal = step.turn.legal or ()
                if len(legal) > 1 and found < config.train_size:
                    found += 1
                    yield Choice(asked.query(step.turn), legal.index(step.move.text))
        if found >= config.train_size:
            return
        if found == before:
            raise InputError(f"{spec} has nothing to choose from", "choose a game with legal moves")
