"""Kuhn poker and Leduc poker. Short above all: these are the games whose exact value is followed in training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ludora.envs.texts.base import GameText

RANKS = ("jack", "queen", "king")

# --- Kuhn poker: the string is the card's number and the moves so far, for example "2pb" ---

_KUHN_RULES = (
    "Kuhn poker, two players, one jack, one queen, one king; king is high. Ante 1 chip, get one card. Check or bet 1 "
    "chip; only one bet is allowed, and the other player calls or folds. The higher card wins the pot."
)
_KUHN_STORY = {
    "": "You act first. Bets: none. Pot 2.",
    "p": "You act second. Bets: they check. Pot 2.",
    "b": "You act second. Bets: they bet. Pot 3, 1 to call.",
    "pb": "You act first. Bets: you check, they bet. Pot 3, 1 to call.",
}


def _kuhn_state(text: str, seat: int, params: Mapping[str, Any]) -> str:
    return f"{_KUHN_STORY[text[1:]]} You hold: {RANKS[int(text[0])]}."


def _kuhn_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    pair = ("Fold", "Call") if text.endswith("b") else ("Check", "Bet")
    return tuple(pair[action] for action in actions)


# --- Leduc poker: "[Observer: 0][Private: 0][Round 2][Player: 0][Pot: 4][Money: 98 98][Public: 4][Round1: 2 1]..." ---

_LEDUC_RULES = (
    "Leduc poker, two players, two jacks, two queens, two kings; king is high. Ante 1 chip, get one card, bet; then a "
    "public card, bet again, the same player first. Raises are 2 chips in round one, 4 in round two, at most two per "
    "round. A pair with the public card wins, else the higher card; equal ranks split."
)
_RAISE = 2


def _field(text: str, name: str) -> str:
    match = re.search(rf"\[{name}: ?([^\]]*)\]", text)
    return match[1].strip() if match else ""


def _rank(number: int, params: Mapping[str, Any]) -> int:
    """Suits decide nothing in Leduc, so the text leaves them out: 936 information states read as 288."""
    return number if params.get("suit_isomorphism") else number // 2


def _bets(moves: str, first: int, seat: int) -> str:
    """One betting round in words; a call with nothing to call is a check."""
    words, raised = [], False
    for i, move in enumerate(int(m) for m in moves.split()):
        who = "you" if (first + i) % 2 == seat else "they"
        words.append(f"{who} {'raise' if move == _RAISE else 'call' if raised else 'check'}")
        raised = raised or move == _RAISE
    return ", ".join(words) or "none"


def _to_call(text: str, seat: int) -> int:
    money = [int(m) for m in _field(text, "Money").split()]
    return money[seat] - money[1 - seat]


def _leduc_state(text: str, seat: int, params: Mapping[str, Any]) -> str:
    """The hand is last, next to where the model answers: it learns to use it in half the updates (`docs/log.md`)."""
    first, mine = int(params["starting_player"]), RANKS[_rank(int(_field(text, "Private")), params)]
    hand = mine
    parts = [
        f"You act {'first' if seat == first else 'second'}.",
        f"Round one: {_bets(_field(text, 'Round1'), first, seat)}.",
    ]
    if public := _field(text, "Public"):
        shown = RANKS[_rank(int(public), params)]
        hand = f"pair of {mine}s" if shown == mine else f"{mine}, no pair"
        parts += [f"Public card: {shown}.", f"Round two: {_bets(_field(text, 'Round2'), first, seat)}."]
    to_call = _to_call(text, seat)
    parts.append(f"Pot {_field(text, 'Pot')}" + (f", {to_call} to call." if to_call else "."))
    return " ".join([*parts, f"You hold: {hand}."])


def _leduc_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    facing = _to_call(text, int(_field(text, "Observer"))) > 0
    ours = ("Fold", "Call" if facing else "Check", "Raise")
    return tuple(ours[action] for action in actions)


def kuhn_poker(params: Mapping[str, Any]) -> GameText | None:
    """Two players only."""
    return GameText(_KUHN_RULES, _kuhn_state, _kuhn_names) if params["players"] == 2 else None


def leduc_poker(params: Mapping[str, Any]) -> GameText | None:
    """Two players only. With `action_mapping` the engine offers illegal actions and turns them into others."""
    if params["players"] != 2 or params["action_mapping"]:
        return None
    return GameText(_LEDUC_RULES, _leduc_state, _leduc_names)
