"""The conformance check for environments: ours, and anybody's.

Plays random games and tests the promises of `envs.base.Env` one by one. Every finding names one promise:

    interface       it has what `Env` asks for, and is built for the task it was given
    repeatable      asking for the turns twice shows the same turns
    seats           the seats that must move exist, are distinct and in order
    legal           legal actions are non-empty, distinct texts (or None: any text)
    messages        there are messages, each with a known role and a text
    rewards         one finite number per seat, paid once
    zero_sum        where it is claimed, all seats' rewards sum to zero
    early_result    `result` refuses to answer before the end
    result          outcome and score (0..1) for every seat
    forfeit         an illegal text ends the game, forfeited by its seat alone, and not to its advantage
    deterministic   the same task and moves give the same game, also beside another game
    terminates      games end within the turn limit
    global_rng      the process-wide generators of `random` and NumPy are left alone
    close           `close` may be called twice
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import isclose, isfinite

from ludora.envs.base import Env
from ludora.envs.build import make_env
from ludora.errors import LudoraError
from ludora.players.base import Player
from ludora.players.bots import RandomPlayer
from ludora.rng import stream
from ludora.types import Move, Outcome, Result, Spec, Stop, Task, Turn

PROPERTIES = (
    "interface",
    "repeatable",
    "seats",
    "legal",
    "messages",
    "rewards",
    "zero_sum",
    "early_result",
    "result",
    "forfeit",
    "deterministic",
    "terminates",
    "global_rng",
    "close",
)
_ILLEGAL = "\x00 no such move"
_ROLES = ("system", "user", "assistant")
# What an environment may raise when it is asked too early or twice.
_RAISED = (LudoraError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, OSError)
Make = Callable[[Task], Env]


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise and whether it held; `detail` says where it first broke, or why it was not tested."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(slots=True)
class _Report:
    """The first failure of every property, and why a property could not be tested yet."""

    task: Task
    failed: dict[str, str] = field(default_factory=dict)
    untested: dict[str, str] = field(
        default_factory=lambda: {"zero_sum": "not claimed", "forfeit": "no turn listed legal actions"}
    )

    def expect(self, name: str, held: bool, detail: str) -> bool:
        self.untested.pop(name, None)
        if not held:
            self.failed.setdefault(name, f"task seed {self.task.seed}: {detail}")
        return held

    def findings(self) -> list[Finding]:
        reason = {name: f"not tested: {why}" for name, why in self.untested.items()} | self.failed
        return [Finding(name, name not in self.failed, reason.get(name, "")) for name in PROPERTIES]


@dataclass(slots=True)
class _Game:
    """One game in progress, and everything it has shown, which a replay must show again."""

    env: Env
    task: Task
    player: Player
    limit: int
    counts: dict[int, int] = field(default_factory=dict)
    shown: list[object] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    ticks: int = 0

    def pay(self) -> tuple[float, ...]:
        rewards = tuple(self.env.rewards())
        self.totals = [a + b for a, b in zip(self.totals or [0.0] * len(rewards), rewards, strict=False)]
        self.shown.append(rewards)
        return rewards

    def look(self) -> tuple[Turn, ...]:
        """The turns, with the identity that the rollout would give them."""
        turns = tuple(self.env.turns())
        self.shown.append(_visible(turns))
        return tuple(
            replace(t, number=(n := self.counts.get(t.seat, 0)), seed=stream("turn", self.task.seed, t.seat, n))
            for t in turns
        )

    def move(self, turns: Sequence[Turn], spoiler: int | None = None) -> None:
        """Make the player's moves; seat `spoiler` says something illegal instead."""
        moves = {t.seat: m for t, m in zip(turns, self.player.act(turns), strict=True)}
        if spoiler is not None:
            moves[spoiler] = Move(_ILLEGAL, stop=Stop.INVALID)
        self.env.apply(moves)
        self.ticks += 1
        for turn in turns:
            self.counts[turn.seat] = self.counts.get(turn.seat, 0) + 1

    def step(self) -> bool:
        """One tick; False when the game is over or too long."""
        self.pay()
        turns = self.look()
        if turns and not self.too_long:
            self.move(turns)
            return True
        return False

    @property
    def too_long(self) -> bool:
        return any(count >= self.limit for count in self.counts.values())


def _visible(turns: Sequence[Turn]) -> list[object]:
    return [(turn.seat, turn.messages, turn.legal) for turn in turns]


def check_env(
    spec: Spec,
    *,
    games: int = 20,
    seed: int = 0,
    make: Make = make_env,
    player: Player | None = None,
    max_turns: int = 10_000,
) -> list[Finding]:
    """Play `games` games and report on every property, in the order of `PROPERTIES`.

    Args:
        spec: what the tasks name; a `make` of your own may read it as it likes.
        games: games with different seeds; each is also replayed, and spoilt by an illegal move.
        seed: seed of the first task; the others follow.
        make: builds the environment of a task. If that has a true attribute `zero_sum`, the claim is tested too.
        player: plays all seats; uniform random by default, which needs environments that list legal actions.
        max_turns: moves of one seat after which a game counts as endless.

    Raises:
        InputError: the environment cannot be built, or `player` cannot play it.
    """
    report = _Report(Task(spec, seed))
    answers = player or RandomPlayer()
    for i in range(games):
        task = report.task = Task(spec, seed + i)
        before = _global_rng()
        game = _Game(make(task), task, answers, max_turns)
        if not _check_interface(report, game) or not _check_game(report, game):
            break  # what a broken game would do next says nothing
        other = _Game(make(Task(spec, seed + games + i)), Task(spec, seed + games + i), answers, max_turns)
        _check_replay(report, game, other, make)
        _check_forfeit(report, game, make)
        report.expect("global_rng", _global_rng() == before, "a process-wide random generator moved")
    return report.findings()


def _global_rng() -> tuple[object, ...]:
    import numpy as np  # not needed to build environments

    name, keys, *rest = np.random.get_state(legacy=True)
    return (random.getstate(), name, np.asarray(keys).tobytes(), *rest)


def _check_interface(report: _Report, game: _Game) -> bool:
    env, expect = game.env, report.expect
    return (
        expect("interface", isinstance(env, Env), "attributes or methods of Env are missing")
        and expect("interface", env.task == game.task, "env.task is not the task it was built for")
        and expect("interface", env.num_seats >= 1, f"num_seats is {env.num_seats}")
    )


def _check_game(report: _Report, game: _Game) -> bool:
    """Play to the end and look at everything; False if it did not get there."""
    _check_rewards(report, game)
    while turns := game.look():
        report.expect("repeatable", _visible(game.env.turns()) == game.shown[-1], "the second look at turns() differs")
        if not _check_turns(report, game.env, turns):
            return False
        _check_early_result(report, game.env)
        if not report.expect("terminates", not game.too_long, f"a seat moved {game.limit} times"):
            return False
        game.move(turns)
        if not _check_rewards(report, game):
            return False
    result = game.env.result()
    if not _check_result(report, result, game.env.num_seats):
        return False
    game.shown.append(result)
    _check_zero_sum(report, game)
    for time in ("first", "second"):
        try:
            game.env.close()
        except _RAISED as error:
            report.expect("close", False, f"the {time} close raised {error!r}")
    return True


def _check_turns(report: _Report, env: Env, turns: Sequence[Turn]) -> bool:
    """False if nobody could go on from here."""
    expect, seats = report.expect, [turn.seat for turn in turns]
    named = expect("seats", all(0 <= s < env.num_seats for s in seats), f"seats {seats} of {env.num_seats}")
    named = expect("seats", seats == sorted(set(seats)), f"seats {seats} are not distinct and in order") and named
    playable = True
    for turn in turns:
        if turn.legal is not None:
            playable = expect("legal", len(turn.legal) > 0, "no legal action") and playable
            expect("legal", all(turn.legal), f"an empty text in {turn.legal}")
            expect("legal", len(set(turn.legal)) == len(turn.legal), f"a text occurs twice in {turn.legal}")
        expect("messages", len(turn.messages) > 0, "no message")
        told = all(m.role in _ROLES and m.content for m in turn.messages)
        expect("messages", told, "a message has an unknown role or no text")
    return named and playable


def _check_early_result(report: _Report, env: Env) -> None:
    try:
        env.result()
    except _RAISED:
        return
    report.expect("early_result", False, "result() answered while seats had to move")


def _check_rewards(report: _Report, game: _Game) -> bool:
    rewards, seats = game.pay(), game.env.num_seats
    again = tuple(game.env.rewards())
    return (
        report.expect("rewards", len(rewards) == seats, f"{len(rewards)} rewards for {seats} seats")
        and report.expect("rewards", all(isfinite(r) for r in rewards), f"rewards {rewards} are not finite")
        and report.expect("rewards", not any(again), f"paid again without a move: {again}")
    )


def _check_result(report: _Report, result: Result, seats: int) -> bool:
    """False if there is not one outcome and one score per seat."""
    expect = report.expect
    counts = (len(result.outcomes), len(result.scores))
    expect("result", all(isinstance(o, Outcome) for o in result.outcomes), f"outcomes {result.outcomes}")
    expect("result", all(0 <= s <= 1 for s in result.scores), f"scores {result.scores} are not in 0..1")
    return expect("result", counts == (seats, seats), f"{counts} outcomes and scores for {seats} seats")


def _check_zero_sum(report: _Report, game: _Game) -> None:
    if getattr(game.env, "zero_sum", False):
        total = sum(game.totals)
        report.expect("zero_sum", isclose(total, 0, abs_tol=1e-6), f"returns {game.totals} sum to {total}")


def _check_replay(report: _Report, game: _Game, other: _Game, make: Make) -> None:
    """The same task again, in turn with another game, so that shared state shows."""
    again = _Game(make(game.task), game.task, game.player, game.limit)
    going = [again, other]
    while going:
        going = [g for g in going if g.step()]
    if not again.too_long:
        again.shown.append(again.env.result())
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(game.shown, again.shown, strict=False)))
    report.expect("deterministic", game.shown == again.shown, f"the replay differs from observation {same} on")
    again.env.close()
    other.env.close()


def _check_forfeit(report: _Report, game: _Game, make: Make) -> None:
    """Play up to some move, different in every game, and answer it with nonsense."""
    spoilt = _Game(make(game.task), game.task, game.player, game.limit)
    stop = stream("spoil", game.task.seed) % max(game.ticks, 1)
    while spoilt.ticks < stop and spoilt.step():
        pass
    spoilt.pay()
    turns = spoilt.look()
    seat = next((turn.seat for turn in turns if turn.legal is not None), None)
    if seat is None:
        return
    spoilt.move(turns, spoiler=seat)
    spoilt.pay()
    over = report.expect("forfeit", not spoilt.env.turns(), "the game went on after an illegal move")
    if over and _check_result(report, result := spoilt.env.result(), spoilt.env.num_seats):
        others = [o for i, o in enumerate(result.outcomes) if i != seat]
        held = result.outcomes[seat] == Outcome.FORFEITED and Outcome.FORFEITED not in others
        report.expect("forfeit", held, f"seat {seat} spoilt the game and the outcomes are {result.outcomes}")
        held = result.scores[seat] <= min([0.5, *result.scores])
        report.expect("forfeit", held, f"seat {seat} spoilt the game and the scores are {result.scores}")
        _check_zero_sum(report, spoilt)
    spoilt.env.close()
