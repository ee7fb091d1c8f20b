"""Resampled positions are those that a seat cannot tell from the true one, and all of them come up."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random
from typing import Any

import pyspiel
import pytest

from ludora.players.resample import resampler


def positions(text: str, seed: int) -> list[Any]:
    """The decision points of one random game."""
    random, state, found = Random(seed), pyspiel.load_game(text).new_initial_state(), []
    while not state.is_terminal():
        if not state.is_chance_node():
            found.append(state.clone())
        state.apply_action(random.choice(state.legal_actions()))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "liars_dice(numdice=5)",
        "liars_dice(numdice=1)",
        "phantom_ttt(obstype=reveal-nothing)",
        "phantom_ttt(obstype=reveal-numturns)",
        "leduc_poker",
    ],
)
def test_the_seat_cannot_tell_them_apart(text: str) -> None:
    others = set()
    for seed in range(15):
        for state in positions(text, seed):
            seat = state.current_player()
            draw, random = resampler(state, seat), Random(seed)
            for _ in range(4):
                other = draw(random)
                assert other.current_player() == seat and not other.is_terminal()
                assert other.information_state_string(seat) == state.information_state_string(seat)
                assert other.legal_actions() == state.legal_actions()
                others.add(str(other) == str(state))
    assert False in others


def test_liars_dice_are_rolled_fairly() -> None:
    state = pyspiel.load_game("liars_dice(numdice=1,dice_sides=4)").new_initial_state()
    for action in (2, 0, 1):  # my three, their one, my bid
        state.apply_action(action)
    draw, random = resampler(state, 1), Random(0)
    dice = Counter(draw(random).history()[0] for _ in range(4000))
    assert set(dice) == set(range(4)) and all(abs(n - 1000) < 120 for n in dice.values())
    assert {draw(random).history()[1] for _ in range(50)} == {0}


def everything_seen(history: tuple[int, ...], obstype: str, seat: int) -> str | None:
    """What a seat knows after tries of squares, None where they are no game in which it must move."""
    state = pyspiel.load_game(f"phantom_ttt(obstype={obstype})").new_initial_state()
    for action in history:
        if state.is_terminal() or action not in state.legal_actions():
            return None
        state.apply_action(action)
    return None if state.current_player() != seat else state.information_state_string(seat)


@pytest.mark.parametrize("obstype", ["reveal-nothing", "reveal-numturns"])
def test_every_phantom_world_comes_up_equally_often(obstype: str) -> None:
    """Against all sequences of the same length; x tried the centre, o somewhere, x there again or not."""
    for history in [(4, 0, 8), (4, 0, 0, 8), (4, 4, 0)]:
        state = pyspiel.load_game(f"phantom_ttt(obstype={obstype})").new_initial_state()
        for action in history:
            state.apply_action(action)
        seat = state.current_player()
        seen = everything_seen(history, obstype, seat)
        lengths = {len(history)} if obstype == "reveal-numturns" else {len(history), len(history) - 1}
        worlds = {w for n in lengths for w in product(range(9), repeat=n) if everything_seen(w, obstype, seat) == seen}
        if obstype == "reveal-nothing":  # the other's failed tries are not played
            worlds = {w for w in worlds if len(w) == min(map(len, worlds))}
        draw, random = resampler(state, seat), Random(1)
        found = Counter(tuple(draw(random).history()) for _ in range(300 * len(worlds)))
        assert set(found) == worlds
        assert all(abs(n - 300) < 90 for n in found.values())
