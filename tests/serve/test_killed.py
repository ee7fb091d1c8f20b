"""The server is killed (SIGKILL) in the middle of remote episodes: each is played anew or recorded as broken, and what
plays them goes on."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from tests.learn.conftest import tiny_config

from ludora.envs.build import make_env, task_spec
from ludora.learn import ppo
from ludora.players.bots import RandomPlayer
from ludora.rollout import Finished, Game, collect
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.types import Task


@contextmanager
def mortal(task: str, lives: str) -> Iterator[str]:
    """A server that dies; its address."""
    command = [sys.executable, str(Path(__file__).with_name("mortal_server.py")), task, lives]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def remote(url: str, games: int) -> list[Finished]:
    spec = task_spec(f"openenv({url})")
    return collect([Game(Task(spec, seed), [RandomPlayer()]) for seed in range(games)], make_env, slots=4)


def told(finished: Finished) -> list[object]:
    return [(t.outcome, t.score, t.total, [s.move.text for s in t.steps]) for t in finished.trajectories]


def test_episodes_that_a_kill_ended_are_played_anew_and_come_out_as_if_there_had_been_none() -> None:
    with mortal("leduc_poker", "7") as url:
        killed = remote(url, 16)
        unharmed = remote(url, 16)  # the last life lasts
    assert 1 <= sum(f.retried for f in killed) <= 4  # those that were under way
    assert not any(f.error for f in killed) and not any(f.retried for f in unharmed)
    assert [told(f) for f in killed] == [told(f) for f in unharmed]


def test_a_server_that_does_not_come_back_costs_its_own_games_only() -> None:
    with mortal("leduc_poker", "5,0") as url:
        spec, home = task_spec(f"openenv({url})"), task_spec("leduc_poker")
        games = [Game(Task(spec, seed), [RandomPlayer()]) for seed in range(8)]
        games += [Game(Task(home, seed), [RandomPlayer()] * 2) for seed in range(8)]
        finished = collect(games, make_env, slots=4)
    broken = [f for f in finished if f.error]
    assert 4 <= len(broken) <= 8 and all(f.retried and not f.trajectories and url in f.error for f in broken)
    assert all(f.trajectories for f in finished if not f.error) and not any(f.error for f in finished[8:])


@pytest.mark.parametrize("lives", ["9,20"])
def test_training_goes_on(lives: str, tmp_path: Path) -> None:
    """Killed twice while a tiny model trains: every game of every update is there, and nothing broken was learnt from."""
    with mortal("kuhn_poker", lives) as url:
        config = tiny_config(task=f"openenv({url})", games_per_update=8, minibatch=8, updates=3, evaluate_games=4)
        with Run.create(tmp_path, "tiny", config.to_json()) as run:
            with RunLog(run, console=Console(file=io.StringIO())) as log:
                summary = ppo.train(config, run, log)
            rows = [row for row in run.rows("metrics.jsonl") if "broken_games" in row]
    assert summary["ended"] == "updates" and [row["games"] for row in rows] == [8.0, 16.0, 24.0]
    assert [row["broken_games"] for row in rows] == [0.0] * 3
