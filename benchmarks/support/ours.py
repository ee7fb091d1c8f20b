"""Our side of `ppo_throughput`, run in a process of its own so that its memory is its own.

A turn of it is one update.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import torch

from ludora.config import load_config, make
from ludora.envs.build import task_spec
from ludora.learn import ppo
from ludora.learn.credit import assign
from ludora.learn.learner import Learner
from ludora.models.engine import Counters, Engine
from ludora.players.studio import Studio
from ludora.rng import stream
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig
from ludora.types import End, Outcome, Step, Task, Trajectory, Turn
from support.machine import matmul_rate, peak_rss_gb
from support.positions import turns_of
from support.worker import answer

HEX = "hex(board_size=5)"
SETTINGS = ("layers", "rank", "alpha", "games_per_update", "epochs", "minibatch")


def leduc(overrides: list[str]) -> None:
    """`ludora train ppo leduc-vs-random`, its evaluations included, paused before each update."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(PPOConfig, "leduc-vs-random", ["minutes=0", f"runs_dir={folder}", *overrides])
        facts = {key: getattr(config, key) for key in SETTINGS}

        def stop() -> bool:
            last = list(run.rows("metrics.jsonl"))[-1:]
            return not answer({**facts, **(last[0] if last else {}), "peak_rss_gb": peak_rss_gb()})

        with Run.create(folder, "benchmark", config.to_json()) as run, RunLog(run) as log:
            ppo.train(config, run, log, stop=stop)


class Distinct:
    """PPO updates over given positions, no two of them alike, all layers adapted, one epoch.

    An update is what `ppo.train` does, but for the games: the learner chooses at each position, each is a game of one
    move, won or lost by a coin, and critic and adapter learn from it.
    """

    def __init__(self, overrides: list[str], count: int) -> None:
        values: dict[str, Any] = {"task": HEX, "layers": "all", "epochs": 1, "minibatch": count, "entropy_coef": 0.02}
        values["accumulation"] = max(1, count // 32)  # as many positions at a time as the plain way takes
        values |= dict(item.split("=", 1) for item in overrides)
        self.config = make(PPOConfig, values)
        self.studio = Studio(self.config, lambda text: print(text, file=sys.stderr))
        player, reference = self.studio.learner(self.config)
        self.learner = Learner.create(self.config, player, reference)
        self.count, self.updates = count, 0

    def update(self, turns: list[Turn]) -> dict[str, Any]:
        """One update; seconds of its parts, and what was multiplied in training."""
        engine, learner, config = self.studio.engine, self.learner, self.config
        rate = matmul_rate(self.studio.base.dtype)
        engine.counters = Counters()
        start = time.perf_counter()
        moves = learner.player.act(turns)
        acted = time.perf_counter()
        decisions = assign(
            [_game(turn, move, i) for i, (turn, move) in enumerate(zip(turns, moves, strict=True))],
            lambda step: learner.player.query(step.turn),
            learner.values,
            gamma=config.gamma,
            lam=config.lam,
            baselines=None,
            normalise=True,
        )
        learner.fit_critic(decisions)
        credited = time.perf_counter()
        before = engine.counters.tokens
        learner.improve(decisions, self.updates, config.learning_rate)
        ended = time.perf_counter()
        self.updates += 1
        tokens = engine.counters.tokens - before
        keys = [decision.key for decision in decisions]
        distinct = sum(len(key.prompt) - key.prefix for key in dict.fromkeys(keys)) + keys[0].prefix
        return {
            "decisions": len(decisions),
            "distinct_prompts": len(set(keys)),
            "seconds_rollout": acted - start,
            "seconds_critic": credited - acted,
            "seconds_training": ended - credited,
            "training_tokens": tokens,
            "padding_share": 1 - distinct / tokens,
            "training_flops": tokens * flops_per_token(engine),
            "matmul_flops_per_second": rate,
            "peak_rss_gb": peak_rss_gb(),
        }


def _game(turn: Turn, move: Any, number: int) -> Trajectory:
    won = bool(stream("coin", number) & 1)
    task = Task(task_spec(HEX), number, turn.seat)
    outcome = Outcome.WON if won else Outcome.LOST
    step = Step(turn, move, 1.0 if won else -1.0)
    return Trajectory(task, turn.seat, "self", (step,), outcome, float(won), End.TERMINATED)


def flops_per_token(engine: Engine) -> float:
    """Multiplications and additions of one token's forward and backward pass through the adapted layers.

    2 P forwards and 2 P backwards for the P frozen weights of linear modules (they get no gradient of their own, only
    their input does), and 6 r (in + out) for every low-rank pair. What reads the block's input in the lowest adapted
    layer has nothing below it to send a gradient to. Attention's own products and the output matrix are left out.
    """
    adapter = next(iter(engine.pack.adapters.values()))
    layers = engine.base.model.get_submodule(engine.base.family.layers)
    assert isinstance(layers, torch.nn.ModuleList)
    total = 0.0
    for layer in layers[engine.depth :]:
        total += 4.0 * sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
    for name, (a, b) in adapter.pairs.items():
        rank, fan_in = a.shape
        total += 6.0 * rank * (fan_in + b.shape[0])
        lowest = name.startswith(f"{engine.base.family.layers}.{engine.depth}.")
        if lowest and name.endswith(("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")):
            total -= 2.0 * fan_in * (b.shape[0] + rank)
    return total


def distinct(count: int, updates: int, overrides: list[str]) -> None:
    """Updates over fresh positions, paused before each."""
    side = Distinct(overrides, count)
    turns = turns_of(HEX, count * updates, distinct=True)
    figures: dict[str, Any] = {key: getattr(side.config, key) for key in SETTINGS}
    while answer(figures) and side.updates < updates:
        figures = side.update(turns[side.updates * count : (side.updates + 1) * count])


def main(arguments: list[str]) -> None:
    """`leduc|distinct COUNT UPDATES [key=value ...]`."""
    which, count, updates, *overrides = arguments
    if which == "leduc":
        leduc(overrides)
    else:
        distinct(int(count), int(updates), overrides)
