"""What every finished training run leaves behind: adapter, evaluation against its untrained self, replays, report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ludora.envs.build import num_players, task_spec
from ludora.errors import InputError
from ludora.evals import exact
from ludora.evals.evaluate import evaluate_tasks
from ludora.evals.record import Evaluation
from ludora.evals.replay import telling_games
from ludora.evals.report import write_report
from ludora.evals.stages import stage_rows, to_json
from ludora.models.adapters import Adapter
from ludora.models.load import Base
from ludora.models.storage import WEIGHTS, adapter_files
from ludora.players.base import Explicit, Player, check_plays
from ludora.players.bots import RandomPlayer
from ludora.players.build import check_opponent, fixed_player
from ludora.players.studio import Studio
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import TrainSettings
from ludora.types import Spec

STARTED = "started_from_sha256"


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
    small, says what that cannot).
    """

    stage: str
    spec: Spec
    fixed: Sequence[tuple[Player, float]] = ()

    @property
    def opponent(self) -> Player:
        return max(self.fixed, key=lambda pair: pair[1])[0] if self.fixed else RandomPlayer()

    @property
    def against(self) -> Player | None:
        """Nobody in a game for one."""
        return self.opponent if num_players(self.spec) > 1 else None


def started_from(config: TrainSettings, log: RunLog) -> dict[str, str]:
    """By what hash the adapter is known that a run starts from, told once; nothing for a fresh one."""
    if not config.adapter:
        return {}
    digest = _digest(Path(config.adapter))
    log.say(f"starts from {config.adapter}: sha256 {digest}")
    return {STARTED: digest}


def check_start(run: Run, base: Base, adapter: str = "") -> None:
    """Refuse to go on with another model, or from another adapter, than a run began with; nothing is changed before.

    Raises:
        InputError: the weights are not those.
    """
    begun = _start(run) if run.steps else {}
    hint = "bring back the old one, or start a new run with adapter=RUN/adapter"
    if begun.get("base", base.fingerprint) != base.fingerprint:
        raise InputError(f"model {base.name} is not what it was when this run began, so it cannot go on exactly", hint)
    digest = _digest(Path(adapter)) if adapter else ""
    if begun.get(STARTED, digest) != digest:
        raise InputError(f"{adapter} is not the adapter that this run began with, so it cannot go on exactly", hint)


def ended_as(run: Run) -> dict[str, str]:
    """The adapter that a run has written, and its hash; and that of the one it started from."""
    start = _start(run)
    started = {STARTED: start[STARTED]} if STARTED in start else {}
    return {"adapter": str(run.adapter), "adapter_sha256": _digest(run.adapter)} | started


def _start(run: Run) -> dict[str, Any]:
    """What a run told when it began; nothing before that."""
    return next((row for row in run.rows("events.jsonl") if row["event"] == "start"), {})


def _digest(adapter: Path) -> str:
    return hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()


def check_ending(config: TrainSettings, studio: Studio, grounds: Sequence[Ground]) -> None:
    """Build once what the end will need, so that a mistake is not found after hours; adapters leave the pack again.

    Raises:
        InputError: a player cannot be had, is named twice, or cannot play a task.
    """
    before, further = set(studio.pack.adapters), [task_spec(text) for text in config.evaluate_on]
    names: set[str] = set()
    for text in config.compare:
        player = fixed_player(text, studio)
        if player.name in names:
            raise InputError(f"compare names {player.name} twice", "name each once")
        names.add(player.name)
        for task in (*(ground.spec for ground in grounds), *further):
            check_opponent(text, task)
            check_plays(player, task)
    for ground in grounds:
        for task in further:
            if num_players(task) > 1:
                check_plays(ground.opponent, task)
    for name in set(studio.pack.adapters) - before:
        studio.pack.remove(name)


def conclude(run: Run, studio: Studio, learner: Trained, grounds: Sequence[Ground], games: int) -> dict[str, Any]:
    """Write the learner as the run's adapter, evaluate it beside where it started and others, and write the report.

    Args:
        grounds: the first is the one that the run is told by, and where others are compared with, too; where there are
            several, each has a row in `stages.json`.
        games: of each evaluation.

    Returns:
        What the summary of the run says of it.
    """
    run.write_adapter(adapter_files(learner.adapter, studio.base))
    config, start, first = learner.config, learner.reference, grounds[0]
    after = studio.player(f"adapter({run.adapter})", learner.adapter, config.evaluate_temperature)
    before = studio.player(start.name if start else "base", start, config.evaluate_temperature)
    others = [fixed_player(text, studio, config.evaluate_temperature) for text in config.compare]
    contenders = [after, before, *(player for player in others if player.name not in (after.name, before.name))]

    def evaluate(players: Sequence[Player], ground: Ground, *more: Spec) -> Evaluation:
        specs = [ground.spec, *more]
        explicit = all(isinstance(player, Explicit) for player in (*players, ground.against))
        small = explicit and all(map(exact.is_exact, specs))
        return evaluate_tasks(players, specs, ground.opponent, games=games, seed=config.seed, exact=small)

    found = [evaluate(contenders, first, *map(task_spec, config.evaluate_on))]
    found += [evaluate(contenders[:2], ground) for ground in grounds[1:]]
    run.write_json("evaluation.json", found[0].to_json())
    told: dict[str, Any] = {"evaluation": found[0].to_json()}
    if len(found) > 1:
        told["stages"] = to_json(stage_rows(zip((ground.stage for ground in grounds), found, strict=True)))
        run.write_json("stages.json", told["stages"])
    replays = telling_games(after, first.spec, first.against, baseline=before, seed=config.seed)
    run.write_json("replays.json", [game.to_json() for game in replays])
    return ended_as(run) | {"report": str(write_report(run.path))} | told
