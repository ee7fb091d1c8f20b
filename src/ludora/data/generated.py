"""Data sets that are made, not loaded: exercises in arithmetic, reasoning-gym's tasks, and moves of games.

Each gives an endless stream of candidates for a split. In which split a question may stand is a function of the
question itself, so no seed and no size ever puts a test question among those that are learnt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from typing import Any

from ludora.data.questions import STYLES, Judge, Question, choice_answer, key_of
from ludora.envs.build import is_openspiel, make_env, task_spec
from ludora.errors import EnvBroken, InputError, MissingExtra, nearest
from ludora.grammar import parse
from ludora.players import bots, search, snake
from ludora.players.base import Explicit, Player
from ludora.rng import generator, stream, uniform
from ludora.rollout import Game, collect
from ludora.types import Move, Spec, Task, Trajectory, Turn

_HOMES = ("train", "train", "train", "search", "test")  # of five questions, three may only be learnt
EXPERTS = ("nash", "mcts", "ismcts")  # at games other than Snake
_GAMES = 16  # played at a time
_SURE = 0.9  # a position is asked only where the expert would make its likeliest move this often


@dataclass(frozen=True, slots=True)
class Made:
    """A source of questions: `candidates(split)` never ends, but may repeat itself."""

    style: str
    instruction: str
    candidates: Callable[[str], Iterator[Question]]
    judge: Judge | None = None


def home(key: str) -> str:
    """The split that a question may stand in."""
    return _HOMES[int(uniform(stream("home of a question", key)) * len(_HOMES))]


# ---- arithmetic ----------------------------------------------------------------------------------------------------

OPERATIONS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_LEVELS = range(1, 6)


def arithmetic(spec: Spec, seed: int) -> Made:
    """Exercises with worked answers. `operations=add+sub+mul+div`, `level` 1 to 5: digits of the first number less one.

    Raises:
        InputError: an unknown operation or level.
    """
    options = bots.read_options(spec, {"operations": str, "level": int}, "data set")
    names = options.get("operations", "add+sub").split("+")
    level = options.get("level", 1)
    for name in names:
        if name not in OPERATIONS:
            raise InputError(f"arithmetic has no operation {name!r}", nearest(name, OPERATIONS))
    if len(set(names)) != len(names):
        raise InputError(f"arithmetic: an operation is named twice in {'+'.join(names)}", "once is enough")
    if level not in _LEVELS:
        raise InputError(f"arithmetic has no level {level}", f"{_LEVELS[0]} to {_LEVELS[-1]}")

    def candidates(split: str) -> Iterator[Question]:
        draw = generator("arithmetic", seed, split, level, *names)
        for number in count():
            name = draw.choice(names)
            a, b = _numbers(name, level, draw)
            same = (name, min(a, b), max(a, b)) if name in ("add", "mul") else (name, a, b)
            if home(repr(same)) == split:  # 22 + 18 stands where 18 + 22 does
                asked = f"What is {a} {OPERATIONS[name]} {b}?"
                yield Question(f"{split}-{number}", asked, worked(name, a, b), (), name)

    return Made("final", STYLES["final"], candidates)


def _numbers(name: str, level: int, draw: random.Random) -> tuple[int, int]:
    low, high = 10**level, 10 ** (level + 1) - 1
    if name == "add":
        return draw.randint(low, high), draw.randint(low, high)
    if name == "sub":
        a, b = sorted((draw.randint(low, high), draw.randint(low, high)))
        return b, a
    small = draw.randint(2, 9)
    large = draw.randint(low, high)
    return (large, small) if name == "mul" else (large * small, small)


def worked(name: str, a: int, b: int) -> str:
    """The answer, one decimal place of the second number (of the quotient or first factor) after the other."""
    steps: list[str] = []
    if name in ("add", "sub"):
        sign, value = OPERATIONS[name], a
        for part in _places(b) or [0]:
            after = value + part if name == "add" else value - part
            steps.append(f"{value} {sign} {part} = {after}")
            value = after
    elif name == "mul":
        value = 0
        for part in _places(a):
            steps.append(f"{part} * {b} = {part * b}")
            if value:
                steps.append(f"{value} + {part * b} = {value + part * b}")
            value += part * b
    else:
        value, left = 0, a
        for part in _places(a // b):
            steps.append(f"{part} * {b} = {part * b}, {left} - {part * b} = {left - part * b}")
            value, left = value + part, left - part * b
    return f"{', '.join(steps)}. Answer: {value}"


def _places(value: int) -> list[int]:
    """47 as 40 and 7, without the zeros."""
    digits = str(value)
    return [int(digit) * 10 ** (len(digits) - i - 1) for i, digit in enumerate(digits) if digit != "0"]


# ---- reasoning-gym -------------------------------------------------------------------------------------------------


def reasoning_gym(spec: Spec, seed: int) -> Made:
    """A task of reasoning-gym by name, with the options that its config has: `reasoning-gym(chain_sum, max_terms=3)`.

    Raises:
        MissingExtra: the package is not there.
        InputError: there is no such task, or it refuses an option.
    """
    if find_spec("reasoning_gym") is None:
        raise MissingExtra(f"{spec} needs the package reasoning-gym", "pip install 'ludora[reasoning-gym]'")
    import reasoning_gym as gym
    from reasoning_gym.factory import DATASETS

    name = str(spec.args[0]) if len(spec.args) == 1 else ""
    tasks = sorted(set(DATASETS) - {"composite"})
    if name not in tasks:
        raise InputError(f"reasoning-gym has no task {name!r}", nearest(name, tasks))

    def make(*parts: int | str) -> Any:
        try:
            return gym.create_dataset(name, size=1 << 30, seed=stream("gym", seed, *parts) >> 33, **dict(spec.params))
        except (AssertionError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()).replace("__init__() got an ", "got an ")
            raise InputError(
                f"reasoning-gym refuses {spec}: {reason}", "its config says which options it has"
            ) from None

    entries: dict[str, Any] = {}  # by question, as the package's own verdict needs them
    check = make()

    def candidates(split: str) -> Iterator[Question]:
        made = make(split)
        for number in count():
            entry = made[number]
            question = Question(f"{split}-{number}", str(entry["question"]), f"Answer: {entry['answer']}", (), name)
            if home(key_of(question)) == split and entry["answer"] is not None:
                entries[key_of(question)] = entry
                yield question

    def judge(question: Question, answer: str) -> float:
        entry = entries[key_of(question)]
        try:
            return float(check.score_answer(answer, entry))
        except Exception:  # boundary: what a model said may be anything, and the package's verdicts do not expect that
            return 0.0

    return Made("final", STYLES["final"], candidates, judge)


# ---- moves of games ------------------------------------------------------------------------------------------------


def snake_moves(spec: Spec, seed: int) -> Made:
    """Positions of expert games of Snake; the right option is the expert's move. Options are those of the task `snake`,
    and `expert=bfs-safe(noise=0.15)`.

    Raises:
        InputError: the game or the expert is refused.
    """
    params = dict(spec.params)
    expert = parse(str(params.pop("expert", "bfs-safe(noise=0.15)")))
    if expert.name not in snake.PLAYERS:
        raise InputError(f"{expert} is no expert at Snake", nearest(expert.name, snake.PLAYERS))
    bots.read_options(Spec(spec.name, "", spec.args), {}, "data set")
    task = task_spec(str(Spec("snake", "", (), tuple(sorted(params.items())))))
    return _moves(task, snake.build(expert), seed)


def positions(spec: Spec, seed: int) -> Made:
    """Positions of a game, reached by random play; the right option is the move of an expert that is sure of it.
    `positions(leduc_poker, expert=nash)`.

    Raises:
        InputError: the game or the expert is refused.
    """
    params = dict(spec.params)
    expert = parse(str(params.pop("expert", "nash")))
    if expert.name not in EXPERTS:
        raise InputError(f"{expert} is no expert at other games", nearest(expert.name, EXPERTS))
    bots.read_options(Spec(spec.name, "", (), tuple(params.items())), {}, "data set")
    if len(spec.args) != 1:
        raise InputError(f"{spec} does not name one game", "for example positions(leduc_poker)")
    task = task_spec(str(spec.args[0]))
    if not is_openspiel(task):
        raise InputError(f"{task} is no game of OpenSpiel", "snake-moves has positions of Snake")
    return _moves(task, _Walker(search.build(expert)), seed)


class _Walker:
    """Plays at random, and labels every position with what an expert would do there; "" where that is not sure."""

    def __init__(self, expert: Player) -> None:
        self.name = f"walker({expert.name})"
        self._expert = expert

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        labels = self._labels(turns)
        moves = []
        for turn, label in zip(turns, labels, strict=True):
            legal = bots.legal_of(turn, self.name)
            index = int(uniform(turn.seed) * len(legal))
            moves.append(Move(legal[index], index=index, label=label or _UNSURE))
        return moves

    def _labels(self, turns: Sequence[Turn]) -> list[str]:
        if not isinstance(self._expert, Explicit):
            return [move.text for move in self._expert.act(turns)]
        found = []
        for turn, row in zip(turns, self._expert.probabilities(turns), strict=True):
            top = max(row)
            found.append(bots.legal_of(turn, self.name)[row.index(top)] if top >= _SURE else "")
        return found


_UNSURE = "\x00"


def _moves(task: Spec, player: Player, seed: int) -> Made:
    seats = make_env(Task(task)).num_seats
    first = next(_decisions(_games(task, player, seats, seed, "rules")))[0]
    rules = first.messages[0].content if first.messages[0].role == "system" else ""

    def candidates(split: str) -> Iterator[Question]:
        for number, (turn, label, game) in enumerate(_decisions(_games(task, player, seats, seed, split))):
            legal = turn.legal or ()
            if label not in legal or len(legal) < 2:
                continue
            told = "\n\n".join(m.content for m in turn.messages if m.content != rules)
            question = Question(f"{split}-{number}", told, choice_answer(legal.index(label)), legal, game)
            if home(key_of(question)) == split:
                yield question

    return Made("choice", f"{rules}\n{STYLES['choice']}".strip(), candidates)


def _games(task: Spec, player: Player, seats: int, seed: int, split: str) -> Iterator[Trajectory]:
    """Games without end; the deals of a split are its own."""
    for first in count(0, _GAMES):
        deals = (stream("positions", split, seed, i) >> 33 for i in range(first, first + _GAMES))
        for finished in collect([Game(Task(task, deal), (player,) * seats) for deal in deals], make_env):
            if finished.error:
                raise EnvBroken(f"a game of {task} broke: {finished.error}")
            yield from finished.trajectories


def _decisions(games: Iterator[Trajectory]) -> Iterator[tuple[Turn, str, str]]:
    """Turn, the move that is right there, and the game's name."""
    for trajectory in games:
        for step in trajectory.steps:
            yield step.turn, step.move.label or step.move.text, f"game {trajectory.task.seed}"
