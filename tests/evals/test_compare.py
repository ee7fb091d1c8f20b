"""Pairs by deal and seat, one deal one observation, and words that claim no more than the test does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.evals.compare import compare
from ludora.types import End, Outcome, Spec, Task, Trajectory

Games = Sequence[tuple[int, int, float]]  # deal, seat, return


def told(name: str, games: Games) -> list[Trajectory]:
    def outcome(value: float) -> Outcome:
        return Outcome.WON if value > 0 else Outcome.LOST if value < 0 else Outcome.DREW

    return [
        Trajectory(Task(Spec("t"), deal, seat), seat, name, (), outcome(total), 0.5, End.TERMINATED, unclaimed=total)
        for deal, seat, total in games
    ]


def test_by_hand() -> None:
    ours = told("a", [(1, 0, 3.0), (1, 1, 1.0), (2, 0, -1.0), (2, 1, 2.0)])
    theirs = told("b", [(1, 0, 1.0), (1, 1, 1.0), (2, 0, 1.0), (2, 1, -2.0)])
    verdict = compare(ours, theirs)
    assert verdict is not None
    assert (verdict.games, verdict.deals) == (4, 2)
    assert verdict.difference == 1.0  # deals: (2 + 0) / 2 and (-2 + 4) / 2
    assert verdict.difference_low == verdict.difference_high == 1.0
    assert verdict.p_value == 0.5  # ++ and -- of 4 patterns
    assert (verdict.improvements, verdict.regressions, verdict.equal) == (2, 1, 1)
    assert (verdict.wins_only_player, verdict.wins_only_baseline, verdict.p_value_wins) == (1, 1, 1.0)


def test_a_game_that_broke_for_one_is_left_out() -> None:
    verdict = compare(told("a", [(1, 0, 3.0), (2, 0, 5.0)]), told("b", [(2, 0, 1.0), (3, 0, 1.0)]))
    assert verdict is not None
    assert (verdict.games, verdict.difference, verdict.difference_low) == (1, 4.0, None)
    assert compare(told("a", [(1, 0, 3.0)]), told("b", [(1, 1, 3.0)])) is None
    assert compare([], told("b", [(1, 1, 3.0)])) is None


returns = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=12)


@given(returns)
def test_swapping_the_players_swaps_the_verdict(pairs: list[tuple[int, int]]) -> None:
    ours = told("a", [(i, 0, float(x)) for i, (x, _) in enumerate(pairs)])
    theirs = told("b", [(i, 0, float(y)) for i, (_, y) in enumerate(pairs)])
    there, back = compare(ours, theirs), compare(theirs, ours)
    assert there is not None and back is not None
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.improvements, there.wins_only_player) == (back.regressions, back.wins_only_baseline)
    assert there.improvements + there.regressions + there.equal == len(pairs)


@pytest.mark.parametrize(
    ("gain", "words"), [(2.0, "a is better than b by 2.00"), (-2.0, "a is worse than b by 2.00"), (0.0, "No reliable")]
)
def test_the_sentence(gain: float, words: str) -> None:
    ours = told("a", [(i, 0, gain + (0.5 if i % 2 else -0.5)) for i in range(8)])
    verdict = compare(ours, told("b", [(i, 0, 0.0) for i in range(8)]))
    assert verdict is not None
    assert words in verdict.sentence
    assert "8 shared deals" in verdict.sentence
    low = verdict.sentence.split("interval ")[1].split(" to ")[0]
    assert float(low) < abs(gain)
