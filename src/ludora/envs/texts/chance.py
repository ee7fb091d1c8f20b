"""Liar's dice, backgammon, Goofspiel and phantom tic-tac-toe: dice, bids made in secret, and a board half seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ludora.envs.texts.base import GameText, Params, count, field, grid, square

# --- Liar's dice: the seat's dice and the bids so far, for example "11345 9-6 10-4" ---


def _liars_state(text: str, seat: int, params: Params) -> str:
    dice, *bids = text.split()
    told = [f"{'you' if i % 2 == seat else 'they'} {bid}" for i, bid in enumerate(bids)]
    return f"Your dice: {' '.join(dice)}. Bids: {', '.join(told) or 'none'}."


def _liars_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names)


def liars_dice(params: Params) -> GameText | None:
    """For two, where a new bid of more dice may name any face."""
    dice, sides = params["numdice"], params["dice_sides"]
    if params["players"] != 2 or params["bidding_rule"] != "reset-face" or sides > 9:
        return None
    rules = (
        f"Liar's dice, two players, {count(dice, 'die|dice')} each with faces 1 to {sides}; you see your own alone. "
        f"Player 0 bids first. A bid N-F says that among all {2 * dice} dice at least N show F; faces of {sides} are "
        "wild and count as any face. A bid must name more dice than the last one, of any face, or as many of a higher "
        "face. Instead of bidding say Liar: all dice are shown, and if the last bid is true its bidder wins, else who "
        "said Liar."
    )
    return GameText(rules, _liars_state, _liars_names)


# --- Backgammon: points and dice from the engine's state, seen by the seat that moves ---


def _backgammon_reads(state: Any, seat: int) -> str:
    mine, theirs = ([state.board(player, i) for i in range(24)] for player in (seat, 1 - seat))
    observation = state.observation_string(seat)
    bar, off = re.search(r"Bar:(.*)", observation), re.search(r"Scores, X: (\d+), O: (\d+)", observation)
    assert bar and off
    bars = [bar[1].count("x"), bar[1].count("o")]
    return (
        f"mine: {' '.join(map(str, mine))}\ntheirs: {' '.join(map(str, theirs))}\n"
        f"bar: {bars[seat]} {bars[1 - seat]}\noff: {off[1 + seat]} {off[2 - seat]}\n"
        f"dice: {re.search(r'Dice: (.*)', observation)[1]}\nextra: {re.search(r'Extra turn: (.*)', observation)[1]}"  # type: ignore[index]
    )


def _points(numbers: Sequence[str], seat: int) -> str:
    """`24: 2, 13: 5`: checkers by point, the highest first, as the seat counts them."""
    found = {(i + 1 if seat == 1 else 24 - i): n for i, n in enumerate(numbers) if n != "0"}
    return ", ".join(f"{point}: {found[point]}" for point in sorted(found, reverse=True)) or "none"


def _backgammon_state(text: str, seat: int, params: Params) -> str:
    bar, off, dice = field(text, "bar").split(), field(text, "off").split(), field(text, "dice")
    roll = f"You rolled {' and '.join(dice)}"
    if dice[0] == dice[1]:
        roll += ", the last two of four moves" if field(text, "extra") == "1" else ", the first two of four moves"
    return (
        f"{roll}. Checkers by point, as you count points:\n"
        f"yours: {_points(field(text, 'mine').split(), seat)}; bar {bar[0]}, off {off[0]}\n"
        f"theirs: {_points(field(text, 'theirs').split(), seat)}; bar {bar[1]}, off {off[1]}"
    )


def _backgammon_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    """`427 - 13/8/6` without its number."""
    return tuple(name.rpartition(" - ")[2] for name in names)


def backgammon(params: Params) -> GameText | None:
    """The usual game, where only who wins counts."""
    if params["hyper_backgammon"] or params["scoring_type"] != "winloss_scoring":
        return None
    rules = (
        "Backgammon for one point. Each player counts the points from 24 down to 1, the other way round from the "
        "other: your point p is their point 25 - p. Roll two dice and move one checker by each, or one checker by "
        "both; doubles are moved twice, in two turns of two moves. A move from 13 to 8 is 13/8, and on to 6 is 13/8/6; "
        "* hits. A checker may not stop on a point with two or more of theirs; a single one there is hit and goes to "
        "the bar. A checker on the bar must enter first: with a die of n on point 25 - n. When all your checkers are "
        "on points 6 to 1 you may bear them off (Off), by an exact die, or a greater one if none is further back. Both "
        "dice must be used if possible, else one, the higher if either can be, else it is Pass. Who bears off all 15 "
        "first wins."
    )
    return GameText(rules, _backgammon_state, _backgammon_names, _backgammon_reads)


# --- Goofspiel: hands and points from the engine; prizes that are gone from the history, which everyone saw ---


def _goofspiel_reads(state: Any, seat: int) -> str:
    seen = [item.action + 1 for item in state.full_history() if item.player == -1]
    return f"{state.observation_string(seat)}\nseen: {' '.join(map(str, seen))}"


def _goofspiel_state(text: str, seat: int, params: Params) -> str:
    hands = [field(text, f"P{player} hand") for player in (0, 1)]
    points, seen = field(text, "Points").split(), set(field(text, "seen").split())
    left = [str(card) for card in range(1, params["num_cards"] + 1) if str(card) not in seen]
    return (
        f"Prize now: {field(text, 'Current point card')}. Prizes to come: {' '.join(left) or 'none'}. "
        f"Your cards: {hands[seat]}. Their cards: {hands[1 - seat]}. "
        f"You have {count(int(points[seat]), 'point')}, they have {points[1 - seat]}."
    )


def _goofspiel_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(action + 1) for action in actions)


def goofspiel(params: Params) -> GameText | None:
    """For two, with open bids, prizes in random order, all of them played for, where only who wins counts."""
    usual: dict[str, Any] = {"players": 2, "imp_info": False, "egocentric": False, "num_turns": -1}
    usual |= {"points_order": "random", "returns_type": "win_loss"}
    if any(params[key] != value for key, value in usual.items()):
        return None
    n = params["num_cards"]
    rules = (
        f"Goofspiel, two players, each with cards 1 to {n}. Prizes 1 to {n} come up in random order. For each, both "
        "choose one of their cards at the same time, then show them: the higher card wins the prize's points, with "
        "equal cards nobody gets them; both cards are gone. The last cards are played by themselves. More points win, "
        "equal points draw."
    )
    return GameText(rules, _goofspiel_state, _goofspiel_names, _goofspiel_reads)


# --- Phantom tic-tac-toe: the board as the seat knows it, the tries made where they are counted, who tried what ---


def _phantom_state(text: str, seat: int, params: Params) -> str:
    lines = text.splitlines()
    mark, other = "xo"[seat], "xo"[1 - seat]
    tries = []
    for entry in lines[-1].split() if "," in lines[-1] else ():
        player, place = entry.split(",")
        if int(player) != seat:
            tries.append("they tried")
        else:
            row, column = divmod(int(place), 3)
            taken = " (taken)" if lines[row][column] == other else ""
            tries.append(f"you {square(row, column)}{taken}")
    return f"You are {mark}. Tries so far: {', '.join(tries) or 'none'}. What you know:\n{grid(lines[:3])}"


def _phantom_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(square(*divmod(action, 3)) for action in actions)


def phantom_ttt(params: Params) -> GameText | None:
    """Where a failed try is tried again."""
    if params["gameversion"] != "classical":
        return None
    told = (
        "You are told when they try a square, but not which, nor whether it was free."
        if params["obstype"] == "reveal-numturns"
        else "You are told nothing of their tries."
    )
    rules = (
        "Phantom tic-tac-toe on a 3x3 board; columns a-c, rows 1-3 from the top. x moves first. You do not see their "
        "marks. On your turn try a square: if it is free it gets your mark and your turn ends; if their mark is there "
        f"you learn that, and try another. {told} Three marks in a row, column or diagonal win; a full board is a draw."
    )
    return GameText(rules, _phantom_state, _phantom_names)
