"""From trajectories to what PPO learns from: one `Decision` per answer, with its advantage and value target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ludora.learn import maths
from ludora.models.policy import Answer, Query
from ludora.types import End, Move, Spec, Step, Stop, Trajectory, Turn

Group = tuple[str, int]  # (game, seat): what advantages and baselines are kept apart by


@dataclass(slots=True)
class Decision:
    """One answer of the learner.

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


def assign(
    trajectories: Sequence[Trajectory],
    keys: Callable[[Turn, Move], Query | Answer],
    values: Callable[[Sequence[Query | Answer], Sequence[str]], list[float]],
    *,
    gamma: float,
    lam: float,
    baselines: Baselines | None,
    game: Callable[[Spec], str] = str,
    penalty: float = 0.0,
) -> list[Decision]:
    """Credit every answer of the learner: one a turn, and before it those that could not be read.

    With `baselines`, the advantage is the return to go less the baseline of (game, seat), which follows the returns
    from the first turn on, and values are not asked for; otherwise GAE over answers on the critic's values, where a
    truncated game is bootstrapped with the value of its last state, a finished one with 0. `game` says what a spec
    counts as. An answer that could not be read is paid `penalty` less.
    """
    told = [[answer for step in t.steps for answer in _answers(step, penalty)] for t in trajectories]
    groups: list[Group] = [(game(t.task.env), t.seat) for t in trajectories]
    flat = [keys(turn, move) for answers in told for turn, move, _ in answers]
    games = [group[0] for group, answers in zip(groups, told, strict=True) for _ in answers]
    estimates = values(flat, games) if flat and baselines is None else [0.0] * len(flat)
    decisions: list[Decision] = []
    start = 0
    for t, answers, group in zip(trajectories, told, groups, strict=True):
        n = len(answers)
        own, found = estimates[start : start + n], flat[start : start + n]
        rewards = [reward for _, _, reward in answers]
        # what follows the last turn of a truncated game is not known; the state before it is the nearest estimate
        last = own[-1] if n and t.end is End.TRUNCATED else 0.0
        advantages = maths.turn_gae(rewards, own, last, gamma, 1.0 if baselines else lam)
        targets = [a + v for a, v in zip(advantages, own, strict=True)]
        if baselines is not None and n:
            before = baselines.observe(group, advantages[0])
            advantages = [x - before for x in advantages]
        for i, (_, move, _) in enumerate(answers):
            decisions.append(Decision(found[i], move.index, move.logprobs, group, own[i], advantages[i], targets[i]))
        start += n
    return decisions


def normalise(decisions: Sequence[Decision]) -> None:
    """Give the advantages of each (game, seat) mean 0 and spread 1."""
    scaled = maths.normalise([d.advantage for d in decisions], [d.group for d in decisions])
    for d, advantage in zip(decisions, scaled, strict=True):
        d.advantage = advantage


def _answers(step: Step, penalty: float) -> list[tuple[Turn, Move, float]]:
    """All that was answered at a turn, with what it was paid: the last answer has the turn's reward."""
    fine = penalty * (step.move.stop is Stop.INVALID)
    return [*((step.turn, move, -penalty) for move in step.move.rejected), (step.turn, step.move, step.reward - fine)]
