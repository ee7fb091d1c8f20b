"""Random games seen through what a seat reads: the ground on which the rules texts are refereed.

A referee knows nothing but a rules text: it reads a position out of a state text, says what is legal and what comes
next, and is compared with what the engine offers and shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ludora.envs.openspiel import state_turn
from ludora.envs.openspiel_games import chance_outcomes, draw, load
from ludora.grammar import parse
from ludora.rng import generator

Board = list[list[str]]


@dataclass(frozen=True)
class Seen:
    """One decision: who reads what, may do what, and did what."""

    seat: int
    told: str
    legal: tuple[str, ...]
    move: str


@dataclass(frozen=True)
class Played:
    """A whole game: its rules text, every decision, what each was paid, and the engine's last state."""

    rules: str
    seen: tuple[Seen, ...]
    returns: tuple[float, ...]
    end: Any


def play(text: str, seed: int = 0, prefer: Any = None) -> Played:
    """A random game; `prefer(told, legal)` may choose instead, by a text or None."""
    spec = parse(text)
    random, state, seen = generator("texts", seed), load(spec).game.new_initial_state(), []
    while not state.is_terminal():
        if state.is_chance_node():
            state.apply_action(draw(chance_outcomes(state), random))
            continue
        chosen: dict[int, int] = {}
        seats = range(state.num_players()) if state.is_simultaneous_node() else [state.current_player()]
        for seat in seats:
            turn = state_turn(spec, state, seat)
            assert turn.legal
            move = (prefer(turn.messages[1].content, turn.legal) if prefer else None) or random.choice(turn.legal)
            seen.append(Seen(seat, turn.messages[1].content, turn.legal, move))
            chosen[seat] = turn.state.actions[turn.legal.index(move)]
        if state.is_simultaneous_node():
            state.apply_actions([chosen[seat] for seat in sorted(chosen)])
        else:
            state.apply_action(chosen[state.current_player()])
    return Played(load(spec).rules.content, tuple(seen), tuple(state.returns()), state)


def pairs(played: Played) -> Iterator[tuple[Seen, Seen | None]]:
    """Every decision with the one after it, None after the last."""
    yield from zip(played.seen, [*played.seen[1:], None], strict=True)


def board(told: str) -> Board:
    """The rows of a drawn board, row 1 first, whichever way it is numbered."""
    rows = [line.split() for line in told.splitlines() if re.fullmatch(r" *\d+( \S)+", line)]
    return [row[1:] for row in sorted(rows, key=lambda row: int(row[0]))]


def place(name: str) -> tuple[int, int]:
    """`c3` as (row, column) of `board`."""
    return int(name[1:]) - 1, ord(name[0]) - ord("a")


def name(row: int, column: int) -> str:
    return f"{chr(ord('a') + column)}{row + 1}"
