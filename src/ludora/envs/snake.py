"""Snake: `snake`, `snake(size=8, text=board, max_steps=200)`. One seat, four moves, one apple at a time.

A move into a wall or the body ends the game. A move straight back is refused: it counts as a step and nothing moves;
ten in a row end the game. Eating scores one apple and grows the snake by one; the next apple falls on a free cell,
uniformly, drawn from the task's own stream. A full board is a win. An illegal text forfeits.

The score is apples eaten / apples possible; at least `goal` apples make a game won, however it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from ludora.envs import snake_texts
from ludora.envs.snake_game import FREE, MOVES, SIZES, WALL, EndReason, Position, place_apple, start
from ludora.errors import InputError, nearest
from ludora.rng import stream, uniform
from ludora.types import End, Move, Outcome, Result, Spec, Task, Turn

OFFERS = ("all", "safe")
MAX_REVERSALS = 10
_RANGES = {"size": SIZES, "max_steps": (1, 1_000_000), "goal": (0, SIZES[1] ** 2 - 1), "history": (0, 10_000)}
_WORDS = {"text": snake_texts.TEXTS, "offer": OFFERS}


@dataclass(frozen=True, slots=True)
class Options:
    """What a TASK may set.

    Attributes:
        size: the board is size x size.
        text: how the state is told, see `snake_texts`.
        apple: reward of an apple.
        death: reward of the move that ends the game in a wall, the body, or by forfeit or reversals.
        step_cost: taken from the reward of every move.
        max_steps: moves after which the game is truncated.
        goal: apples that make a game won; 0 means half of the board.
        offer: `all` four moves, or only `safe` ones that do not end the game at once, while there are any. A task
            that offers only safe moves is another, easier task: its figures must carry that label.
        history: moves shown by the text `seed`.
    """

    size: int = 10
    text: str = "features"
    apple: float = 1.0
    death: float = -1.0
    step_cost: float = 0.0
    max_steps: int = 400
    goal: int = 0
    offer: str = "all"
    history: int = 20

    @property
    def wanted(self) -> int:
        """Apples that make a game won."""
        return self.goal or self.size**2 // 2


_DEFAULTS = {f.name: f.default for f in fields(Options)}


@lru_cache(maxsize=1024)
def options_of(spec: Spec) -> Options:
    """The options of a TASK.

    Raises:
        InputError: one is unknown, of the wrong type, out of range, or without effect.
    """
    if spec.args or spec.variant:
        raise InputError(f"{str(spec)!r}: snake takes named options only", "for example snake(size=8, text=board)")
    found: dict[str, Any] = {}
    for key, value in spec.params:
        if key not in _DEFAULTS:
            raise InputError(f"snake has no option {key!r}", nearest(key, _DEFAULTS))
        found[key] = _checked(key, value)
    options = Options(**found)
    if options.history != _DEFAULTS["history"] and options.text != "seed":
        raise InputError(f"history has no effect with text={options.text}", "set text=seed, or leave history out")
    if options.goal >= options.size**2:
        most = options.size**2 - 1
        raise InputError(f"goal={options.goal} cannot be reached on this board", f"it has room for {most} apples")
    return options


def _checked(key: str, value: Any) -> Any:
    """A value of the type and range of its option."""
    if key in _WORDS:
        if value not in _WORDS[key]:
            raise InputError(f"snake: {key}={value} is unknown", f"{key} is one of {', '.join(_WORDS[key])}")
        return value
    if key in _RANGES:
        low, high = _RANGES[key]
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"snake: {key} is a whole number from {low} to {high}, not {value}", f"{key}={low}")
        return value
    if type(value) not in (int, float):
        raise InputError(f"snake: {key} is a number, not {value!r}", f"for example {key}={_DEFAULTS[key]:g}")
    if key == "step_cost" and value < 0:
        raise InputError(f"snake: step_cost is a cost, at least 0, not {value}", "for example step_cost=0.01")
    return float(value)


def canonical(spec: Spec) -> Spec:
    """The one spec of equal games: the size always, everything else where it is not the default.

    Raises:
        InputError: see `options_of`.
    """
    options = options_of(spec)
    values = {key: getattr(options, key) for key in _DEFAULTS}
    return Spec("snake", params=tuple(sorted((k, v) for k, v in values.items() if k == "size" or v != _DEFAULTS[k])))


class SnakeEnv:
    """One game of Snake, played once. `moves` is its record: the task and these moves replay it.

    Raises:
        InputError: an option is wrong, see `options_of`.
    """

    blocking = False
    zero_sum = False
    num_seats = 1

    def __init__(self, task: Task) -> None:
        self.task = task
        self.options = options_of(task.env)
        self.moves: list[str] = []
        self.reversals = 0
        self.ended: EndReason | None = None
        self._in_a_row = 0
        self._apples = stream("apple", task.seed)
        self._due = 0.0
        self._turns: tuple[Turn, ...] = ()
        self.position = place_apple(start(self.options.size), uniform(self._apples, 0))
        self._look()

    def turns(self) -> tuple[Turn, ...]:
        return self._turns

    def _look(self) -> None:
        """The next turn, or none."""
        if self.ended:
            self._turns = ()
            return
        options, position = self.options, self.position
        legal: tuple[str, ...] = MOVES
        if options.offer == "safe":
            legal = tuple(MOVES[m] for m in position.free_moves()) or MOVES
        told = snake_texts.state(position, options.text, self.moves, options.history)
        self._turns = (Turn(0, (snake_texts.rules(options.text, options.offer == "safe"), told), legal, position),)

    def apply(self, moves: Mapping[int, Move]) -> None:
        if not self._turns or moves.keys() != {0}:
            raise ValueError(f"moves of seats {sorted(moves)} where {'seat 0' if self._turns else 'nobody'} must move")
        text = moves[0].text
        if text in (self._turns[0].legal or ()):
            self._move(text)
        else:
            self.ended = EndReason.FORFEIT
        if self.ended not in (None, EndReason.WIN, EndReason.MAX_STEPS):
            self._due += self.options.death
        self._look()

    def _move(self, text: str) -> None:
        """Make one of the moves that were offered."""
        move = MOVES.index(text)
        self.moves.append(text)
        self._due -= self.options.step_cost
        side = self.position.look(move)
        if self.position.is_back(move):
            self.reversals += 1
            self._in_a_row += 1
            self.ended = EndReason.REVERSALS if self._in_a_row == MAX_REVERSALS else None
        elif side == FREE:
            self._in_a_row = 0
            self.position = self.position.moved(move)
            if not self.position.apple:
                self._due += self.options.apple
                self._next_apple()
        else:
            self.ended = EndReason.WALL if side == WALL else EndReason.SELF
        if len(self.moves) == self.options.max_steps and not self.ended:
            self.ended = EndReason.MAX_STEPS

    def _next_apple(self) -> None:
        if len(self.position.body) == self.options.size**2:
            self.ended = EndReason.WIN
        else:
            self.position = place_apple(self.position, uniform(self._apples, self.position.apples))

    def rewards(self) -> tuple[float, ...]:
        paid, self._due = self._due, 0.0
        return (paid,)

    def result(self) -> Result:
        if self.ended is None:
            raise RuntimeError("the game is not over")
        apples, ((score,), info) = self.position.apples, self.standing()
        if self.ended is EndReason.FORFEIT:
            outcome, score = Outcome.FORFEITED, 0.0
        elif apples >= self.options.wanted:
            outcome = Outcome.WON
        else:
            outcome = Outcome.TRUNCATED if self.ended is EndReason.MAX_STEPS else Outcome.LOST
        end = End.TRUNCATED if self.ended is EndReason.MAX_STEPS else End.TERMINATED
        return Result(end, (outcome,), (score,), info)

    def standing(self) -> tuple[tuple[float, ...], dict[str, float | str]]:
        """The share of the board's apples, and the facts."""
        return (self.position.apples / (self.options.size**2 - 1),), self.info()

    def info(self) -> dict[str, float | str]:
        """Apples, length, steps, refused reversals and the reason of the end ("" while the game goes on)."""
        return {
            "apples": self.position.apples,
            "length": len(self.position.body),
            "steps": len(self.moves),
            "reversals": self.reversals,
            "end_reason": str(self.ended or ""),
        }

    def close(self) -> None:
        """Nothing is held that needs freeing."""


def replay(task: Task, moves: Iterable[str]) -> tuple[SnakeEnv, list[Position]]:
    """A recorded game again: the environment as the moves leave it, and the position before each of them.

    Raises:
        InputError: the task is wrong, or a move is left over when the game has ended.
    """
    env = SnakeEnv(task)
    positions = []
    for number, move in enumerate(moves, start=1):
        if env.ended:
            raise InputError(f"move {number} comes after the end of the game", "the record and the task do not match")
        positions.append(env.position)
        env.apply({0: Move(move)})
    return env, positions
