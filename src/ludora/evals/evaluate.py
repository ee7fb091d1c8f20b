"""Any player against any player: every seat equally often, the same deals for every contender and seat.

The deals come from (seed, number) alone, so what changes between two contenders is only how they play. Where a
game is small, `exact` adds values that carry no sampling noise at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ludora.envs.build import make_env, num_players, task_spec
from ludora.envs.openspiel_tree import compile_tree
from ludora.errors import EnvBroken, InputError
from ludora.evals import exact
from ludora.evals.compare import Comparison, compare
from ludora.evals.groups import Group, groups
from ludora.evals.stats import mean_interval, wilson
from ludora.players.base import Explicit, Player, check_plays
from ludora.players.search import sees_hidden
from ludora.rng import stream
from ludora.rollout import Finished, Game, collect
from ludora.types import Outcome, Spec, Stop, Task, Trajectory

VERSION = 1
MOST_GAMES = 10_000_000  # they are held in memory
_NO_NUMBERS = ("player", "baseline", "by_seat", "by_group", "kind", "name")
BEST = "best response"  # the name of the row that says what is possible against this opponent
UNITS = {
    "leduc_poker": "chips per hand",
    "kuhn_poker": "chips per hand",
    "universal_poker": "chips per hand",
    "shell": "reward per task",
}


@dataclass(frozen=True, slots=True)
class SeatResult:
    """One seat's share of a row; None where it was not measured."""

    seat: int
    games: int = 0
    win_rate: float | None = None
    mean_return: float | None = None
    expected_value: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one player reached. Counts are games; None where something was not measured.

    `losses` leaves out `forfeits` (nothing legal was answered) and `truncated` games; `broken` games (the
    environment failed) count in nothing else. `win_rate` has Wilson's interval, `mean_return` a t interval in
    which one deal, played from every seat, is one observation. `score` is 0..1. `invalid_rate` is the share of
    unreadable ones among all `answers` sampled. `expected_value` and `win_probability` (means over seats), `nash_conv`
    and `exploitability` (nash_conv / 2, in zero-sum games) are exact; values are in the game's own unit. `by_group`
    is there where the games are of kinds: in a shell, the skills that a task takes, its level, how it ended.
    """

    player: str
    games: int = 0
    wins: int = 0
    draws: int = 0
    losses: int = 0
    forfeits: int = 0
    truncated: int = 0
    broken: int = 0
    win_rate: float | None = None
    win_rate_low: float | None = None
    win_rate_high: float | None = None
    mean_return: float | None = None
    mean_return_low: float | None = None
    mean_return_high: float | None = None
    score: float | None = None
    moves: int = 0
    answers: int = 0
    invalid_rate: float | None = None
    expected_value: float | None = None
    win_probability: float | None = None
    nash_conv: float | None = None
    exploitability: float | None = None
    by_seat: tuple[SeatResult, ...] = ()
    by_group: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The one record that the table, `evaluation.json` and the report all read.

    `rows` are the contenders in the order given (the first is the one in question, the second what it is
    compared with) and, where exact, the best response to `against`. `games` were played by each contender.
    `sees_hidden` names the players that see what this game hides from their seat.
    """

    task: str
    against: str
    games: int
    seed: int
    unit: str
    rows: tuple[Row, ...]
    comparison: Comparison | None = None
    version: int = VERSION
    sees_hidden: tuple[str, ...] = ()

    @property
    def side_by_side(self) -> tuple[Row, ...]:
        """Rows in reading order: what it is compared with, the player, the best possible."""
        contenders = [row for row in self.rows if row.player != BEST]
        return (*contenders[1:], *contenders[:1], *(row for row in self.rows if row.player == BEST))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `evaluation.json` and `--json`; the verdict in words is added for readers."""
        data = asdict(self)
        if self.comparison is not None:
            data["comparison"]["sentence"] = self.comparison.sentence
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`.

        Raises:
            InputError: it is not an evaluation, or one of another version.
        """
        if data.get("version") != VERSION:
            raise InputError(
                f"this evaluation has format version {data.get('version')!r}, not {VERSION}",
                "evaluate again with this version of ludora",
            )
        try:
            fields = {k: v for k, v in data.items() if k not in ("rows", "comparison", "sees_hidden")}
            fields["sees_hidden"] = tuple(data.get("sees_hidden", ()))
            rows = tuple(_row(row) for row in data["rows"])
            if not rows:
                raise TypeError("it has no rows")
            verdict = data["comparison"] and {k: v for k, v in data["comparison"].items() if k != "sentence"}
            return cls(**fields, rows=rows, comparison=Comparison(**_numbers(verdict)) if verdict else None)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is no evaluation: {error}", "evaluate again") from error


def _row(fields: Mapping[str, Any]) -> Row:
    """A row from its JSON object."""
    by_seat = tuple(SeatResult(**_numbers(seat)) for seat in fields["by_seat"])
    by_group = tuple(Group(**_numbers(group)) for group in fields.get("by_group", ()))
    return Row(**{**_numbers(fields), "by_seat": by_seat, "by_group": by_group})


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row as they are, once it is sure that what should be a number or null is one."""
    for name, value in fields.items():
        if name not in _NO_NUMBERS and not isinstance(value, int | float | None):
            raise TypeError(f"{name} is {value!r}, not a number")
    return dict(fields)


def evaluate(
    player: str,
    task: str,
    *,
    build: Callable[[str], Player],
    against: str = "random",
    compare: str = "",
    games: int = 200,
    seed: int = 0,
    exact: bool = False,
) -> Evaluation:
    """Evaluate PLAYER strings on a TASK string; see `evaluate_players`. `build` makes a player of its string.

    Raises:
        InputError: a name is unknown, `exact` is not possible, `games` is out of range, an opponent is named
            in a game for one, or a player is compared with itself.
    """
    spec = task_spec(task)
    _check_games(games, exact)  # before a model is loaded
    alone = num_players(spec) == 1
    if alone and against not in ("", "random"):
        raise InputError(f"{spec} is a game for one: nobody can be {against}", "leave out --against")
    contenders = [player, compare] if compare else [player]
    names = contenders if alone else [*contenders, against or "random"]
    built = {name: build(name) for name in dict.fromkeys(names)}  # each once
    opponent = None if alone else built[names[-1]]
    return evaluate_players([built[c] for c in contenders], spec, opponent, games=games, seed=seed, exact=exact)


def evaluate_players(
    contenders: Sequence[Player],
    spec: Spec,
    against: Player | None,
    *,
    games: int = 200,
    seed: int = 0,
    exact: bool = False,
) -> Evaluation:
    """Evaluate player objects, so that a trainer loads no model twice.

    Args:
        contenders: the player in question first; a second one is what it is compared with.
        spec: the game.
        against: sits at every other seat; None in games for one.
        games: per contender, rounded up to the same number for every seat; 0 only with `exact`.
        seed: of the deals and of the sampled test.
        exact: add expected values, exploitability and the best response.

    Raises:
        InputError: `exact` is not possible, `games` is out of range, two contenders share a name, or a player cannot
            play this game.
        EnvBroken: the environment failed in every game.
    """
    names = [c.name for c in contenders]
    if len(set(names)) < max(1, len(names)):
        raise InputError(f"contenders must differ, got {', '.join(names) or 'none'}", "compare with another player")
    _check_games(games, exact)
    players = [*contenders, *([against] if against else [])]
    for player in players:
        check_plays(player, spec)
    exact_part = exact_rows(contenders, spec, against) if exact else ()
    played = [_contend(c, spec, against, games, seed) for c in contenders] if games else []
    rows = [_measure(c.name, finished) for c, finished in zip(contenders, played, strict=False)]
    pair = [_own(finished) for finished in played[:2]]
    return Evaluation(
        task=str(spec),
        against=against.name if against else "",
        games=len(played[0]) if played else 0,
        seed=seed,
        unit=UNITS.get(spec.name, "points per game"),
        rows=_join(rows, exact_part),
        comparison=compare(*pair, seed=seed) if len(pair) == 2 else None,
        sees_hidden=tuple(sorted({p.name for p in players if sees_hidden(p, spec)})),
    )


def _check_games(games: int, exact: bool) -> None:
    if games < (0 if exact else 1):
        raise InputError(f"games must be at least 1, got {games}", "0 games are possible with --exact")
    if games > MOST_GAMES:
        raise InputError(f"games must be at most {MOST_GAMES:,}, got {games}", "thousands give narrow intervals")


def deals(spec: Spec, games: int, seed: int) -> list[Task]:
    """The tasks every contender plays: each deal once from every seat, at least `games` in all."""
    seats = num_players(spec)
    return [
        Task(spec, stream("evaluation", seed, number) >> 33, seat)
        for number in range(math.ceil(games / seats))
        for seat in range(seats)
    ]


def seated(task: Task, player: Player, against: Player | None) -> Game:
    """`player` at the task's seat, `against` at all others."""
    others = num_players(task.env) - 1
    if against is None:
        if others:
            raise InputError(f"{task.env} needs {others} more players", "name an opponent with --against")
        return Game(task, (player,))
    named = replace(task, opponent=(against.name,) * others)
    return Game(named, tuple(player if seat == task.seat else against for seat in range(others + 1)))


def _contend(player: Player, spec: Spec, against: Player | None, games: int, seed: int) -> list[Finished]:
    return collect([seated(task, player, against) for task in deals(spec, games, seed)], make_env)


def _own(finished: Sequence[Finished]) -> list[Trajectory]:
    """The contender's own trajectory of every game that did not break."""
    return [f.trajectories[f.game.task.seat] for f in finished if f.trajectories]


def _measure(name: str, finished: Sequence[Finished]) -> Row:
    own = _own(finished)
    if not own:
        raise EnvBroken(f"not one game could be played: {finished[0].error}", "ludora check-env TASK says more")
    count = {outcome: sum(t.outcome is outcome for t in own) for outcome in Outcome}
    by_deal: dict[int, list[float]] = {}
    for t in own:
        by_deal.setdefault(t.task.seed, []).append(t.total)
    returns = mean_interval([math.fsum(v) / len(v) for v in by_deal.values()])
    rate = wilson(count[Outcome.WON], len(own))
    moves = [step.move for t in own for step in t.steps]
    answers = sum(move.attempts for move in moves)
    # Every answer before the last was unreadable, and the last too where the move is invalid.
    unread = sum(move.attempts - (move.stop is not Stop.INVALID) for move in moves)
    return Row(
        player=name,
        games=len(own),
        wins=count[Outcome.WON],
        draws=count[Outcome.DREW],
        losses=count[Outcome.LOST],
        forfeits=count[Outcome.FORFEITED],
        truncated=count[Outcome.TRUNCATED],
        broken=len(finished) - len(own),
        win_rate=rate.mean,
        win_rate_low=rate.low,
        win_rate_high=rate.high,
        mean_return=returns.mean,
        mean_return_low=returns.low,
        mean_return_high=returns.high,
        score=math.fsum(t.score for t in own) / len(own),
        moves=len(moves),
        answers=answers,
        invalid_rate=unread / answers if answers else None,
        by_seat=tuple(_seat(seat, own) for seat in sorted({t.seat for t in own})),
        by_group=groups(own),
    )


def _seat(seat: int, own: Sequence[Trajectory]) -> SeatResult:
    here = [t for t in own if t.seat == seat]
    wins = sum(t.outcome is Outcome.WON for t in here)
    return SeatResult(seat, len(here), wins / len(here), math.fsum(t.total for t in here) / len(here))


def exact_rows(contenders: Sequence[Player], spec: Spec, against: Player | None) -> tuple[Row, ...]:
    """Rows that hold only exact values, one per contender, and last the best response to `against`.

    Raises:
        InputError: the game is too large, or a player cannot tell its probabilities.
    """
    if against is None:
        raise InputError(f"{spec} is a game for one", "exact evaluation is for two")
    compile_tree(spec)  # refuses the game before a model is asked a thousand questions
    if mute := [p.name for p in (*contenders, against) if not isinstance(p, Explicit)]:
        raise InputError(f"player {mute[0]} cannot say its probabilities", "leave out --exact to play games instead")
    players = {id(p): p for p in (*contenders, against) if isinstance(p, Explicit)}
    tables = {key: exact.tabulate(spec, p) for key, p in players.items()}  # one that plays both parts is asked once
    theirs = tables[id(against)]
    rows = []
    for player in contenders:
        table = tables[id(player)]
        gap = exact.nash_conv(spec, table)
        fair = compile_tree(spec).zero_sum  # only there does exploitability mean what a winner takes
        won = exact.payoff(spec, table, theirs)
        rows.append(
            replace(
                _exact_row(player.name, exact.expected_value(spec, table, theirs)),
                nash_conv=gap,
                exploitability=gap / 2 if fair else None,
                win_probability=math.fsum(p.win for p in won) / len(won),
            )
        )
    return (*rows, _exact_row(BEST, exact.best_response(spec, theirs)))


def _exact_row(name: str, values: Sequence[float]) -> Row:
    by_seat = tuple(SeatResult(seat, expected_value=value) for seat, value in enumerate(values))
    return Row(name, expected_value=math.fsum(values) / len(values), by_seat=by_seat)


def _join(played: Sequence[Row], exact: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of both kinds into one per player, in order."""
    if not played or not exact:
        return (*played, *exact)
    joined = []
    for row, known in zip(played, exact, strict=False):  # the best response has no games
        value = {s.seat: s.expected_value for s in known.by_seat}
        joined.append(
            replace(
                row,
                expected_value=known.expected_value,
                win_probability=known.win_probability,
                nash_conv=known.nash_conv,
                exploitability=known.exploitability,
                by_seat=tuple(replace(s, expected_value=value[s.seat]) for s in row.by_seat),
            )
        )
    return (*joined, *exact[len(played) :])
