"""Is one player better than another? Both play the same deals from the same seats, and the pairs are tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ludora.evals.stats import mcnemar, mean_interval, sign_flip
from ludora.types import Outcome, Trajectory


@dataclass(frozen=True, slots=True)
class Comparison:
    """`player` against `baseline` on the same deals and seats, by what `of` says: the return, in the game's own unit,
    or a fact of its games.

    `difference` is the mean of player - baseline, `p_value` its sign-flip test. Both treat one deal, played
    from every seat, as one independent observation: its games share their cards. `improvements` and
    `regressions` count single games with a higher or lower one; `p_value_wins` is McNemar's exact test on
    the games that only one of the two won.
    """

    player: str
    baseline: str
    games: int
    deals: int
    difference: float
    difference_low: float | None
    difference_high: float | None
    p_value: float
    improvements: int
    regressions: int
    equal: int
    wins_only_player: int
    wins_only_baseline: int
    p_value_wins: float
    of: str = "return"

    @property
    def sentence(self) -> str:
        """The verdict in words; "better" is only said where the test says so at 5 %."""
        pair, where = (self.player, self.baseline), f"over {self.deals} shared deals, p = {self.p_value:.2g}"
        per = "per game" if self.of == "return" else f"{self.of} per game"
        if self.p_value > 0.05:
            size = f"{self.difference:+.2f} {per}{_between(self.difference_low, self.difference_high)}"
            return f"No reliable difference between {pair[0]} and {pair[1]}: {size} {where}."
        sign = 1 if self.difference > 0 else -1
        ends = sorted(sign * end for end in (self.difference_low, self.difference_high) if end is not None)
        size = f"{abs(self.difference):.2f} {per}{_between(*ends)}"
        return f"{pair[0]} is {'better' if sign > 0 else 'worse'} than {pair[1]} by {size} {where}."


def _between(low: float | None = None, high: float | None = None) -> str:
    return "" if low is None or high is None else f" (95 % interval {low:.2f} to {high:.2f})"


def compare(
    player: Sequence[Trajectory], baseline: Sequence[Trajectory], *, fact: str = "", seed: int = 0
) -> Comparison | None:
    """Pair two players' trajectories by deal and seat, and test the difference of their returns, or of a fact.

    Args:
        player: one trajectory per game, of the seat this player held.
        baseline: the same for the player compared with; a game that broke for either of them is left out.
        fact: what of `Trajectory.info` to compare; "" for the return. A game that does not tell it is left out.
        seed: of the sampled sign-flip test.

    Returns:
        None where not one deal was finished by both from the same seat.
    """
    ours, theirs = (
        {(t.task.seed, t.seat): t for t in games if not fact or fact in t.info} for games in (player, baseline)
    )
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    differences = {key: _value(ours[key], fact) - _value(theirs[key], fact) for key in shared}
    by_deal: dict[int, list[float]] = {}
    for (deal, _), difference in differences.items():
        by_deal.setdefault(deal, []).append(difference)
    per_deal = [math.fsum(d) / len(d) for d in by_deal.values()]
    interval = mean_interval(per_deal)
    won = [(ours[key].outcome is Outcome.WON, theirs[key].outcome is Outcome.WON) for key in shared]
    only_player, only_baseline = won.count((True, False)), won.count((False, True))
    better = sum(d > 0 for d in differences.values())
    worse = sum(d < 0 for d in differences.values())
    return Comparison(
        player=player[0].player,
        baseline=baseline[0].player,
        games=len(shared),
        deals=len(per_deal),
        difference=interval.mean,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=sign_flip(per_deal, seed=seed),
        improvements=better,
        regressions=worse,
        equal=len(shared) - better - worse,
        wins_only_player=only_player,
        wins_only_baseline=only_baseline,
        p_value_wins=mcnemar(only_player, only_baseline),
        of=fact or "return",
    )


def _value(trajectory: Trajectory, fact: str) -> float:
    return float(trajectory.info[fact]) if fact else trajectory.total
