"""What every finished training run leaves behind: adapter, evaluation against its untrained self, replays, report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ludora.envs.build import num_players
from ludora.evals import exact
from ludora.evals.evaluate import Evaluation, evaluate_players
from ludora.evals.replay import telling_games
from ludora.evals.report import write_report
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
class Ending:
    """What a run was concluded with."""

    evaluation: Evaluation
    report: str


def conclude(
    run: Run, studio: Studio, learner: Trained, spec: Spec, fixed: list[tuple[Player, float]], games: int
) -> Ending:
    """Write the learner as the run's adapter, evaluate it against where it started, and write the report.

    The opponent is the heaviest of the fixed ones; after pure self-play, a uniform random player (and NashConv, where
    the game is small, says what that cannot); nobody in a game for one.
    """
    run.write_adapter(adapter_files(learner.adapter, studio.base))
    start = learner.reference
    after = studio.player(f"adapter({run.adapter})", learner.adapter)
    before = studio.player(start.name if start else "base", start)
    against: Player | None = max(fixed, key=lambda pair: pair[1])[0] if fixed else RandomPlayer()
    against = against if num_players(spec) > 1 else None
    small = exact.is_exact(spec) and isinstance(against, Explicit) and isinstance(after, Explicit)
    evaluation = evaluate_players([after, before], spec, against, games=games, seed=learner.config.seed, exact=small)
    run.write_json("evaluation.json", evaluation.to_json())
    replays = telling_games(after, spec, against, baseline=before, seed=learner.config.seed)
    run.write_json("replays.json", [game.to_json() for game in replays])
    return Ending(evaluation, str(write_report(run.path)))
