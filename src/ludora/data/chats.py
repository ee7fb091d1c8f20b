"""Decisions as chats: one line per decision, `{"messages": [..., the answer]}`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ludora.data.examples import Record
from ludora.data.foreign import declared
from ludora.data.lines import BadLine, Reading, Unreadable
from ludora.data.trajectories import ExpertTurn, close_file, new_file
from ludora.types import Message

Decisions = tuple[ExpertTurn, ...]


def decisions(found: Reading[Record]) -> Reading[Decisions]:
    """The decisions of every line. A conversation is one of Snake: its last answer must name the move."""
    items: list[Decisions] = []
    bad = list(found.bad)
    for record in found.items:
        try:
            items.append((_spoken(record.messages),) if record.messages else record.turns)
        except Unreadable as error:
            bad.append(BadLine(record.place, str(error)))
    return Reading(tuple(items), tuple(sorted(bad)))


def _spoken(messages: tuple[Message, ...]) -> ExpertTurn:
    reasoning, move = declared(messages[-1].content)
    return ExpertTurn(messages[:-1], None, move, reasoning)


def write_chats(path: Path, games: Iterable[Decisions], *, reasoning: bool) -> int:
    """Write each decision as a chat that ends with its answer; returns how many there are.

    Args:
        path: of the new file.
        games: what to write.
        reasoning: answer with the reasoning and `Move: X`; else with the move alone.

    Raises:
        InputError: the file exists already, or cannot be made there.
    """
    temporary, file = new_file(path, newline="\n")
    written, done = 0, False
    try:
        for turn in (turn for game in games for turn in game):
            said = f"{turn.reasoning}\nMove: {turn.move}".lstrip("\n") if reasoning else turn.move
            chat = [{"role": m.role, "content": m.content} for m in (*turn.messages, Message("assistant", said))]
            file.write(json.dumps({"messages": chat}, ensure_ascii=False) + "\n")
            written += 1
        done = True
    finally:
        close_file(file, temporary, path, keep=done)
    return written
