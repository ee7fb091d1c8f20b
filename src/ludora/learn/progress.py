"""Where training stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ludora.evals.groups import training_stats
from ludora.learn.credit import Decision
from ludora.rollout import Finished
from ludora.types import Trajectory


@dataclass(slots=True)
class Progress:
    """Where training stands; all of it is in the checkpoint."""

    update: int = 0
    seconds: float = 0.0  # of training, evaluation left out
    best: float | None = None
    best_update: int | None = None
    stale: int = 0  # evaluations since the best
    measured: list[Any] = field(default_factory=list)  # how the best was
    games: int = 0
    decisions: int = 0
    stats: dict[str, Any] = field(default_factory=dict)  # `training_stats.json` of the last update, in a shell

    def take(self, finished: Sequence[Finished], mine: Sequence[Trajectory], decisions: Sequence[Decision]) -> None:
        """Count one more update."""
        self.update += 1
        self.games += len(finished)
        self.decisions += len(decisions)
        self.stats = training_stats(self.update, mine)

    def forget_best(self) -> None:
        """From here on the best is sought anew."""
        self.best, self.best_update, self.stale, self.measured = None, None, 0, []
