"""How strong is the learner now? Exactly, where the game is small; by games otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from ludora.envs.build import make_env, num_players
from ludora.envs.openspiel_games import load
from ludora.envs.sources import Source
from ludora.evals import exact
from ludora.evals.evaluate import JUDGED_BY
from ludora.players.base import Explicit, Player, forget
from ludora.players.bots import RandomPlayer
from ludora.rng import generator, stream
from ludora.rollout import Game, collect
from ludora.types import Outcome, Spec, Task


class Measures:
    """Measures one player on one or several games. With several, each game's metrics bear its name, and `score` is the
    mean of the games' scores in 0..1: returns in chips and in points do not add up, and a rate of games won says
    nothing of those that nobody wins yet.
    """

    def __init__(
        self, games: Sequence[Source], player: Player, opponents: Sequence[tuple[Player, float]], count: int, seed: int
    ) -> None:
        self._measures = {source.game: Measure(source, player, opponents, count, seed) for source in games}

    def forget(self, shared: object) -> None:
        """Drop what players keep of earlier answers, but for what lies in the `shared` policy."""
        for measure in self._measures.values():
            measure.forget(shared)

    def take(self) -> dict[str, float]:
        """The metrics of now; `score` among them is what "best" means (higher is better)."""
        found = {game: measure.take() for game, measure in self._measures.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        named = {f"{key}/{game}": value for game, taken in found.items() for key, value in taken.items()}
        out = {key: value for key, value in named.items() if not key.startswith("score/")}
        for key in ("evaluation_win_rate", "evaluation_score"):
            out[key] = math.fsum(taken[key] for taken in found.values()) / len(found)
        return out | {"score": out["evaluation_score"]}


class Measure:
    """Measures one player on one game against fixed opponents, the same way every time.

    Exact where the game's tree is small and every opponent's distribution is known: expected value against the mixture
    of opponents (mean over seats), and NashConv. Otherwise `games` games with the same seeds each time, every seat
    equally often, of a range of ids always the same ones. Without fixed opponents (self-play), games are played against
    a uniform random player; in a small game NashConv is the score. Where a fact tells how good a game was
    (`JUDGED_BY`), its mean is the score: a shaped return may rise while the play gets worse.
    """

    def __init__(
        self, source: Source, player: Player, opponents: Sequence[tuple[Player, float]], games: int, seed: int
    ) -> None:
        self.source, self.player, self.games, self.seed = source, player, games, seed
        self.alone = not opponents  # but for the learner itself
        total = sum(weight for _, weight in opponents)
        self.opponents = [(opponent, weight / total) for opponent, weight in opponents] or [(RandomPlayer(), 1.0)]
        known = all(isinstance(opponent, Explicit) for opponent, _ in self.opponents)
        self._explicit = player if isinstance(player, Explicit) and known else None
        self.spec: Spec | None = source.spec if source.spec and self._explicit and exact.is_exact(source.spec) else None
        self._tables: list[tuple[exact.Table, float]] = []  # of the opponents, when they are first needed

    def forget(self, shared: object) -> None:
        """Drop what players keep and what was made of it: a resumed run has to make it, too."""
        forget(self.player, shared)
        if any([forget(opponent, shared) for opponent, _ in self.opponents]):
            self._tables = []

    def take(self) -> dict[str, float]:
        """The metrics of now; `score` among them is what "best" means (higher is better)."""
        if self.spec is None or self._explicit is None:
            return self._by_games()
        table = exact.tabulate(self.spec, self._explicit)
        nash_conv = exact.nash_conv(self.spec, table)
        if not self._tables:
            self._tables = [(exact.tabulate(self.spec, cast(Explicit, o)), weight) for o, weight in self.opponents]
        paid = [(exact.payoff(self.spec, table, other), weight) for other, weight in self._tables]
        out = {"nash_conv": nash_conv}
        if exact.is_zero_sum(self.spec):
            out["exploitability"] = nash_conv / 2
        for key, share in (("win_rate", _won), ("score", self._score)):
            out[f"evaluation_{key}"] = math.fsum(weight * math.fsum(map(share, seats)) / 2 for seats, weight in paid)
        if self.alone:
            return out | {"score": -nash_conv}
        value = sum(weight * sum(p.value for p in seats) / 2 for seats, weight in paid)
        return out | {"expected_value": value, "score": value}

    def _by_games(self) -> dict[str, float]:
        fact = JUDGED_BY.get(self.source.example.name, "")
        judge = f"evaluation_{fact or 'return'}"
        total = dict.fromkeys(("evaluation_return", "evaluation_win_rate", "evaluation_score", judge), 0.0)
        for opponent, weight in self.opponents:
            played = [f for f in collect([self._game(i, opponent) for i in range(self.games)], make_env) if not f.error]
            own = [f.trajectories[f.game.task.seat] for f in played]
            n = max(1, len(own))
            total["evaluation_return"] += weight * sum(t.total for t in own) / n
            total["evaluation_win_rate"] += weight * sum(t.outcome is Outcome.WON for t in own) / n
            total["evaluation_score"] += weight * sum(t.score for t in own) / n
            if fact:
                total[judge] += weight * sum(float(t.info.get(fact, 0.0)) for t in own) / n
        return total | {"score": total[judge]}

    def _score(self, paid: exact.Payoff) -> float:
        """What `Trajectory.score` is on average: it grows evenly with the return, or tells only who has more."""
        game = load(self.source.example)
        return game.scores((paid.value, -paid.value))[0] if game.zero_sum else paid.win + paid.draw / 2

    def _game(self, number: int, opponent: Player) -> Game:
        """The `number`-th game; one deal is played from every seat."""
        seats = num_players(self.source.example)
        seed = stream("measure", self.seed, number // seats)
        spec, seat = self.source.draw(generator("variant", seed)), number % seats
        return Game(Task(spec, seed, seat), [self.player if s == seat else opponent for s in range(seats)])


def _won(paid: exact.Payoff) -> float:
    return paid.win
