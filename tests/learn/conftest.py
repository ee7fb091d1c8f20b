"""Tiny learners and tiny runs, on one thread: more of them only slow such models down."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.learn.resuming import Order, driving

from ludora.envs.build import make_env, task_spec
from ludora.learn import ppo
from ludora.learn.credit import Decision, assign, normalise
from ludora.learn.learner import Learner
from ludora.players.bots import RandomPlayer
from ludora.players.studio import Studio
from ludora.rollout import Game, collect
from ludora.runs import files
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig
from ludora.types import Task

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY: dict[str, Any] = {
    "model": "tiny:qwen2",  # of the tiny ones, this starts out losing to a random player
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "task": "kuhn_poker",
    "learning_rate": 1e-3,
    "games_per_update": 16,
    "minibatch": 16,
    "updates": 2,
    "evaluate_every": 0,
    "value_hidden": 16,
    "value_steps": 4,
}


def tiny_config(**changes: Any) -> PPOConfig:
    """A config of a tiny model on Kuhn poker, quick to train."""
    kept = {k: v for k, v in TINY.items() if not (k.startswith("value_") and changes.get("baseline") == "ema")}
    return PPOConfig(**{**kept, **changes})


@dataclass
class Bench:
    """A learner at its start, and what it would learn from."""

    config: PPOConfig
    studio: Studio
    learner: Learner

    def decisions(self, games: int = 24, first: int = 0) -> list[Decision]:
        """Decisions of games against a random player, every seat equally often."""
        spec, player = task_spec(self.config.task), self.learner.player
        seats = [(player, RandomPlayer()), (RandomPlayer(), player)]
        played = collect([Game(Task(spec, first + i, i % 2), seats[i % 2]) for i in range(games)], make_env)
        found = assign(
            [f.trajectories[f.game.task.seat] for f in played],
            lambda turn, move: ppo._key(self.learner, turn, move),
            self.learner.values,
            gamma=self.config.gamma,
            lam=self.config.lam,
            baselines=self.learner.baselines,
        )
        if self.config.normalize_advantages:
            normalise(found)
        return found


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Builds a learner that has a policy of its own already: B is no longer zero."""

    def build(**changes: Any) -> Bench:
        config = tiny_config(**changes)
        studio = Studio(config, lambda text: None)
        player, reference = studio.learner(config)
        learner = Learner.create(config, player, reference)
        draw = torch.Generator().manual_seed(5)
        learner.adapter.restore(learner.adapter.flat + 0.02 * torch.randn(learner.adapter.flat.shape, generator=draw))
        return Bench(config, studio, learner)

    return build


@dataclass
class Trained:
    """A finished run: what `train` returned, the rows of its metrics, its folder."""

    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    path: Path
    said: str

    def column(self, name: str) -> list[float]:
        """A metric at every step that has it."""
        return [row[name] for row in self.rows if name in row]


@pytest.fixture(scope="session")
def driver() -> Iterator[Order]:
    """Importing torch takes longer than a tiny run, so it is done once."""
    with driving() as give:
        yield give


@pytest.fixture(scope="module")
def undisturbed(order: Order, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed, of the module that says what an order trains."""
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert order(path) == 0
    return path


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trained]:
    """Trains into a new run folder."""

    def run_it(**changes: Any) -> Trained:
        config = tiny_config(**changes)
        said = io.StringIO()
        with Run.create(tmp_path, "tiny", config.to_json()) as run, RunLog(run, console=Console(file=said)) as log:
            summary = ppo.train(config, run, log)
            return Trained(summary, list(run.rows("metrics.jsonl")), run.path, said.getvalue())

    return run_it


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Calling it with a step leaves no room on the disk for the checkpoint of that step."""

    def leave_none(step: int) -> None:
        write = files.write_folder

        def refuse(path: Path, *rest: Any) -> None:
            if path.name == f"step-{step:06d}":
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, *rest)

        monkeypatch.setattr(files, "write_folder", refuse)

    return leave_none
