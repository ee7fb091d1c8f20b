"""The server is killed (SIGKILL) in the middle of remote episodes: each is played anew or recorded as broken, and what
plays them goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from tests.learn.conftest import tiny_config

from ludora.envs.build import make_env, task_spec
from ludora.envs.remote import RemoteEnv
from ludora.learn import ppo
from ludora.players.bots import RandomPlayer
from ludora.rollout import Finished, Game, collect
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.types import Move, Task

TASKS = ("leduc_poker", "kuhn_poker")


class Server:
    """A server process, and how to kill it."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("mortal_server.py")), *TASKS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url, self.life = self._told(), int(self._told())

    def _told(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """As the kernel would; it comes back."""
        os.kill(self.life, signal.SIGKILL)
        self.life = int(self._told())

    def end(self) -> None:
        """It is killed and does not come back. Idempotent."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


def at_moves(monkeypatch: pytest.MonkeyPatch, numbers: Mapping[int, str], server: Server) -> None:
    """Call this method of the server just before the move of that number, counted over all games."""
    apply, lock, count = RemoteEnv.apply, threading.Lock(), [0]

    def counted(env: RemoteEnv, moves: Mapping[int, Move]) -> None:
        with lock:
            count[0] += 1
            if count[0] in numbers:
                getattr(server, numbers[count[0]])()
        apply(env, moves)

    monkeypatch.setattr(RemoteEnv, "apply", counted)


def games(url: str, count: int) -> list[Game]:
    return [Game(Task(task_spec(f"openenv({url})"), seed), [RandomPlayer()]) for seed in range(count)]


def told(finished: Finished) -> list[object]:
    return [(t.outcome, t.score, t.total, [s.move.text for s in t.steps]) for t in finished.trajectories]


def test_episodes_that_a_kill_ended_are_played_anew_and_come_out_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    unharmed = collect(games(server.url, 16), make_env, slots=4)
    at_moves(monkeypatch, {7: "kill"}, server)
    killed = collect(games(server.url, 16), make_env, slots=4)
    assert 1 <= sum(f.retried for f in killed) <= 4  # those that were under way
    assert not any(f.error for f in killed) and not any(f.retried for f in unharmed)
    assert [told(f) for f in killed] == [told(f) for f in unharmed]


def test_training_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Killed twice while a tiny model trains: every game of every update is there, none is broken."""
    at_moves(monkeypatch, {9: "kill", 30: "kill"}, server)
    task = f"openenv({server.url}, task=kuhn_poker)"
    config = tiny_config(task=task, games_per_update=8, minibatch=8, updates=3, evaluate_games=4)
    with Run.create(tmp_path, "tiny", config.to_json()) as run:
        with RunLog(run, console=Console(file=io.StringIO())) as log:
            summary = ppo.train(config, run, log)
        rows = [row for row in run.rows("metrics.jsonl") if "broken_games" in row]
    assert summary["ended"] == "updates" and [row["games"] for row in rows] == [8.0, 16.0, 24.0]
    assert [row["broken_games"] for row in rows] == [0.0] * 3


def test_a_server_that_does_not_come_back_costs_its_own_games_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test: there is no server after it."""
    home = task_spec("leduc_poker")
    mixed = [*games(server.url, 8), *(Game(Task(home, seed), [RandomPlayer()] * 2) for seed in range(8))]
    at_moves(monkeypatch, {6: "end"}, server)
    finished = collect(mixed, make_env, slots=4)
    broken = [f for f in finished if f.error]
    assert 4 <= len(broken) <= 8 and all(f.retried and not f.trajectories and server.url in f.error for f in broken)
    assert all(f.trajectories for f in finished if not f.error) and not any(f.error for f in finished[8:])
