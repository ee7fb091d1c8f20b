"""Positions that a seat cannot tell from the true one, for information-set search.

Most games of OpenSpiel can be resampled by the engine. Liar's dice and phantom tic-tac-toe cannot; they are done here,
by dealing anew what the seat has not seen and replaying the rest of the history. All hidden worlds that agree with
what the seat knows are equally likely, whatever the others would have done in them - as in the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Resample = Callable[[Random], Any]  # a new state, of the caller's to change


def resampler(state: Any, seat: int) -> Resample:
    """A function that draws states which `seat` cannot tell from `state`."""
    make = _OURS.get(state.get_game().get_type().short_name)
    if make:
        return make(state, seat)
    return lambda random: state.resample_from_infostate(seat, random.random)


def _replay(state: Any, actions: Sequence[int]) -> Any:
    fresh = state.get_game().new_initial_state()
    for action in actions:
        fresh.apply_action(action)
    return fresh


def _liars_dice(state: Any, seat: int) -> Resample:
    """The dice of the others are rolled again; bids bind nobody's dice.

    The engine rolls all dice of player 0, then those of player 1, and so on.
    """
    history = state.full_history()
    rolled = [item.action for item in history if item.player < 0]
    bids = [item.action for item in history if item.player >= 0]
    each = len(rolled) // state.num_players()
    sides = state.get_game().get_parameters()["dice_sides"]
    mine = range(seat * each, seat * each + each)

    def draw(random: Random) -> Any:
        dice = [die if i in mine else int(random.random() * sides) for i, die in enumerate(rolled)]
        return _replay(state, dice + bids)

    return draw


def _phantom_ttt(state: Any, seat: int) -> Resample:
    """Every way in which the other's marks may have come onto the board, as the seat knows it; one of them is drawn.

    The seat knows its own tries, in order, and which of them failed. The others' tries that failed are drawn, too,
    where the seat is told how many tries were made; elsewhere they are left out, since nobody can count them.
    """
    counted = state.get_game().get_parameters()["obstype"] == "reveal-numturns"
    worlds = _phantom_worlds([(item.player, item.action) for item in state.full_history()], seat, counted)
    return lambda random: _replay(state, worlds[int(random.random() * len(worlds))])


_LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def _phantom_worlds(history: Sequence[tuple[int, int]], seat: int, counted: bool) -> list[list[int]]:
    """All histories that agree with what `seat` saw in this one; a try fails on a square that was tried before."""
    worlds: list[list[int]] = []
    placed = [square not in {s for _, s in history[:i]} for i, (_, square) in enumerate(history)]

    def walk(at: int, actions: list[int], board: dict[int, int], tried: frozenset[int]) -> None:
        """Extend by the true history from `at` on; `tried`: squares where the other failed."""
        if at == len(history):
            worlds.append(actions)
            return
        player, square = history[at]
        if player == seat:
            # What the seat tried works in such a world exactly where it did in truth.
            if (square not in board) == placed[at]:
                walk(at + 1, [*actions, square], {**board, square: seat} if placed[at] else board, tried)
        elif placed[at]:
            for other in (s for s in range(9) if s not in board):
                after = {**board, other: player}
                if not _wins(after, player):
                    walk(at + 1, [*actions, other], after, tried)
        elif counted:
            for other in (s for s, owner in board.items() if owner == seat and s not in tried):
                walk(at + 1, [*actions, other], board, tried | {other})
        else:
            walk(at + 1, actions, board, tried)

    walk(0, [], {}, frozenset())
    return worlds


def _wins(board: dict[int, int], player: int) -> bool:
    return any(all(board.get(square) == player for square in line) for line in _LINES)


_OURS: dict[str, Callable[[Any, int], Resample]] = {"liars_dice": _liars_dice, "phantom_ttt": _phantom_ttt}
OURS = frozenset(_OURS)
