"""Any player against any player: every seat equally often, the same deals for every contender and seat.

The deals come from (seed, number) alone, so what changes between two contenders is only how they play. Where a
game is small, `exact` adds values that carry no sampling noise at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from ludora.envs.build import make_env, num_players, setting, singles, task_spec
from ludora.envs.openspiel_tree import compile_tree
from ludora.errors import EnvBroken, InputError
from ludora.evals import exact
from ludora.evals.compare import compare
from ludora.evals.groups import NAMES, groups
from ludora.evals.meter import Meter
from ludora.evals.record import BEST, Evaluation, Row, SeatResult
from ludora.evals.stats import mean_interval, wilson
from ludora.fields import MOST_GAMES
from ludora.players.base import Explicit, Player, check_plays
from ludora.players.search import sees_hidden
from ludora.rng import generator, stream
from ludora.rollout import Finished, Game, collect
from ludora.types import Outcome, Spec, Task, Trajectory

JUDGED_BY = {"snake": "apples"}  # the fact that tells how good a game was, where its shaped reward does not
_CHIPS = "chips per hand"
# of a number of games, a context that gives what to call after each
Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]
UNITS = {"leduc_poker": _CHIPS, "kuhn_poker": _CHIPS, "universal_poker": _CHIPS, "shell": "reward per task"}


def unseen(games: int) -> AbstractContextManager[Callable[[], None]]:
    """No progress is shown."""
    return nullcontext(lambda: None)


def evaluate(
    contenders: Sequence[str],
    tasks: Sequence[str],
    *,
    build: Callable[[str], Player],
    against: str | None = None,
    games: int = 200,
    seed: int = 0,
    exact: bool = False,
    progress: Progress = unseen,
) -> Evaluation:
    """Evaluate PLAYER strings on TASK strings; see `evaluate_tasks`. `build` makes a player of its string;
    without `against`, who sits at the other seats plays at random.

    Raises:
        InputError: a name is unknown, `exact` is not possible, `games` is out of range, an opponent is named
            in games for one, or a player is compared with itself.
    """
    specs = [task_spec(task) for task in tasks]
    _check_games(games, exact)  # before a model is loaded
    if len(set(specs)) < len(specs):
        raise InputError(f"tasks must differ, got {', '.join(map(str, specs))}", "name each once")
    alone = all(num_players(spec) == 1 for spec in specs)
    if alone and against:
        raise InputError(f"{specs[0]} is a game for one: nobody can be {against}", "leave out --against")
    names = contenders if alone else [*contenders, against or "random"]
    built = {name: build(name) for name in dict.fromkeys(names)}  # each once
    opponent = None if alone else built[names[-1]]
    players = [built[c] for c in contenders]
    return evaluate_tasks(players, specs, opponent, games=games, seed=seed, exact=exact, progress=progress)


def evaluate_tasks(
    contenders: Sequence[Player],
    specs: Sequence[Spec],
    against: Player | None,
    *,
    games: int = 200,
    seed: int = 0,
    exact: bool = False,
    progress: Progress = unseen,
) -> Evaluation:
    """`evaluate_players` on each task: the first one's record, with the others as `further`.

    `progress` is opened once every player is there, with the number of games of them all on all tasks.
    """
    for player in contenders:  # before hours are spent on the first task
        for spec in specs:
            check_plays(player, spec)
    seated = [(spec, against if num_players(spec) > 1 else None) for spec in specs]
    total = len(contenders) * sum(num_players(spec) * _deals(spec, games) for spec in specs)
    with progress(total) as step:
        first, *others = [
            evaluate_players(contenders, *pair, games=games, seed=seed, exact=exact, progress=step) for pair in seated
        ]
    return replace(first, further=tuple(others))


def evaluate_players(
    contenders: Sequence[Player],
    spec: Spec,
    against: Player | None,
    *,
    games: int = 200,
    seed: int = 0,
    exact: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate player objects, so that a trainer loads no model twice.

    Args:
        contenders: the player in question first; it is compared with each of the others.
        spec: the game.
        against: sits at every other seat; None in games for one.
        games: per contender, rounded up to the same number for every seat; 0 only with `exact`.
        seed: of the deals and of the sampled tests.
        exact: add expected values, exploitability and the best response.
        progress: called after every game.

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
    fact = JUDGED_BY.get(spec.name, "")
    rows, played = [], []
    for contender in contenders if games else ():
        meter = Meter(contender)
        opponent = meter if against is contender else against
        dealt = [seated(task, meter, opponent) for task in deals(spec, games, seed)]
        finished = collect(dealt, make_env, progress=progress)
        rows.append(_measure(contender.name, finished, meter))
        played.append(finished)
    own = [_own(finished) for finished in played]
    verdicts = [compare(own[0], other, fact=fact, seed=seed) for other in own[1:]]
    return Evaluation(
        task=str(spec),
        against=against.name if against else "",
        games=len(played[0]) if played else 0,
        seed=seed,
        unit=UNITS.get(spec.name, "points per game"),
        rows=_join(rows, exact_part),
        comparisons=tuple(verdict for verdict in verdicts if verdict),
        sees_hidden=tuple(sorted({p.name for p in players if sees_hidden(p, spec)})),
        fact=fact,
        setting=setting(spec),
    )


def _check_games(games: int, exact: bool) -> None:
    if games < (0 if exact else 1):
        raise InputError(f"games must be at least 1, got {games}", "0 games are possible with --exact")
    if games > MOST_GAMES:
        raise InputError(f"games must be at most {MOST_GAMES:,}, got {games}", "thousands give narrow intervals")


def deals(spec: Spec, games: int, seed: int) -> list[Task]:
    """The tasks every contender plays: each deal once from every seat, at least `games` in all.

    Of a file of tasks each comes up equally often, in an order of the seed's.
    """
    seats = num_players(spec)
    among = list(singles(spec)) or [spec]
    generator("evaluation order", seed).shuffle(among)
    return [
        Task(among[number % len(among)], stream("evaluation", seed, number) >> 33, seat)
        for number in range(_deals(spec, games))
        for seat in range(seats)
    ]


def _deals(spec: Spec, games: int) -> int:
    """How many deals, each played once from every seat, make so many games at least."""
    return math.ceil(games / num_players(spec))


def seated(task: Task, player: Player, against: Player | None) -> Game:
    """`player` at the task's seat, `against` at all others."""
    others = num_players(task.env) - 1
    if against is None:
        if others:
            raise InputError(f"{task.env} needs {others} more players", "name an opponent with --against")
        return Game(task, (player,))
    named = replace(task, opponent=(against.name,) * others)
    return Game(named, tuple(player if seat == task.seat else against for seat in range(others + 1)))


def _own(finished: Sequence[Finished]) -> list[Trajectory]:
    """The contender's own trajectory of every game that did not break."""
    return [f.trajectories[f.game.task.seat] for f in finished if f.trajectories]


def _measure(name: str, finished: Sequence[Finished], meter: Meter) -> Row:
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
    unread = sum(move.unread for move in moves)
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
        facts={key: mean_interval(_facts(own, key)) for key in _keys(own, float)},
        words={key: dict(Counter(str(t.info[key]) for t in own if key in t.info)) for key in _keys(own, str)},
        cost=meter.cost(moves),
    )


def _keys(own: Sequence[Trajectory], kind: type) -> list[str]:
    """What the environment told of its games, in its order: numbers (float) or words (str)."""
    told = {key: isinstance(value, str) for t in own for key, value in t.info.items()}
    return [
        key for key, is_word in told.items() if is_word == (kind is str) and not (key in NAMES and "skills" in told)
    ]


def _facts(own: Sequence[Trajectory], key: str) -> list[float]:
    return [float(t.info[key]) for t in own if key in t.info]


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
        fair = exact.is_zero_sum(spec)
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
