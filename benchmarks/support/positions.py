"""Positions of real games, played at random: what both sides of a comparison have to decide."""

from __future__ import annotations

from ludora.envs.build import make_env, num_players, task_spec
from ludora.players.bots import RandomPlayer
from ludora.rng import stream
from ludora.rollout import Game, collect
from ludora.types import Task, Turn


def turns_of(task: str, count: int, *, distinct: bool, seed: int = 0) -> list[Turn]:
    """`count` turns of random games, in the order they came up; with `distinct`, no two read the same."""
    spec = task_spec(task)
    seats, player = num_players(spec), RandomPlayer()
    found: dict[object, Turn] = {}
    number = 0
    while len(found) < count:
        tasks = [Task(spec, stream("benchmark", seed, number + i), i % seats) for i in range(16)]
        number += len(tasks)
        for finished in collect([Game(task, [player] * seats) for task in tasks], make_env):
            for trajectory in finished.trajectories:
                for step in trajectory.steps:
                    if len(step.turn.legal or ()) > 1:
                        found.setdefault((step.turn.messages, step.turn.legal) if distinct else len(found), step.turn)
    return list(found.values())[:count]
