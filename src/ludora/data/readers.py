"""Decisions to imitate, from files of three formats, told apart line by line.

| a line is                                          | and holds                                                     |
|----------------------------------------------------|---------------------------------------------------------------|
| `{"kind": "trajectory", ...}`                      | one game of ours, see `data.trajectories`                     |
| `{"moves": [{"game_state", "move", "llm_response"}]}` | one game of Snake; prompts are made as with `text=seed`    |
| `{"prompt", "completion"}`                         | one move of Snake; the last `Move: X`, `Conclusion: X` counts |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ludora.data.lines import Memo, Reading, Unreadable, need, read_lines, short
from ludora.data.trajectories import close_file, from_object, new_file
from ludora.envs.snake_game import MOVES
from ludora.envs.snake_texts import rules, thinking_prompt
from ludora.types import Message, Trajectory

HISTORY = 20  # moves shown in a prompt that is made for a foreign game, as many as `text=seed` shows
_SAID = re.compile(
    r"\b(?:conclusion|move)\s*:\s*(?:the\s+move\s+is\s*:?\s*)?[*_`\"']*(up|down|left|right)\b.*$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Example:
    """One decision: what was read, what was legal (None: any text), the move, and why ("": nothing was said).

    `game` counts the good lines of its file from 0. What belongs to one game must not be split between train and eval.
    """

    messages: tuple[Message, ...]
    legal: tuple[str, ...] | None
    move: str
    reasoning: str
    game: int

    @property
    def answer(self) -> str:
        """Reasoning, then `Move: X`."""
        return f"{self.reasoning}\nMove: {self.move}" if self.reasoning else f"Move: {self.move}"


def read_examples(path: Path) -> Reading[Example]:
    """The decisions of a file.

    Raises:
        InputError: there is no such file.
    """
    memo = Memo()
    return read_lines(path, lambda data, game: _examples(data, game, memo))


def examples_of(trajectory: Trajectory, game: int = 0) -> list[Example]:
    """The decisions of a trajectory, each with the move that is to be learnt there."""
    return [
        Example(s.turn.messages, s.turn.legal, s.move.label or s.move.text, s.move.reasoning, game)
        for s in trajectory.steps
    ]


def _examples(data: Mapping[str, Any], game: int, memo: Memo) -> list[Example]:
    if "kind" in data:
        return examples_of(from_object(data, memo), game)
    if "moves" in data:
        return _foreign_game(need(data, "moves", list), game)
    if "prompt" in data or "completion" in data:
        return [_foreign_row(need(data, "prompt", str), need(data, "completion", str), game)]
    raise Unreadable("it has neither 'kind', nor 'moves', nor 'prompt' and 'completion'")


def _foreign_game(moves: list[Any], game: int) -> list[Example]:
    """A list of moves, each with the state before it; the prompts show the moves before."""
    if not moves:
        raise Unreadable("'moves' is empty")
    examples: list[Example] = []
    done: list[str] = []
    for number, data in enumerate(moves):
        try:
            if not isinstance(data, dict):
                raise Unreadable("it is not an object")
            state = data.get("game_state")
            told = _state(state) if isinstance(state, dict) else need(data, "game_state", str)
            move = _move(need(data, "move", str))
            said = need(data, "llm_response", str) if data.get("llm_response") is not None else ""
        except Unreadable as error:
            raise Unreadable(f"move {number}: {error}") from None
        prompt = Message("user", thinking_prompt(told, done, HISTORY))
        examples.append(Example((rules("seed", False), prompt), MOVES, move, _SAID.sub("", said).strip(), game))
        done.append(move)
    return examples


def _state(state: Mapping[str, Any]) -> str:
    """An object as lines of `key: value`."""
    if not state:
        raise Unreadable("'game_state' is empty")
    lines = [f"{key}: {value if isinstance(value, str) else short(value, 10_000)}" for key, value in state.items()]
    return need({"game_state": "\n".join(lines)}, "game_state", str)  # type: ignore[no-any-return]


def _move(text: str) -> str:
    word = text.strip().lower()
    if word not in MOVES:
        raise Unreadable(f"'move' is {short(text)}, not one of {', '.join(MOVES)}")
    return word


def _foreign_row(prompt: str, completion: str, game: int) -> Example:
    """One move; what is said before its last declaration is the reasoning."""
    said = list(_SAID.finditer(completion))
    if not said:
        raise Unreadable("'completion' names no move (Move: X or Conclusion: X)")
    if not prompt.strip():
        raise Unreadable("'prompt' is empty")
    reasoning = completion[: said[-1].start()].strip()
    return Example((Message("user", prompt),), MOVES, said[-1][1].lower(), reasoning, game)


def write_messages(path: Path, examples: Iterable[Example], *, reasoning: bool) -> int:
    """Write each decision as a chat that ends with its answer, `{"messages": [...]}`; returns how many there are.

    Args:
        path: of the new file.
        examples: what to write.
        reasoning: answer with the reasoning and `Move: X`; else with the move alone.

    Raises:
        InputError: the file exists already.
    """
    temporary, written, done = new_file(path), 0, False
    file = temporary.open("w", encoding="utf-8", newline="\n")
    try:
        for example in examples:
            answer = Message("assistant", example.answer if reasoning else example.move)
            chat = [{"role": m.role, "content": m.content} for m in (*example.messages, answer)]
            file.write(json.dumps({"messages": chat}, ensure_ascii=False) + "\n")
            written += 1
        done = True
    finally:
        close_file(file, temporary, path, keep=done)
    return written
