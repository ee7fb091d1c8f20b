"""Play games in lockstep: the one loop behind training, evaluation, expert data and play at the terminal.

Every tick asks each player once, with one batch of all the turns that wait for it, so a model always
generates in batches and self-play is one batch for both seats. Knows nothing of learning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from ludora.envs.base import Env, Standing
from ludora.errors import EnvBroken
from ludora.players.base import Player
from ludora.rng import stream
from ludora.types import End, Move, Outcome, Result, Step, Stop, Task, Trajectory, Turn

MakeEnv = Callable[[Task], Env]


@dataclass(frozen=True, slots=True)
class Game:
    """A task and who sits where; `seats[i]` plays seat i.

    Another `attempt` at a task has the same cards and the same opponents, but its own seat draws its moves anew.
    """

    task: Task
    seats: Sequence[Player]
    attempt: int = 0

    def seed(self, seat: int, number: int) -> int:
        """The stream of a seat's turn."""
        again = (self.attempt,) if self.attempt and seat == self.task.seat else ()
        return stream("turn", self.task.seed, seat, number, *again)


@dataclass(slots=True)
class Finished:
    """All trajectories of one game, in seat order; none if its environment broke twice (`error` says how).

    `number` is the game's place among those given; `retried`: its environment broke once, and it was played anew.
    """

    game: Game
    trajectories: tuple[Trajectory, ...] = ()
    error: str = ""
    number: int = 0
    retried: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one seat in one game: moves, and tokens read and written (0: no bound of tokens)."""

    turns: int
    tokens: int = 0


@dataclass(slots=True)
class _Seat:
    steps: list[Step] = field(default_factory=list)
    unclaimed: float = 0.0
    tokens: int = 0  # read and written so far

    def take(self, step: Step) -> None:
        self.steps.append(step)
        self.tokens += len(step.move.prompt) + len(step.move.tokens)

    def earn(self, reward: float) -> None:
        """Reward belongs to the seat's last move; before its first one it stays on the trajectory."""
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], reward=self.steps[-1].reward + reward)
        else:
            self.unclaimed += reward


@dataclass(slots=True)
class _Running:
    number: int
    game: Game
    env: Env
    retried: bool = False
    seats: list[_Seat] = field(default_factory=list)
    turns: tuple[Turn, ...] = ()
    moves: dict[int, Move] | None = None
    pending: Future[None] | None = None
    ended: bool = False
    truncated: bool = False
    error: str = ""

    def start(self, limits: Limits) -> None:
        if len(self.game.seats) != self.env.num_seats:
            raise ValueError(f"{self.game.task.env} has {self.env.num_seats} seats, not {len(self.game.seats)}")
        self.seats = [_Seat() for _ in range(self.env.num_seats)]
        self.guard(self.look, limits)

    def guard(self, part: Callable[[Limits], None], limits: Limits) -> None:
        """An environment that breaks, wherever it does, ends its own game and no other."""
        try:
            part(limits)
        except EnvBroken as error:
            self.ended, self.error = True, _why(error)

    def look(self, limits: Limits) -> None:
        """Read the rewards and the next turns, and give each turn its identity."""
        for seat, reward in zip(self.seats, self.env.rewards(), strict=True):
            seat.earn(reward)
        self.turns = tuple(
            replace(
                turn,
                game=self.number,
                number=(number := len(self.seats[turn.seat].steps)),
                seed=self.game.seed(turn.seat, number),
            )
            for turn in self.env.turns()
        )
        self.truncated = any(
            turn.number >= limits.turns or (limits.tokens and self.seats[turn.seat].tokens >= limits.tokens)
            for turn in self.turns
        )
        self.ended = not self.turns or self.truncated

    def answer(self, moves: dict[int, Move], pool: ThreadPoolExecutor) -> None:
        """Make the moves. A game of moves is over when a conversation has outgrown its context; where any text is
        an answer, the environment hears of it.
        """
        if any(turn.legal is not None and moves[turn.seat].stop is Stop.CONTEXT for turn in self.turns):
            self.truncated = self.ended = True
            return
        self.moves = moves
        if self.env.blocking:
            self.pending = pool.submit(self.env.apply, moves)

    def settle(self, limits: Limits) -> None:
        """Take in the moves that were made, once `apply` is through with them."""
        if self.moves is None or (self.pending and not self.pending.done()):
            return
        self.pending.result() if self.pending else self.env.apply(self.moves)
        for turn in self.turns:
            if self.moves[turn.seat].stop is not Stop.CONTEXT:
                self.seats[turn.seat].take(Step(turn, self.moves[turn.seat], 0.0))
        over = any(move.stop is Stop.CONTEXT for move in self.moves.values())
        self.moves = self.pending = None
        self.look(limits)
        if over and not self.ended:
            self.truncated = self.ended = True

    def finish(self) -> Finished:
        """Trajectories, or the error; the environment is closed."""
        try:
            trajectories = () if self.error else self._trajectories()
        except EnvBroken as error:
            trajectories, self.error = (), _why(error)
        self.env.close()
        return Finished(self.game, trajectories, self.error, self.number, self.retried)

    def _trajectories(self) -> tuple[Trajectory, ...]:
        result = _cut_off(self.env) if self.truncated else self.env.result()
        return tuple(
            Trajectory(
                self.game.task,
                i,
                self.game.seats[i].name,
                tuple(seat.steps),
                result.outcomes[i],
                result.scores[i],
                result.end,
                seat.unclaimed,
                result.info,
            )
            for i, seat in enumerate(self.seats)
        )


def _why(error: EnvBroken) -> str:
    return error.message or "the environment broke"


def _cut_off(env: Env) -> Result:
    """Of a game that was stopped: neither won nor lost, and half a score to all, unless it says how it stands."""
    scores, info = env.standing() if isinstance(env, Standing) else ((0.5,) * env.num_seats, {})
    return Result(End.TRUNCATED, (Outcome.TRUNCATED,) * env.num_seats, scores, info)


MAX_TURNS = 1_000_000  # no game of ours goes on for so long; one that would must not hang the others


def play(
    games: Iterable[Game],
    make_env: MakeEnv,
    *,
    slots: int = 1024,
    max_turns: int = MAX_TURNS,
    max_tokens: int = 0,
    threads: int = 8,
    machines: int = 64,
) -> Iterator[Finished]:
    """Play games, at most `slots` at a time, and yield each as it ends; one whose environment breaks, anew once.

    Args:
        games: drawn lazily, so an endless stream is fine.
        make_env: builds the single-use environment of a task.
        slots: games in flight; a place that falls free is filled at once, so batches stay full.
        max_turns: a seat that has moved this often ends the game as truncated.
        max_tokens: and so does one that has read and written this many tokens; 0: no bound.
        threads: for environments whose `apply` blocks; the other games go on meanwhile.
        machines: games in flight where environments block: each may hold one.
    """
    source, limits = ((number, game, False) for number, game in enumerate(games)), Limits(max_turns, max_tokens)
    again: deque[tuple[int, Game, bool]] = deque()  # those that broke once
    running: list[_Running] = []
    pool = ThreadPoolExecutor(threads)  # starts no thread until an environment blocks
    try:
        while True:
            while len(running) < slots and (item := again.popleft() if again else next(source, None)):
                number, game, retried = item
                try:
                    running.append(_Running(number, game, make_env(game.task), retried))
                except EnvBroken as error:
                    if retried:
                        yield Finished(game, (), _why(error), number, retried)
                    else:
                        again.append((number, game, True))
                else:
                    slots = min(slots, machines) if running[-1].env.blocking else slots
                    running[-1].start(limits)
            if not running:
                return
            ready = [r for r in running if r.pending is None and not r.ended]
            for r, moves in zip(ready, _ask(ready), strict=True):
                r.answer(moves, pool)
            if not ready and not any(r.ended for r in running):
                wait([r.pending for r in running if r.pending], return_when=FIRST_COMPLETED)
            for r in running:
                r.guard(r.settle, limits)
            for done in [r.finish() for r in running if r.ended]:
                if done.error and not done.retried:
                    again.append((done.number, done.game, True))
                else:
                    yield done
            running = [r for r in running if not r.ended]
    finally:
        pool.shutdown(cancel_futures=True)  # nothing is closed under a thread that still works on it
        for r in running:
            r.env.close()


def _ask(games: Sequence[_Running]) -> list[dict[int, Move]]:
    """One batch of turns per player object; the moves of each game by seat."""
    batches: dict[int, tuple[Player, list[tuple[int, Turn]]]] = {}
    for i, r in enumerate(games):
        for turn in r.turns:
            player = r.game.seats[turn.seat]
            batches.setdefault(id(player), (player, []))[1].append((i, turn))
    moves: list[dict[int, Move]] = [{} for _ in games]
    for player, batch in batches.values():
        for (i, turn), move in zip(batch, player.act([turn for _, turn in batch]), strict=True):
            moves[i][turn.seat] = move
    return moves


def collect(
    games: Iterable[Game],
    make_env: MakeEnv,
    *,
    slots: int = 1024,
    max_turns: int = MAX_TURNS,
    max_tokens: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> list[Finished]:
    """Play all games and return them in the order given, whichever ended first; `progress` is called after each."""
    found = []
    for finished in play(games, make_env, slots=slots, max_turns=max_turns, max_tokens=max_tokens):
        found.append(finished)
        progress()
    return sorted(found, key=lambda f: f.number)
