"""What every finished training run leaves behind: adapter, evaluation against its untrained self, replays, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ludora.envs.build import num_players
from ludora.evals import exact
from ludora.evals.evaluate import Evaluation, evaluate_players
from ludora.evals.replay import telling_games
from ludora.evals.report import write_report
from ludora.evals.stages import stage_rows, to_json
from ludora.models.adapters import Adapter
from ludora.models.storage import adapter_files
from ludora.players.base import Explicit, Player
from ludora.players.bots import RandomPlayer
from ludora.players.studio import Studio
from ludora.runs.store import Run
from ludora.settings import TrainSettings
from ludora.types import Spec


class Trained(Protocol):
    """Whatever was trained: its adapter, and the frozen one that it began as (None: the base)."""

    @property
    def config(self) -> TrainSettings: ...

    @property
    def adapter(self) -> Adapter: ...

    @property
    def reference(self) -> Adapter | None: ...


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the learner is evaluated: a game of a stage, and whom it met there of those who never change, with weights.

    The opponent is the heaviest of them; after pure self-play, a uniform random player (and NashConv, where the game is
    small, says what that cannot); nobody in a game for one.
    """

    stage: str
    spec: Spec
    fixed: Sequence[tuple[Player, float]] = ()

    @property
    def against(self) -> Player | None:
        if num_players(self.spec) == 1:
            return None
        return max(self.fixed, key=lambda pair: pair[1])[0] if self.fixed else RandomPlayer()


@dataclass(frozen=True, slots=True)
class Ending:
    """What a run was concluded with. `summary` is the part of it that is printed."""

    evaluation: Evaluation
    summary: dict[str, Any]
    report: str


def conclude(run: Run, studio: Studio, learner: Trained, grounds: Sequence[Ground], games: int) -> Ending:
    """Write the learner as the run's adapter, evaluate it against where it started, and write the report.

    Args:
        grounds: the first is the one that the run is told by; where there are several, each has a row in `stages.json`.
        games: of each evaluation.
    """
    run.write_adapter(adapter_files(learner.adapter, studio.base))
    start = learner.reference
    after = studio.player(f"adapter({run.adapter})", learner.adapter)
    before = studio.player(start.name if start else "base", start)
    seed = learner.config.seed
    found = []
    for ground in grounds:
        against = ground.against
        small = exact.is_exact(ground.spec) and isinstance(against, Explicit) and isinstance(after, Explicit)
        found.append(evaluate_players([after, before], ground.spec, against, games=games, seed=seed, exact=small))
    run.write_json("evaluation.json", found[0].to_json())
    summary: dict[str, Any] = {"evaluation": found[0].to_json()}
    if len(found) > 1:
        rows = to_json(stage_rows(zip((ground.stage for ground in grounds), found, strict=True)))
        run.write_json("stages.json", rows)
        summary["stages"] = rows
    replays = telling_games(after, grounds[0].spec, grounds[0].against, baseline=before, seed=seed)
    run.write_json("replays.json", [game.to_json() for game in replays])
    return Ending(found[0], summary, str(write_report(run.path)))
