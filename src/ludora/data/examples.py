"""Examples to learn from, read from JSONL files. This is the one reader: what it makes of a line is what is learnt.

| a line is                                             | and holds                                                   |
|-------------------------------------------------------|-------------------------------------------------------------|
| `{"kind": "trajectory", ...}`                         | one seat's game of ours, see `data.trajectories`            |
| `{"moves": [{"game_state", "move", "llm_response"}]}` | one game of Snake of another program, see `data.foreign`    |
| `{"messages": [{"role", "content"}, ...]}`            | a conversation                                              |
| `{"prompt", "completion"}`                            | a conversation of two messages                              |

A line that cannot be used is never passed over in silence: it is reported with file, number and reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ludora.data.foreign import snake_game
from ludora.data.lines import BadLine, Memo, Place, Reading, Unreadable, need, read_lines
from ludora.data.trajectories import ExpertTurn, expert_turns, from_object, read_message
from ludora.errors import InputError
from ludora.types import Message


@dataclass(frozen=True, slots=True)
class Record:
    """One line: a seat's turns in one game (`task` names it, where it is known), or a conversation; never both."""

    place: Place
    task: str = ""
    seat: int = 0
    turns: tuple[ExpertTurn, ...] = ()
    messages: tuple[Message, ...] = ()


def read_examples(paths: Sequence[str]) -> Reading[Record]:
    """Read JSONL files, one after the other.

    Raises:
        InputError: a file cannot be read, or holds no line at all.
    """
    memo = Memo()
    records: list[Record] = []
    bad: list[BadLine] = []
    for path in paths:
        found = read_lines(Path(path), lambda data, place: _record(data, place, memo))
        if not found.items and not found.bad:
            raise InputError(f"{path} holds no examples", "one JSON object per line")
        records += found.items
        bad += found.bad
    return Reading(tuple(records), tuple(bad))


def _record(data: Mapping[str, Any], place: Place, memo: Memo) -> Record:
    if "kind" in data or "steps" in data:
        game = from_object(data, memo)
        return Record(place, str(game.task.env), game.seat, expert_turns(game))
    if "moves" in data:
        return Record(place, turns=snake_game(need(data, "moves", list)))
    if "messages" in data:
        return Record(place, messages=_conversation([read_message(m) for m in need(data, "messages", list)]))
    if "prompt" in data or "completion" in data:
        prompt, completion = (need(data, key, str) for key in ("prompt", "completion"))
        if not prompt.strip():
            raise Unreadable("'prompt' is empty")
        return Record(place, messages=_conversation([Message("user", prompt), Message("assistant", completion)]))
    raise Unreadable("it has neither 'kind', nor 'moves', nor 'messages', nor 'prompt' and 'completion'")


def _conversation(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages up to the last answer: what stands behind it teaches nothing."""
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
    if last < 0:
        raise Unreadable("no message is the assistant's")
    if not any(message.role == "user" for message in messages[:last]):
        raise Unreadable("the assistant answers nobody")
    roles = [message.role for message in messages[: last + 1]]
    if ("assistant", "assistant") in pairwise(roles):
        raise Unreadable("two messages of the assistant follow one another")
    if not messages[last].content.strip():
        raise Unreadable("the assistant's last message is empty")
    return tuple(messages[: last + 1])
