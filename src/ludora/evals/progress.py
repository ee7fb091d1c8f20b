"""How strong is the learner now? Exactly, where the game is small; by games otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from ludora.envs.build import make_env, num_players
from ludora.evals import exact
from ludora.players.base import Explicit, Player
from ludora.rng import stream
from ludora.rollout import Game, collect
from ludora.types import Outcome, Spec, Task


class Measure:
    """Measures one player against fixed opponents, the same way every time.

    Exact where the game's tree is small and every opponent's distribution is known: expected value against the mixture
    of opponents (mean over seats), and NashConv. Otherwise `games` games with the same seeds each time, every seat
    equally often. Without fixed opponents (self-play) in a large game, against a uniform random player.
    """

    def __init__(
        self, spec: Spec, player: Player, opponents: Sequence[tuple[Player, float]], games: int, seed: int
    ) -> None:
        self.spec, self.player, self.games, self.seed = spec, player, games, seed
        total = sum(weight for _, weight in opponents)
        self.opponents = [(opponent, weight / total) for opponent, weight in opponents]
        known = [(o, w) for o, w in self.opponents if isinstance(o, Explicit)]
        self._explicit = player if isinstance(player, Explicit) and len(known) == len(opponents) else None
        self.exact = exact.is_exact(spec) and self._explicit is not None
        self._tables = [(exact.tabulate(spec, o), w) for o, w in known] if self.exact else []

    def take(self) -> dict[str, float]:
        """The metrics of now; `score` among them is what "best" means (higher is better)."""
        if not self.exact or self._explicit is None:
            return self._by_games()
        table = exact.tabulate(self.spec, self._explicit)
        nash_conv = exact.nash_conv(self.spec, table)
        out = {"nash_conv": nash_conv, "exploitability": nash_conv / 2, "score": -nash_conv}
        if self._tables:
            value = sum(w * sum(exact.expected_value(self.spec, table, t)) / 2 for t, w in self._tables)
            out |= {"expected_value": value, "score": value}
        return out

    def _by_games(self) -> dict[str, float]:
        if not self.opponents:
            from ludora.players.bots import RandomPlayer

            self.opponents = [(RandomPlayer(), 1.0)]
        seats = num_players(self.spec)
        total = {"evaluation_return": 0.0, "evaluation_win_rate": 0.0}
        for opponent, weight in self.opponents:
            games = [
                Game(
                    Task(self.spec, stream("measure", self.seed, i // seats), i % seats),
                    [self.player if s == i % seats else opponent for s in range(seats)],
                )
                for i in range(self.games)
            ]
            played = [f for f in collect(games, make_env) if not f.error]
            own = [f.trajectories[f.game.task.seat] for f in played]
            n = max(1, len(own))
            total["evaluation_return"] += weight * sum(t.total for t in own) / n
            total["evaluation_win_rate"] += weight * sum(t.outcome is Outcome.WON for t in own) / n
        return total | {"score": total["evaluation_return"]}
