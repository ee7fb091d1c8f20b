"""How a player did on each kind of task, where the games say of what kinds they were (`Result.info` of the shell)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ludora.evals.stats import wilson
from ludora.types import Outcome, Trajectory

# kind of group -> the fact of a game that names its groups, separated by spaces
KINDS = {"skill": "skills", "level": "level", "template": "template", "status": "status"}
NAMES = frozenset({"skills", "level", "template", "entry"})  # facts of such games that name, and measure nothing


@dataclass(frozen=True, slots=True)
class Group:
    """The games of one group: how many were won, with Wilson's interval. A game may be in several of a kind."""

    kind: str
    name: str
    games: int
    wins: int
    win_rate: float
    win_rate_low: float | None
    win_rate_high: float | None


def groups(own: Sequence[Trajectory]) -> tuple[Group, ...]:
    """All groups of some games, by kind and name; none for games that know of no kinds."""
    found = []
    for kind, members in _members(own).items():
        for name, games in sorted(members.items()):
            wins = sum(t.outcome is Outcome.WON for t in games)
            rate = wilson(wins, len(games))
            found.append(Group(kind, name, len(games), wins, rate.mean, rate.low, rate.high))
    return tuple(found)


def _members(own: Iterable[Trajectory]) -> dict[str, dict[str, list[Trajectory]]]:
    """kind -> name -> games."""
    found: dict[str, dict[str, list[Trajectory]]] = {}
    for t in own:
        for kind, fact in KINDS.items() if "skills" in t.info else ():
            for name in str(t.info[fact] or "").split():  # a level of 0 is none
                found.setdefault(kind, {}).setdefault(name, []).append(t)
    return found


def group_metrics(own: Sequence[Trajectory]) -> dict[str, float]:
    """Share of games won by skill and level, and share of games by how they ended."""
    metrics = {}
    for group in groups(own):
        if group.kind in ("skill", "level"):
            metrics[f"win_rate/{group.kind}/{group.name}"] = group.win_rate
        elif group.kind == "status":
            metrics[f"share/{group.name}"] = group.games / len(own)
    return metrics


def training_stats(epoch: int, own: Sequence[Trajectory]) -> dict[str, Any]:
    """What an epoch of episodes came to, in the words of the documents that this program grew from; {} for games.

    `success_rate` is in per cent of `total_attempts`.
    """
    verdicts = [str(t.info["verdict"]) for t in own if "verdict" in t.info]
    if not verdicts:
        return {}
    correct, incorrect = verdicts.count("correct"), verdicts.count("incorrect")
    return {
        "epoch": epoch,
        "total_attempts": len(verdicts),
        "num_successful_trajectories": correct,
        "total_correct": correct,
        "total_failed": incorrect,
        "total_unknown": len(verdicts) - correct - incorrect,
        "success_rate": 100 * correct / len(verdicts),
        "mean_reward": math.fsum(t.total for t in own) / len(own),
    }
