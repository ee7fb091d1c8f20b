"""The compiled tree and the CFR+ on it, held against OpenSpiel and against theory."""

from __future__ import annotations

import numpy as np
import pyspiel
import pytest

from ludora.envs.openspiel_games import load
from ludora.envs.openspiel_tree import compile_tree, solve, why_not_exact
from ludora.errors import InputError
from ludora.grammar import parse


@pytest.mark.parametrize(
    ("text", "states", "slots"),
    [
        ("kuhn_poker", 12, 24),
        ("leduc_poker", 936, 2184),
        ("liars_dice(dice_sides=3)", 192, 378),
        ("liars_dice(dice_sides=4)", 1024, 2040),
        (
            "turn_based_simultaneous_game(game=goofspiel(imp_info=true, num_cards=4, points_order=descending))",
            162,
            348,
        ),
    ],
)
def test_sizes_are_the_known_ones(text: str, states: int, slots: int) -> None:
    tree = compile_tree(parse(text))
    assert (len(tree.states), tree.slots) == (states, slots)
    assert tree.first[0] == 0 and (np.diff(tree.first) > 0).all()
    # Levels are the information states of each seat, without gaps, in the tree's order.
    ranges = [i for levels in tree.levels for a, b in levels for i in range(a, b)]
    assert ranges == list(range(states))
    assert [int(seat) for seat in tree.seats] == sorted(tree.seats)


def test_terminal_probabilities_sum_to_one() -> None:
    for text in ("kuhn_poker", "leduc_poker", "liars_dice(dice_sides=3)"):
        tree = compile_tree(parse(text))
        reach = tree.realisation(tree.normalise(np.random.default_rng(1).random(tree.slots)))
        assert (tree.chance * reach[tree.sequences[0]] * reach[tree.sequences[1]]).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "value"),
    [("kuhn_poker", -1 / 18), ("leduc_poker", -0.0856064), ("liars_dice(dice_sides=3)", None)],
)
def test_cfr_finds_an_equilibrium(text: str, value: float | None) -> None:
    tree = compile_tree(parse(text))
    probs = solve(tree, 400)
    best = [tree.best_value(seat, tree.realisation(probs)) for seat in (0, 1)]
    assert 0 <= sum(best) < 0.004
    if value is not None:  # the game's value lies between what each seat can be held to
        assert -best[1] <= value <= best[0]
    table = {}
    for key, start, stop, state in zip(tree.keys, tree.first, tree.first[1:], tree.states, strict=False):
        table[key] = list(zip(state.legal_actions(), probs[start:stop], strict=True))
    nash_conv = pyspiel.nash_conv(load(parse(text)).game, pyspiel.TabularPolicy(table))
    assert nash_conv == pytest.approx(sum(best), abs=1e-9)


def test_one_iteration_does_not_yet_solve() -> None:
    tree = compile_tree(parse("kuhn_poker"))
    best = [sum(tree.best_value(s, tree.realisation(solve(tree, n))) for s in (0, 1)) for n in (1, 10, 100)]
    assert best[0] > best[1] > best[2] > 0


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("chess", "too large", "play games"),
        ("tic_tac_toe", "too large", "play games"),
        ("leduc_poker(players=3)", "3 seats", "two"),
        ("goofspiel(num_cards=3)", "simultaneous", "turn_based_simultaneous_game(game=goofspiel(num_cards=3))"),
        ("backgammon", "information states", "play games"),
        ("2048", "1 seats", "two"),
    ],
)
def test_refused_games(text: str, message: str, hint: str) -> None:
    error = why_not_exact(parse(text))
    assert error and message in error.message and hint in error.hint
    with pytest.raises(InputError, match=message):
        compile_tree(parse(text))


def test_a_seat_that_forgets_is_refused() -> None:
    with pytest.raises(InputError, match="forgets"):
        compile_tree(parse("liars_dice_ir(dice_sides=3)"))
