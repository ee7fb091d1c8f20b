"""What an update's games and decisions say in numbers; every name is explained in docs/metrics.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from ludora.evals.groups import group_metrics
from ludora.learn import maths
from ludora.learn.credit import Decision
from ludora.models.engine import Counters
from ludora.players.studio import Studio
from ludora.rollout import Finished
from ludora.types import Outcome, Spec, Trajectory


def rollout_metrics(
    finished: Sequence[Finished], mine: Sequence[Trajectory], decisions: Sequence[Decision], game: Callable[[Spec], str]
) -> dict[str, float]:
    """Returns and outcomes of the learner: overall, by opponent and seat, and by game where there are several."""
    n = max(1, len(mine))
    steps = [step for t in mine for step in t.steps]
    metrics = {
        **_outcomes(mine),
        "score": math.fsum(t.score for t in mine) / n,
        "return_spread": return_spread(mine, game),
        "broken_games": float(sum(bool(f.error) for f in finished)),
        "retried_games": float(sum(f.retried for f in finished)),
        "invalid_rate": sum(step.move.stop == "invalid" for step in steps) / max(1, len(steps)),
        "attempts": sum(step.move.attempts for step in steps) / max(1, len(steps)),
        "turns": len(steps) / n,
        "tokens": float(sum(len(step.move.prompt) + len(step.move.tokens) for step in steps)),
        "distinct_prompts": float(len({d.key for d in decisions})),
    }
    games = {game(t.task.env) for t in mine}
    groups: dict[str, list[Trajectory]] = {}
    for t in mine:
        alone = not t.task.opponent  # in a game for one
        if alone or len(games) > 1:
            groups.setdefault(game(t.task.env), []).append(t)
        if not alone:
            name = f"{_opponent(t.task.opponent)}/seat{t.seat}"
            groups.setdefault(f"{game(t.task.env)}/{name}" if len(games) > 1 else name, []).append(t)
    for name, group in groups.items():
        metrics[f"return/{name}"] = math.fsum(t.total for t in group) / len(group)
        metrics[f"win_rate/{name}"] = sum(t.outcome is Outcome.WON for t in group) / len(group)
        metrics[f"count/{name}"] = float(len(group))
    return metrics | group_metrics(mine)


def _outcomes(mine: Sequence[Trajectory]) -> dict[str, float]:
    n, counts = max(1, len(mine)), Counter(t.outcome for t in mine)
    return {
        "return": math.fsum(t.total for t in mine) / n,
        "win_rate": counts[Outcome.WON] / n,
        "draw_rate": counts[Outcome.DREW] / n,
        "loss_rate": (counts[Outcome.LOST] + counts[Outcome.FORFEITED]) / n,
        "truncated_rate": counts[Outcome.TRUNCATED] / n,
    }


def _opponent(others: Sequence[str]) -> str:
    """Who was played against; all snapshots are one."""
    return "snapshots" if others[0].startswith("snapshot(") else others[0]


def return_spread(mine: Sequence[Trajectory], game: Callable[[Spec], str]) -> float:
    """Standard deviation of the returns within a game and seat, mean over those: 0 where nothing can be learned."""
    groups: dict[tuple[str, int], list[float]] = {}
    for t in mine:
        groups.setdefault((game(t.task.env), t.seat), []).append(t.total)
    spreads = []
    for totals in groups.values():
        mean = math.fsum(totals) / len(totals)
        spreads.append(math.sqrt(math.fsum((x - mean) ** 2 for x in totals) / len(totals)))
    return math.fsum(spreads) / max(1, len(spreads))


def explained_variance(decisions: Sequence[Decision]) -> float:
    """Of the value targets, by the values before they were fitted to them; mean over games, by their decisions."""
    games: dict[str, list[Decision]] = {}
    for d in decisions:
        games.setdefault(d.group[0], []).append(d)
    found = [
        len(own) * maths.explained_variance([d.value for d in own], [d.target for d in own]) for own in games.values()
    ]
    return math.fsum(found) / len(decisions)


def speed_metrics(studio: Studio, decisions: Sequence[Decision], rollout: float, update: float) -> dict[str, float]:
    """Seconds and tokens; counters of the engine start again."""
    counters, studio.engine.counters = studio.engine.counters, Counters()
    distinct = sum(len(key.prompt) - key.prefix for key in {d.key: None for d in decisions})
    return {
        "seconds_rollout": rollout,
        "seconds_update": update,
        "tokens_per_second": counters.tokens / max(1e-9, rollout + update),
        "tokens_per_distinct_token": counters.tokens / max(1, distinct),
        "decisions_per_second": len(decisions) / max(1e-9, rollout + update),
    }
