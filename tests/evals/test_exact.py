"""Exact evaluation, held against known values, OpenSpiel, and games that are really played."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pyspiel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.envs.build import make_env
from ludora.envs.openspiel_games import load
from ludora.errors import InputError
from ludora.evals import exact
from ludora.grammar import parse
from ludora.players.bots import FirstLegal, RandomPlayer, ScriptedPlayer
from ludora.players.search import MCTS, Nash
from ludora.rng import generator
from ludora.rollout import Game, collect
from ludora.types import Move, Outcome, Spec, Task, Turn

KUHN, LEDUC = parse("kuhn_poker"), parse("leduc_poker")


class Noise:
    """A policy drawn at random, one row per distinct prompt."""

    def __init__(self, seed: int) -> None:
        self.name, self.seed = f"noise {seed}", seed

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        rows = self.probabilities(turns)
        return [
            Move(generator(turn.seed).choices(turn.legal or (), row)[0]) for turn, row in zip(turns, rows, strict=True)
        ]

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        out = []
        for turn in turns:
            random = generator(self.seed, turn.messages[1].content)
            weights = [random.random() ** 3 for _ in turn.legal or ()]
            out.append([w / sum(weights) for w in weights])
        return out


def openspiel_policy(table: exact.Table) -> pyspiel.TabularPolicy:
    rows = {}
    for i, turn in enumerate(exact.information_states(table.spec)):
        state = turn.state.state
        pairs = zip(turn.state.actions, table.row(i).tolist(), strict=True)
        rows[state.information_state_string(turn.seat)] = list(pairs)
    return pyspiel.TabularPolicy(rows)


@pytest.mark.parametrize(
    ("text", "nash_conv", "best"),
    [
        ("kuhn_poker", 11 / 12, (0.5, 5 / 12)),
        ("leduc_poker", 4.747222222222222, (2.0875, 2.6597222222222223)),
        ("leduc_poker(suit_isomorphism=true)", 4.747222222222222, (2.0875, 2.6597222222222223)),
        ("liars_dice(dice_sides=3)", 2 * 0.5555555555555556, None),
        ("liars_dice(dice_sides=4)", 2 * 0.6550595238095238, None),
        (
            "turn_based_simultaneous_game(game=goofspiel(imp_info=true, num_cards=4, points_order=descending))",
            2 * 0.7083333333333334,
            None,
        ),
    ],
)
def test_known_values_of_uniform_play(text: str, nash_conv: float, best: tuple[float, float] | None) -> None:
    spec = parse(text)
    table = exact.tabulate(spec, RandomPlayer())
    assert exact.nash_conv(spec, table) == pytest.approx(nash_conv, abs=1e-12)
    assert exact.exploitability(spec, table) == pytest.approx(nash_conv / 2, abs=1e-12)
    if best:
        assert exact.best_response(spec, table) == pytest.approx(best, abs=1e-12)


def test_kuhn_by_hand() -> None:
    """First legal means check and fold: against it, a bet always wins the ante, two checks show the cards."""
    first, uniform = exact.tabulate(KUHN, FirstLegal()), exact.tabulate(KUHN, RandomPlayer())
    # As seat 0 it checks; the other checks (cards decide, even) or bets (it folds and loses 1), half of the time each.
    # As seat 1 it meets a bet half of the time and folds, else it checks behind and the cards decide.
    assert exact.expected_value(KUHN, first, uniform) == pytest.approx((-0.5, -0.5))
    against = exact.payoff(KUHN, first, uniform)[0]
    assert (against.win, against.draw, against.loss) == pytest.approx((0.25, 0, 0.75))
    assert against.deviation == pytest.approx(math.sqrt(1 - 0.25))  # it wins or loses exactly 1
    assert exact.best_response(KUHN, first) == pytest.approx((1, 1))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), text=st.sampled_from(["kuhn_poker", "leduc_poker", "liars_dice(dice_sides=3)"]))
def test_random_policies_agree_with_openspiel(seed: int, text: str) -> None:
    spec = parse(text)
    game = load(spec).game
    a, b = exact.tabulate(spec, Noise(seed)), exact.tabulate(spec, Noise(seed + 1))
    pa, pb = openspiel_policy(a), openspiel_policy(b)
    root = game.new_initial_state()
    as_first = pyspiel.expected_returns(root, [pa, pb], -1, True, 0.0)[0]
    as_second = pyspiel.expected_returns(root, [pb, pa], -1, True, 0.0)[1]
    assert exact.expected_value(spec, a, b) == pytest.approx((as_first, as_second), abs=1e-9)
    assert exact.nash_conv(spec, a) == pytest.approx(pyspiel.nash_conv(game, pa), abs=1e-9)
    assert exact.exploitability(spec, a) == pytest.approx(pyspiel.exploitability(game, pa), abs=1e-9)
    for seat, value in enumerate(exact.best_response(spec, b)):
        response = pyspiel.TabularBestResponse(game, seat, pb)
        assert value == pytest.approx(response.value_from_state(root), abs=1e-9)
        # No policy does better than the best response.
        assert exact.expected_value(spec, a, b)[seat] <= value + 1e-12


def test_zero_sum_games_sum_to_zero() -> None:
    a, b = exact.tabulate(LEDUC, Noise(1)), exact.tabulate(LEDUC, Noise(2))
    ab, ba = exact.payoff(LEDUC, a, b), exact.payoff(LEDUC, b, a)
    for mine, theirs in ((ab[0], ba[1]), (ab[1], ba[0])):
        assert mine.value == pytest.approx(-theirs.value)
        assert (mine.win, mine.draw) == pytest.approx((theirs.loss, theirs.draw))
        assert mine.win + mine.draw + mine.loss == pytest.approx(1)


def test_played_games_approach_the_exact_distribution() -> None:
    one, other = Noise(3), RandomPlayer()
    count = 3000
    for seat in (0, 1):
        seats = (one, other) if seat == 0 else (other, one)
        finished = collect([Game(Task(LEDUC, i), seats) for i in range(count)], make_env)
        mine = [f.trajectories[seat] for f in finished]
        returns = np.array([t.total for t in mine])
        expected = exact.payoff(LEDUC, exact.tabulate(LEDUC, one), exact.tabulate(LEDUC, other))[seat]
        error = expected.deviation / math.sqrt(count)
        assert abs(returns.mean() - expected.value) < 4 * error
        assert abs(returns.std() - expected.deviation) < 0.3
        wins = sum(t.outcome is Outcome.WON for t in mine) / count
        draws = sum(t.outcome is Outcome.DREW for t in mine) / count
        assert abs(wins - expected.win) < 0.04 and abs(draws - expected.draw) < 0.03


@pytest.mark.parametrize(("spec", "low", "high"), [(KUHN, 0, 0.001), (LEDUC, 0, 0.002)])
def test_nash_is_hard_to_exploit(spec: Spec, low: float, high: float) -> None:
    table = exact.tabulate(spec, Nash())
    assert low <= exact.nash_conv(spec, table) <= high
    uniform = exact.tabulate(spec, RandomPlayer())
    assert sum(exact.expected_value(spec, table, uniform)) > 0


def test_the_value_of_kuhn_poker() -> None:
    table = exact.tabulate(KUHN, Nash(iterations=5000))
    assert exact.expected_value(KUHN, table, table)[0] == pytest.approx(float(Fraction(-1, 18)), abs=2e-4)


def test_information_states_are_complete_turns_in_a_fixed_order() -> None:
    turns = exact.information_states(LEDUC)
    assert turns is exact.information_states(parse("leduc_poker"))
    assert [turn.seat for turn in turns] == [0] * 468 + [1] * 468
    assert len({turn.messages for turn in turns}) == 288  # suits decide nothing and are not told
    assert turns[0].messages[1].content == "You act first. Round one: none. Pot 2. You hold: jack."
    for turn in turns[::97]:
        assert turn.state.state.current_player() == turn.seat
        assert len(turn.state.actions) == len(turn.legal or ())


def test_tables_come_by_row() -> None:
    table = exact.tabulate(KUHN, ScriptedPlayer(lambda turn: (turn.legal or ())[-1], "always bets and calls"))
    assert table.player == "always bets and calls"
    assert all(table.row(i).tolist() == [0, 1] for i in range(12))


@pytest.mark.parametrize("text", ["tic_tac_toe", "hex", "goofspiel", "hearts", "backgammon"])
def test_what_is_not_exact(text: str) -> None:
    assert not exact.is_exact(parse(text))
    with pytest.raises(InputError):
        exact.information_states(parse(text))


def test_what_is_exact() -> None:
    assert exact.is_exact(KUHN) and exact.is_exact(LEDUC) and exact.is_exact(parse("liars_dice(dice_sides=3)"))


def test_players_without_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="cannot say its probabilities"):
        exact.tabulate(KUHN, MCTS(simulations=5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rows",
    [[[0.5, 0.5]] * 11 + [[1.0]], [[0.7, 0.7]] * 12, [[1.5, -0.5]] * 12, [[float("nan"), 1.0]] * 12, [[0.5, 0.5]] * 11],
)
def test_rows_that_are_no_distributions_are_refused(rows: list[list[float]]) -> None:
    class Wrong(RandomPlayer):
        def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
            return rows

    with pytest.raises(ValueError):
        exact.tabulate(KUHN, Wrong())


def test_exploitability_needs_a_zero_sum_game() -> None:
    spec = parse("tiny_hanabi")
    table = exact.tabulate(spec, RandomPlayer())
    with pytest.raises(InputError, match="not zero-sum"):
        exact.exploitability(spec, table)
    assert exact.nash_conv(spec, table) > 0
    with pytest.raises(InputError, match="not zero-sum"):
        exact.tabulate(spec, Nash())
