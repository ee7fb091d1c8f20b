"""Games as JSONL: one JSON object per line, written and read here and only here.

A line of ours is one seat's view of one finished game, version 1:

    {"version": 1, "kind": "trajectory", "task": "snake(size=8)", "seed": 7, "seat": 0, "player": "bfs",
     "steps": [{"messages": [{"role": "system", "content": "..."}, ...], "legal": ["up", ...] or null, "move": "up",
                "reasoning": "" or why, "reward": 0.0, "played": "left"}, ...],
     "outcome": "won", "score": 0.7, "end": "terminated", "info": {"apples": 45, "end_reason": "win"}}

`move` is the move to learn. `played` is there only where another one was played (an expert that was made to err), and
`info` only where the game has something to tell. `opponent` (a list) is there only in games of several seats, and
`unclaimed` only where a reward came before the first move. The moves that were played replay the game from its task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ludora.data.lines import Item, Memo, Unreadable, need, need_texts, no_others, short
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.types import End, Message, Move, Outcome, Step, Task, Trajectory, Turn

VERSION = 1
KIND = "trajectory"
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class ExpertTurn:
    """A decision to learn: what one seat saw, what was legal (None: any text), the move, and why ("": not said)."""

    messages: tuple[Message, ...]
    legal: tuple[str, ...] | None
    move: str
    reasoning: str = ""


def expert_turns(trajectory: Trajectory) -> tuple[ExpertTurn, ...]:
    """The decisions of a game, each with the move that is to be learnt there."""
    return tuple(
        ExpertTurn(s.turn.messages, s.turn.legal, s.move.label or s.move.text, s.move.reasoning)
        for s in trajectory.steps
    )


# ---- writing -------------------------------------------------------------------------------------------------------


def to_line(trajectory: Trajectory) -> str:
    """A trajectory as one line, without the newline.

    Raises:
        ValueError: a number is not finite.
    """
    data: dict[str, Any] = {
        "version": VERSION,
        "kind": KIND,
        "task": str(trajectory.task.env),
        "seed": trajectory.task.seed,
        "seat": trajectory.seat,
        "player": trajectory.player,
        "steps": [_step_to_json(step) for step in trajectory.steps],
        "outcome": str(trajectory.outcome),
        "score": trajectory.score,
        "end": str(trajectory.end),
    }
    if trajectory.task.opponent:
        data["opponent"] = list(trajectory.task.opponent)
    if trajectory.unclaimed:
        data["unclaimed"] = trajectory.unclaimed
    if trajectory.info:
        data["info"] = dict(trajectory.info)
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def _step_to_json(step: Step) -> dict[str, Any]:
    turn, move = step.turn, step.move
    data = {
        "messages": [{"role": m.role, "content": m.content} for m in turn.messages],
        "legal": None if turn.legal is None else list(turn.legal),
        "move": move.label or move.text,
        "reasoning": move.reasoning,
        "reward": step.reward,
    }
    if move.label and move.label != move.text:
        data["played"] = move.text
    return data


class Writer:
    """Writes a file of trajectories line by line. It has its name only once it is closed: no half a file is ever seen.

    Raises:
        InputError: there is one already, or none can be made there.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, 0
        self._temporary, self._file = new_file(path, newline="\n")

    def write(self, trajectory: Trajectory) -> None:
        self._file.write(to_line(trajectory) + "\n")
        self.lines += 1

    def close(self, *, keep: bool = True) -> None:
        """Give the file its name, or with `keep=False` (something went wrong) remove what was written."""
        close_file(self._file, self._temporary, self.path, keep=keep)


def new_file(path: Path, *, newline: str) -> tuple[Path, TextIO]:
    """The temporary name under which `path` is written, and the file, open.

    Raises:
        InputError: there is such a file already, or none can be made there.
    """
    try:
        if path.exists():
            raise InputError(f"{path} exists already", "choose another place, or delete it first")
        temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
        return temporary, temporary.open("w", encoding="utf-8", newline=newline)
    except OSError as error:
        raise no_place(path, error) from None


def no_place(path: Path, error: OSError) -> InputError:
    """What to say where nothing can be written."""
    return InputError(f"{path} cannot be written: {error.strerror}", "choose another place, in a folder that is there")


def close_file(file: TextIO, temporary: Path, path: Path, *, keep: bool) -> None:
    """Close a file that was written under a temporary name, and rename or remove it."""
    if keep:
        file.flush()
        os.fsync(file.fileno())
    file.close()
    if keep:
        temporary.rename(path)
    else:
        temporary.unlink(missing_ok=True)


# ---- reading -------------------------------------------------------------------------------------------------------


_KEYS = frozenset({"version", "kind", "task", "seed", "seat", "player", "steps", "outcome", "score", "end"})
_STEP_KEYS = frozenset({"messages", "legal", "move", "reasoning", "reward", "played"})


def from_object(data: Mapping[str, Any], memo: Memo) -> Trajectory:
    """A trajectory from the JSON object of its line.

    Raises:
        Unreadable: it is none of this version.
    """
    if data.get("kind") != KIND:
        raise Unreadable(f"'kind' is not {KIND!r}")
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise Unreadable(f"'version' is {short(data.get('version'))}, not {VERSION}")
    no_others(data, _KEYS | {"opponent", "unclaimed", "info"})
    try:
        env = parse(need(data, "task", str))
    except InputError as error:
        raise Unreadable(f"'task': {error.message}") from None
    seat, score = need(data, "seat", int), need(data, "score", float)
    opponent = tuple(need_texts(data, "opponent")) if "opponent" in data else ()
    if seat < 0 or not 0 <= score <= 1:
        raise Unreadable("'seat' is negative" if seat < 0 else "'score' is not in 0..1")
    return Trajectory(
        Task(env, need(data, "seed", int), seat, opponent),
        seat,
        need(data, "player", str),
        tuple(_read_step(step, seat, number, memo) for number, step in enumerate(need(data, "steps", list))),
        _one_of(data, "outcome", Outcome),
        score,
        _one_of(data, "end", End),
        need(data, "unclaimed", float) if "unclaimed" in data else 0.0,
        _info(need(data, "info", dict)) if "info" in data else {},
    )


def _one_of(data: Mapping[str, Any], key: str, kind: Callable[[str], Item]) -> Item:
    value = need(data, key, str)
    try:
        return kind(value)
    except ValueError:
        raise Unreadable(f"{key!r} is {short(value)}") from None


def _info(data: Mapping[str, Any]) -> dict[str, float | str]:
    for key, value in data.items():
        need(data, key, str if isinstance(value, str) else float)
    return dict(data)  # as it was written: a whole number stays one


def _read_step(data: Any, seat: int, number: int, memo: Memo) -> Step:
    try:
        if not isinstance(data, dict):
            raise Unreadable("it is not an object")
        no_others(data, _STEP_KEYS)
        messages = memo.once(tuple(_message(m, memo) for m in need(data, "messages", list)))
        if not messages or messages[-1].role == "assistant":
            raise Unreadable("'messages' does not end with one to answer" if messages else "'messages' is empty")
        legal = None if data.get("legal", 0) is None else memo.once(tuple(need_texts(data, "legal")))
        move = need(data, "move", str)
        played = need(data, "played", str) if "played" in data else move
        if not move or (legal is not None and move not in legal):
            raise Unreadable(f"'move' is {short(move)}, which is not legal")
        index = legal.index(played) if legal and played in legal else -1
        label = move if played != move else ""
        answer = Move(played, index=index, reasoning=need(data, "reasoning", str), label=label)
        return Step(Turn(seat, messages, legal, number=number), answer, need(data, "reward", float))
    except Unreadable as error:
        raise Unreadable(f"step {number}: {error}") from None


def _message(data: Any, memo: Memo) -> Message:
    if isinstance(data, dict):
        no_others(data, frozenset({"role", "content"}))
    return memo.once(read_message(data))


def read_message(data: Any) -> Message:
    """A message from its JSON object; other keys than role and content are not looked at.

    Raises:
        Unreadable: it is none.
    """
    if not isinstance(data, dict):
        raise Unreadable("a message is not an object")
    role = need(data, "role", str)
    if role not in ROLES:
        raise Unreadable(f"a message's role is {short(role)}, not {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return Message(role, need(data, "content", str))
