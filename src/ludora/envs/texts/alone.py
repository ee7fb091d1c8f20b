"""2048, blackjack and solitaire: one player against chance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ludora.envs.texts.base import GameText, Params, as_named, field

# --- 2048: four rows of numbers, 0 where nothing is ---


def _2048_state(text: str, seat: int, params: Params) -> str:
    rows = text.strip().splitlines()
    return "\n".join(" ".join("." if cell == "0" else cell for cell in row.split()) for row in rows)


def game_2048(params: Params) -> GameText | None:
    """The 4x4 board; up to whatever tile ends it."""
    rules = (
        "2048 on a 4x4 board. A move slides all tiles up, right, down or left as far as they go; two equal tiles that "
        "meet become one of twice the number, once per move, and score that number. A move must slide a tile or merge "
        "two; for this, a merge into a tile that the last move made by merging does not count. After each move a new "
        "tile appears on a random empty cell: 2, or 4 one time in ten. The game ends when no move is left, or with a "
        f"tile of {params['max_tile']}. Score as much as you can."
    )
    return GameText(rules, _2048_state, as_named)


# --- Blackjack: "Player 0: Cards: C7 S6", "Dealer: Cards: ?? DA" ---

_BLACKJACK_RULES = (
    "Blackjack, one player against the dealer, one pack of 52 cards. Cards are suit then rank (C7: seven of clubs). "
    "Number cards count their number, pictures 10, an ace 11, or 1 where 11 would go over 21. Hit takes a card, Stand "
    "ends your turn; over 21 you lose at once. Then the dealer, one of whose two cards you see, takes cards until they "
    "count 17 or more. The higher count wins, the dealer loses over 21, equal counts are a draw. Two first cards of 21 "
    "win no more."
)


def _blackjack_state(text: str, seat: int, params: Params) -> str:
    mine = re.search(r"Player 0: Cards: (.*)", text)[1].split()  # type: ignore[index]
    theirs = re.search(r"Dealer: Cards: (.*)", text)[1].split()  # type: ignore[index]
    total, soft = _total([card[1] for card in mine])
    shown = [card for card in theirs if card != "??"]
    return (
        f"Your cards: {' '.join(mine)}; they count {total}{' (an ace as 11)' if soft else ''}. "
        f"The dealer shows {' '.join(shown)}."
    )


def _total(ranks: Sequence[str]) -> tuple[int, bool]:
    """The best count, and whether an ace counts 11 in it."""
    total = sum(1 if rank == "A" else 10 if rank in "TJQK" else int(rank) for rank in ranks)
    soft = "A" in ranks and total + 10 <= 21
    return total + 10 * soft, soft


def blackjack(params: Params) -> GameText | None:
    """The one there is."""
    return GameText(_BLACKJACK_RULES, _blackjack_state, as_named)


# --- Solitaire: lines "WASTE", "FOUNDATIONS", "TABLEAUS" and one per column; with the number of moves made ---

_SIGNS = str.maketrans({"♠": "S", "♥": "H", "♦": "D", "♣": "C"})
_DEALT = 31  # the face-up cards and the waste, which the engine counts as moves
_BACK, _EMPTY = "\U0001f0a0", "\U0001f0bf"  # a card's back, an empty column


def _solitaire_reads(state: Any, seat: int) -> str:
    return f"{state.observation_string(seat)}\nhistory: {len(state.history())}"


def _solitaire_state(text: str, seat: int, params: Params) -> str:
    plain = text.translate(_SIGNS)
    waste = re.search(r"WASTE *: (.*)", plain)[1].split()  # type: ignore[index]
    done = re.search(r"FOUNDATIONS *: (.*)", plain)[1].split()  # type: ignore[index]
    columns = plain.split("TABLEAUS    : \n")[1].split("TARGETS")[0].splitlines()
    told = [
        "Waste: " + (" ".join(f"[{card}]" if i % 3 == 0 else card for i, card in enumerate(waste)) or "empty"),
        "Foundations: " + ", ".join(f"{pile[-1]} {'empty' if len(pile) == 1 else 'up to ' + pile}" for pile in done),
    ]
    for i, column in enumerate(columns):
        cards = column.split()
        hidden = cards.count(_BACK)
        shown = " ".join(card for card in cards if card != _BACK)
        told.append(f"Column {i + 1}: " + (f"{hidden} face down, {shown}" if hidden else shown))
    if len(columns) < 7:  # the engine does not draw them, and so they have no number
        told.append(f"Empty columns: {7 - len(columns)}")
    left = params["depth_limit"] - int(field(text, "history"))
    return "\n".join([*told, f"Moves left: {left}."])


def _solitaire_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    told = []
    for name in names:
        target, arrow, source = name.partition(" ← ")
        if not arrow:  # where nothing else can be done
            told.append("End")
            continue
        onto, card = target.translate(_SIGNS), source.translate(_SIGNS)
        if target == _EMPTY:
            told.append(f"{card} to an empty column")
        elif onto[-1] == card[-1]:
            told.append(f"{card} to its foundation")
        else:
            told.append(f"{card} onto {onto}")
    return tuple(told)


def solitaire(params: Params) -> GameText | None:
    """Black and white signs or coloured ones read the same."""
    if params["is_colored"]:
        return None
    rules = (
        "Klondike solitaire. Cards are rank then suit (TH: ten of hearts); spades and clubs are black. Seven columns, "
        "of which only the last cards are face up; build them downwards in alternating colours. A face-up card moves "
        "with all cards on it, onto a card one higher of the other colour; only a king moves to an empty column, and "
        "not from the head of one. A face-down card that comes to the end of its column is turned up. Of the waste, "
        "the first card and every third after it, in brackets, may be played; the rest closes up, so that others "
        "become playable. Foundations go up by suit from the ace; only the last card of a column or a card in brackets "
        "goes there, and a foundation's top card may go back onto a column. A card put on its foundation scores 100 "
        "for an ace, then 90, 80, 70, 60, 50, 40, 30, 20 up to the nine, 10 from the ten on; taking it back costs the "
        "same. Turning a card up and playing one from the waste score 20. The game ends when nothing can be done, or "
        f"after {params['depth_limit'] - _DEALT} moves, where every card turned up counts as one more move. Score as "
        "much as you can."
    )
    return GameText(rules, _solitaire_state, _solitaire_names, _solitaire_reads)
