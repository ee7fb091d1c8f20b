"""What every finished training run leaves behind: adapter, evaluation against its untrained self, replays, report."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

from ludora.envs.build import num_players, task_spec
from ludora.evals import exact
from ludora.evals.evaluate import evaluate_tasks
from ludora.evals.replay import telling_games
from ludora.evals.report import write_report
from ludora.models.adapters import Adapter
from ludora.models.storage import WEIGHTS, adapter_files
from ludora.players.base import Explicit, Player, check_plays
from ludora.players.bots import RandomPlayer
from ludora.players.build import fixed_player
from ludora.players.studio import Studio
from ludora.runs.log import RunLog
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


def started_from(config: TrainSettings, log: RunLog) -> dict[str, str]:
    """By what hash the adapter is known that a run starts from, told once; nothing for a fresh one."""
    if not config.adapter:
        return {}
    digest = _digest(Path(config.adapter))
    log.say(f"starts from {config.adapter}: sha256 {digest}")
    return {"started_from_sha256": digest}


def ended_as(run: Run) -> dict[str, str]:
    """The adapter that a run has written, and its hash."""
    return {"adapter": str(run.adapter), "adapter_sha256": _digest(run.adapter)}


def _digest(adapter: Path) -> str:
    return hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()


def check_ending(config: TrainSettings, studio: Studio, spec: Spec) -> None:
    """Build once what the end will need, so that a mistake is not found after hours; adapters leave the pack again.

    Raises:
        InputError: a player cannot be had, or cannot play a task.
    """
    before = set(studio.pack.adapters)
    for text in config.compare:
        player = fixed_player(text, studio)
        for task in (spec, *map(task_spec, config.evaluate_on)):
            check_plays(player, task)
    for name in set(studio.pack.adapters) - before:
        studio.pack.remove(name)


def conclude(
    run: Run, studio: Studio, learner: Trained, spec: Spec, fixed: list[tuple[Player, float]], games: int
) -> dict[str, Any]:
    """Write the learner as the run's adapter, evaluate it beside where it started and others, and write the report.

    The opponent is the heaviest of the fixed ones; after pure self-play, a uniform random player (and NashConv, where
    the game is small, says what that cannot); nobody in a game for one.

    Returns:
        What the summary of the run says of it.
    """
    run.write_adapter(adapter_files(learner.adapter, studio.base))
    config, start = learner.config, learner.reference
    after = studio.player(f"adapter({run.adapter})", learner.adapter, config.evaluate_temperature)
    before = studio.player(start.name if start else "base", start, config.evaluate_temperature)
    others = [fixed_player(text, studio, config.evaluate_temperature) for text in config.compare]
    contenders = [after, before, *(player for player in others if player.name not in (after.name, before.name))]
    opponent: Player = max(fixed, key=lambda pair: pair[1])[0] if fixed else RandomPlayer()
    against = opponent if num_players(spec) > 1 else None
    specs = [spec, *map(task_spec, config.evaluate_on)]
    explicit = all(isinstance(player, Explicit) for player in (*contenders, against))
    small = explicit and all(map(exact.is_exact, specs))
    evaluation = evaluate_tasks(contenders, specs, opponent, games=games, seed=config.seed, exact=small)
    run.write_json("evaluation.json", evaluation.to_json())
    replays = telling_games(after, spec, against, baseline=before, seed=config.seed)
    run.write_json("replays.json", [game.to_json() for game in replays])
    report = str(write_report(run.path))
    return ended_as(run) | {"report": report, "evaluation": evaluation.to_json()}
