"""From trajectories to what PPO learns from: one `Decision` per turn, with its advantage and value target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ludora.learn import maths
from ludora.models.policy import Answer, Query
from ludora.types import End, Spec, Step, Trajectory

Group = tuple[str, int]  # (game, seat): what advantages and baselines are kept apart by


@dataclass(slots=True)
class Decision:
    """One turn of the learner.

    `key` is the query it chose from, or the answer it sampled; `old` its recorded log-probabilities: one for a
    choice, one per token for an answer.
    """

    key: Query | Answer
    index: int
    old: tuple[float, ...]
    group: Group
    value: float
    advantage: float
    target: float


@dataclass(slots=True)
class Baselines:
    """An exponential moving average of the return per (game, seat), read before it is updated. For self-play."""

    decay: float
    means: dict[Group, float] = field(default_factory=dict)

    def observe(self, group: Group, value: float) -> float:
        """The baseline before this return (0 before the first); then take the return in."""
        before = self.means.get(group, 0.0)
        self.means[group] = value if group not in self.means else self.decay * before + (1 - self.decay) * value
        return before


def fined(trajectories: Sequence[Trajectory], penalty: float) -> Sequence[Trajectory]:
    """The same games, with `penalty` taken off a turn's reward for each of its answers that could not be read."""
    if not penalty:
        return trajectories
    return [
        replace(t, steps=tuple(replace(step, reward=step.reward - penalty * step.move.unread) for step in t.steps))
        for t in trajectories
    ]


def assign(
    trajectories: Sequence[Trajectory],
    keys: Callable[[Step], Query | Answer],
    values: Callable[[Sequence[Query | Answer]], list[float]],
    *,
    gamma: float,
    lam: float,
    baselines: Baselines | None,
    normalise: bool,
    game: Callable[[Spec], str] = str,
) -> list[Decision]:
    """Credit every turn of the learner.

    With `baselines`, the advantage is the return to go less the baseline of (game, seat), which follows the returns
    from the first turn on; otherwise GAE over turns on the critic's values. A truncated game is bootstrapped with the
    value of its last state, a finished one with 0. With `normalise`, advantages are so per (game, seat); `game` says
    what a spec counts as.
    """
    flat = [keys(step) for t in trajectories for step in t.steps]
    estimates = values(flat) if flat else []
    decisions: list[Decision] = []
    start = 0
    for t in trajectories:
        n = len(t.steps)
        own, found = estimates[start : start + n], flat[start : start + n]
        group = (game(t.task.env), t.seat)
        rewards = [step.reward for step in t.steps]
        # what follows the last turn of a truncated game is not known; the state before it is the nearest estimate
        last = own[-1] if n and t.end is End.TRUNCATED else 0.0
        gae = maths.turn_gae(rewards, own, last, gamma, lam)
        advantages = gae
        if baselines is not None and n:
            to_go = maths.turn_gae(rewards, [0.0] * n, 0.0, gamma, 1.0)
            before = baselines.observe(group, to_go[0])
            advantages = [x - before for x in to_go]
        for i, step in enumerate(t.steps):
            move, target = step.move, gae[i] + own[i]
            decisions.append(Decision(found[i], move.index, move.logprobs, group, own[i], advantages[i], target))
        start += n
    if normalise:
        scaled = maths.normalise([d.advantage for d in decisions], [d.group for d in decisions])
        for d, advantage in zip(decisions, scaled, strict=True):
            d.advantage = advantage
    return decisions
