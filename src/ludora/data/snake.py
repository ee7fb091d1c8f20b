"""Expert games of Snake as training data: played, split by game, written, counted, and turned into tables.

Equal arguments write equal files, to the last byte.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ludora.data.lines import Memo, Reading, Unreadable, read_lines
from ludora.data.trajectories import Writer, close_file, from_object, new_file, no_place
from ludora.envs.build import make_env, task_spec
from ludora.envs.snake import replay
from ludora.envs.snake_game import BIT, FREE, MOVES, Position
from ludora.errors import EnvBroken, InputError
from ludora.fields import MOST_GAMES
from ludora.players.base import Player
from ludora.rng import generator, stream
from ludora.rollout import Game, play
from ludora.types import Spec, Task, Trajectory

FILES = {"train": "train.jsonl", "eval": "eval.jsonl"}
_SLOTS = 16  # games in flight; more only hold memory, since an expert gains nothing from a batch
# In the order of the origin's tables.
COLUMNS = (
    *("game_id", "step_in_game", "head_x", "head_y", "apple_x", "apple_y", "snake_length"),
    *(f"apple_dir_{move}" for move in MOVES),
    *("danger_straight", "danger_left", "danger_right"),
    *(f"free_space_{move}" for move in MOVES),
    "target_move",
)
_LEFT, _RIGHT = (2, 3, 1, 0), (3, 2, 0, 1)  # the moves to the left and right of a heading


@dataclass(slots=True)
class Statistics:
    """What one file holds. `distinct_prompts` counts different texts of the last message: what a cache has to keep."""

    games: int = 0
    moves: int = 0
    apples_mean: float = 0.0
    apples_min: int = 0
    apples_max: int = 0
    steps_mean: float = 0.0
    end_reasons: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    relabelled: int = 0  # moves whose label is not the move that was played
    distinct_prompts: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Counts:
    """Statistics in the making."""

    apples: list[int] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    relabelled: int = 0
    prompts: set[str] = field(default_factory=set)

    def add(self, t: Trajectory) -> None:
        self.apples.append(int(t.info["apples"]))
        self.ends[str(t.info["end_reason"])] += 1
        for step in t.steps:
            self.labels[step.move.label or step.move.text] += 1
            self.relabelled += bool(step.move.label)
            self.prompts.add(step.turn.messages[-1].content)

    def statistics(self, size: int) -> Statistics:
        games, moves = len(self.apples), sum(self.labels.values())
        if not games:
            return Statistics(bytes=size)
        return Statistics(
            games=games,
            moves=moves,
            apples_mean=sum(self.apples) / games,
            apples_min=min(self.apples),
            apples_max=max(self.apples),
            steps_mean=moves / games,
            end_reasons=dict(sorted(self.ends.items())),
            labels={move: self.labels[move] for move in MOVES},
            relabelled=self.relabelled,
            distinct_prompts=len(self.prompts),
            bytes=size,
        )


# ---- playing -------------------------------------------------------------------------------------------------------


def check_games(games: int, what: str, done: str, hint: str) -> None:
    """Refuse a number of games (`what`) that nobody can have `done`.

    Raises:
        InputError: it is below 1, or more than can be counted in memory.
    """
    if not 1 <= games <= MOST_GAMES:
        bound = f"at least 1 {what} must" if games < 1 else f"at most {MOST_GAMES:,} {what}s can"
        raise InputError(f"{bound} be {done}, not {games}", hint)


def expert_games(spec: Spec, expert: Player, games: int, seed: int) -> Iterator[Trajectory]:
    """`games` games in order; number i deals from (seed, i) alone. None of them is a deal of an evaluation.

    Raises:
        EnvBroken: a game broke.
    """
    tasks = (Task(spec, stream("snake-data", seed, i) >> 33) for i in range(games))
    waiting: dict[int, Trajectory] = {}
    due = 0
    for finished in play((Game(task, (expert,)) for task in tasks), make_env, slots=_SLOTS):
        if finished.error:
            raise EnvBroken(f"game {finished.number} broke: {finished.error}")
        waiting[finished.number] = finished.trajectories[0]
        while due in waiting:  # shorter games end sooner, and the file keeps the order of the deals
            yield waiting.pop(due)
            due += 1


def eval_numbers(games: int, share: float, seed: int) -> frozenset[int]:
    """Which games are kept for evaluation: round(share * games) of them, drawn from the seed.

    At least one if a share is asked for at all, and at least one is left for training.

    Raises:
        InputError: the share is not in [0, 1), or one game cannot be split.
    """
    if not 0 <= share < 1:
        raise InputError(f"the share for evaluation is at least 0 and below 1, not {share:g}", "for example 0.1")
    if not share:
        return frozenset()
    if games < 2:
        raise InputError(f"{games} game cannot be split into train and eval", "play more games, or --eval-share 0")
    count = min(max(1, round(share * games)), games - 1)
    return frozenset(generator("split", seed).sample(range(games), count))


def generate(
    folder: Path,
    task: str,
    expert: Player,
    *,
    games: int,
    seed: int = 0,
    eval_share: float = 0.1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Statistics]:
    """Play expert games and write them into a folder, split by game.

    Args:
        folder: made if need be; gets `train.jsonl` and, with a share, `eval.jsonl`.
        task: a TASK of Snake.
        expert: who plays.
        games: how many.
        seed: of the deals and the split.
        eval_share: of the games, kept out of training.
        progress: called after every game.

    Returns:
        Statistics of each file written, by `train` and `eval`.

    Raises:
        InputError: the task is not Snake, a file is there already or cannot be made, or a value is out of range.
    """
    spec = task_spec(task)
    if spec.name != "snake":
        raise InputError(f"{spec} is not snake", "for example snake(size=8)")
    check_games(games, "game", "played", "--games 200")
    held_out = eval_numbers(games, eval_share, seed)
    files = {part: folder / name for part, name in FILES.items()}
    try:
        there = [path for path in files.values() if path.exists()]
    except OSError as error:
        raise no_place(folder, error) from None
    if there:
        raise InputError(f"{there[0]} exists already", "choose another folder, or delete it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_place(folder, error) from None
    parts = ("train", "eval") if held_out else ("train",)
    counts = {part: _Counts() for part in parts}
    writers = {part: Writer(files[part]) for part in parts}
    done = False
    try:
        for number, trajectory in enumerate(expert_games(spec, expert, games, seed)):
            part = "eval" if number in held_out else "train"
            writers[part].write(trajectory)
            counts[part].add(trajectory)
            progress()
        done = True
    finally:
        for writer in writers.values():
            writer.close(keep=done)
    return {part: counts[part].statistics(files[part].stat().st_size) for part in parts}


# ---- tables --------------------------------------------------------------------------------------------------------


def snake_games(path: Path) -> Reading[Trajectory]:
    """The games of a file, which replay; a line that holds another game, or one that does not replay, is a bad one.

    Raises:
        InputError: there is no such file, or it holds no line at all.
    """
    memo = Memo()
    found = read_lines(path, lambda data, place: _replayable(from_object(data, memo)))
    if not found.items and not found.bad:
        raise InputError(f"{path} holds no games", "ludora data snake writes some")
    return found


def _replayable(trajectory: Trajectory) -> Trajectory:
    try:
        _positions(trajectory)
    except InputError as error:
        raise Unreadable(error.message) from None
    return trajectory


def write_table(path: Path, trajectories: Iterable[Trajectory]) -> int:
    """One row of `COLUMNS` per decision, as CSV, from games that are replayed; returns how many rows there are.

    Raises:
        InputError: the file exists already or cannot be made, a game is not of Snake, or its record does not replay.
    """
    temporary, file = new_file(path, newline="")
    rows, done = 0, False
    try:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for game, trajectory in enumerate(trajectories, start=1):
            for row in table_rows(trajectory, game):
                table.writerow(row)
                rows += 1
        done = True
    finally:
        close_file(file, temporary, path, keep=done)
    return rows


def table_rows(trajectory: Trajectory, game: int) -> Iterator[Mapping[str, int | str]]:
    """The rows of a game: what held before each move, and the move to learn.

    Raises:
        InputError: the game is not of Snake, or its record does not replay.
    """
    steps = enumerate(zip(_positions(trajectory), trajectory.steps, strict=True), start=1)
    for number, (position, step) in steps:
        label = step.move.label or step.move.text
        yield {"game_id": game, "step_in_game": number, **numbers(position), "target_move": label.upper()}


def _positions(trajectory: Trajectory) -> list[Position]:
    """The position before each move.

    Raises:
        InputError: the game is not of Snake, or its record does not replay.
    """
    task = trajectory.task
    if task.env.name != "snake":
        raise InputError(f"the game is {task.env}, not snake", "only games of snake have a table")
    env, positions = replay(task, [step.move.text for step in trajectory.steps])
    told = {key: trajectory.info.get(key, value) for key, value in env.info().items()}
    if env.info() != told:
        raise InputError(f"the game replays to {env.info()}, not to {told}", "the record and its task do not match")
    return positions


def numbers(position: Position) -> dict[str, int]:
    """What a table tells of a position.

    Danger is relative to the heading (up before the first move), so that it says nothing about the move that was
    chosen, and counts walls and body alike. Free space is the number of free cells in a straight line.
    """
    board = position.board
    (x, y), (apple_x, apple_y) = board.xy(position.head), board.xy(position.apple)
    heading = max(position.heading, 0)
    ahead = (apple_y > y, apple_y < y, apple_x < x, apple_x > x)
    sides = {"straight": heading, "left": _LEFT[heading], "right": _RIGHT[heading]}
    return {
        **{"head_x": x, "head_y": y, "apple_x": apple_x, "apple_y": apple_y, "snake_length": len(position.body)},
        **{f"apple_dir_{move}": int(is_there) for move, is_there in zip(MOVES, ahead, strict=True)},
        **{f"danger_{side}": int(position.look(move) != FREE) for side, move in sides.items()},
        **{f"free_space_{move}": _free_space(position, number) for number, move in enumerate(MOVES)},
    }


def _free_space(position: Position, move: int) -> int:
    board, cell, free = position.board, position.head, 0
    while BIT[cell := board.around[cell][move]] & position.open:
        free += 1
    return free
