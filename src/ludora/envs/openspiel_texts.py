"""Which games are told in our own words: one literal table. All others get the engine's.

Rules and states are told from the engine's strings, so equal information states read the same, whatever is
hidden. Every token is computed again and again in training, so the texts are as short as a person can still
play from. What they claim is held against the engine in `tests/envs/texts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ludora.envs.texts import alone, boards, cards, chance, pieces, poker
from ludora.envs.texts.base import GameText, Params

# OpenSpiel's short name -> the text of a game with all its parameters, or None where we have none for these
_TEXTS: Mapping[str, Callable[[Params], GameText | None]] = {
    "2048": alone.game_2048,
    "amazons": boards.amazons,
    "backgammon": chance.backgammon,
    "blackjack": alone.blackjack,
    "bridge": cards.bridge,
    "checkers": pieces.checkers,
    "chess": pieces.chess,
    "clobber": boards.clobber,
    "dots_and_boxes": boards.dots_and_boxes,
    "euchre": cards.euchre,
    "gin_rummy": cards.gin_rummy,
    "go": boards.go,
    "goofspiel": chance.goofspiel,
    "hearts": cards.hearts,
    "hex": boards.hex_board,
    "kuhn_poker": poker.kuhn_poker,
    "leduc_poker": poker.leduc_poker,
    "liars_dice": chance.liars_dice,
    "othello": boards.othello,
    "oware": boards.oware,
    "phantom_ttt": chance.phantom_ttt,
    "quoridor": pieces.quoridor,
    "solitaire": alone.solitaire,
}


def own_text(name: str, params: Mapping[str, Any]) -> GameText | None:
    """Our text for a game, None where we have none for it or for these parameters.

    Args:
        name: OpenSpiel's short name.
        params: all parameters of the game, defaults included.
    """
    make = _TEXTS.get(name)
    return make(params) if make else None


def generic_rules(long_name: str, spec: str) -> str:
    """One line for a game we have no rules text of."""
    return f"You play {long_name} ({spec}) by its usual rules."


def generic_state(text: str, seat: int, seats: int) -> str:
    """The engine's own text, and which seat reads it."""
    who = "" if seats == 1 else f"You are player {seat} of players 0 to {seats - 1}.\n"
    return f"{who}{text.strip()}"
