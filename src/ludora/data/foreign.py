"""Records of Snake that other programs wrote: games as lists of moves, and answers in words that end with a move."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ludora.data.lines import Unreadable, need, short
from ludora.data.trajectories import ExpertTurn
from ludora.envs.snake_game import MOVES
from ludora.envs.snake_texts import rules, thinking_prompt
from ludora.types import Message

HISTORY = 20  # moves shown in a prompt that is made for a foreign game, as many as `text=seed` shows
_SAID = re.compile(
    r"\b(?:conclusion|move)\s*:\s*(?:the\s+move\s+is\s*:?\s*)?[*_`\"']*(up|down|left|right)\b.*$",
    re.IGNORECASE | re.MULTILINE,
)


def snake_game(moves: list[Any]) -> tuple[ExpertTurn, ...]:
    """A game from `[{"game_state", "move", "llm_response"}, ...]`; prompts are made as with `text=seed`.

    Raises:
        Unreadable: a move cannot be read; its number is told.
    """
    if not moves:
        raise Unreadable("'moves' is empty")
    turns: list[ExpertTurn] = []
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
        turns.append(ExpertTurn((rules("seed", False), prompt), MOVES, move, _SAID.sub("", said).strip()))
        done.append(move)
    return tuple(turns)


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


def declared(answer: str) -> tuple[str, str]:
    """Reasoning and move of an answer in words: the last `Move: X` or `Conclusion: X` counts, what is before it is why.

    Raises:
        Unreadable: it names no move.
    """
    said = list(_SAID.finditer(answer))
    if not said:
        raise Unreadable("the answer names no move of Snake (Move: X or Conclusion: X)")
    return answer[: said[-1].start()].strip(), said[-1][1].lower()
