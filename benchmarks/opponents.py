"""Milliseconds per move of tree search by game and strength, ours beside OpenSpiel's Python bot; see README.md.

Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import Any

import numpy as np
from open_spiel.python.algorithms.mcts import MCTSBot, RandomRolloutEvaluator
from support.machine import emit, median, rounded, say

from ludora.envs.build import make_env, task_spec
from ludora.envs.catalogue import BLOCK, CATALOGUE
from ludora.envs.figures import figures
from ludora.players.bots import RandomPlayer
from ludora.players.search import MCTS, STRENGTHS
from ludora.rng import stream
from ludora.types import Task, Turn


def positions(task_id: int, count: int) -> list[Turn]:
    """Turns with a choice, from all over random games: the k-th of `count` lies k/count of the way through its game."""
    spec, found, player = task_spec(str(task_id).zfill(12)), [], RandomPlayer()
    for k in range(count):
        env, seen = make_env(Task(spec, k)), []
        while turns := env.turns():
            turns = tuple(replace(t, seed=stream("opponents", k, len(seen), t.seat)) for t in turns)
            seen += [turn for turn in turns if turn.legal and len(turn.legal) > 1]
            env.apply({t.seat: m for t, m in zip(turns, player.act(turns), strict=True)})
        if seen:
            found.append(seen[k * len(seen) // count])
    return found


def ours(player: MCTS, turns: list[Turn]) -> list[float]:
    """Milliseconds of each move, one at a time."""
    out = []
    for turn in turns:
        start = time.perf_counter()
        player.act([turn])
        out.append(1000 * (time.perf_counter() - start))
    return out


def theirs(turn: Turn, effort: Any, simulations: int) -> float:
    """Milliseconds of OpenSpiel's Python bot, in the same position with the same settings."""
    random = np.random.RandomState(turn.seed % 2**32)
    evaluator = RandomRolloutEvaluator(effort.rollouts, random)
    bot = MCTSBot(turn.state.state.get_game(), effort.uct, simulations, evaluator, solve=True, random_state=random)
    state = turn.state.state.clone()
    start = time.perf_counter()
    bot.step(state)
    return 1000 * (time.perf_counter() - start)


def one_game(name: str, task_id: int, options: argparse.Namespace) -> dict[str, Any]:
    """Medians by strength, and the ratio to the Python bot at the strength of the comparison."""
    turns = positions(task_id, options.positions)
    row: dict[str, Any] = {"game": name}
    for strength in options.strengths:
        player = MCTS(strength)
        try:
            player.check(turns[0].state.spec)
        except Exception as error:  # said in the row; the benchmark goes on with what can be played
            row[strength] = str(error).splitlines()[0]
            continue
        row[strength] = median(ours(player, turns))
    player = MCTS(options.against)
    player.check(turns[0].state.spec)
    effort = player._efforts[turns[0].state.spec]
    pairs = []
    for turn in turns[:: max(1, len(turns) // options.compared)][: options.compared]:
        (mine,) = ours(player, [turn])  # in turns, so that both meet the same load
        try:
            pairs.append((mine, theirs(turn, effort, effort.simulations)))
        except Exception as error:  # the Python bot cannot play through some positions (gin rummy's empty ones)
            row["python_error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
    if pairs:
        row["python"] = median([b for _, b in pairs])
        row["ratio"] = median([b / a for a, b in pairs])
    return row


def batch(options: argparse.Namespace) -> float:
    """How much faster sixteen moves are searched in one tick than one after the other, on all cores."""
    turns, player = positions(6 * BLOCK + 3, 16), MCTS("strong")
    player.check(turns[0].state.spec)
    alone = sum(ours(player, turns))
    start = time.perf_counter()
    player.act(turns)
    return alone / (1000 * (time.perf_counter() - start))


HOW = (
    "milliseconds per move, median over positions from all over random games of config 0; ratio: OpenSpiel's Python "
    "MCTSBot over ours in the same positions with equal simulations, rollouts and exploration, median over games; "
    "batch: sixteen moves of hex on 11x11, mcts:strong, one by one over all in one tick"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=8, help="positions per game")
    parser.add_argument("--compared", type=int, default=3, help="of them, those that the Python bot gets as well")
    parser.add_argument("--against", default="medium", choices=list(STRENGTHS), help="strength of the comparison")
    parser.add_argument(
        "--strengths", nargs="+", default=["weak", "medium", "strong"], help="add origin for the full ones"
    )
    parser.add_argument("--games", nargs="+", default=None, help="names; all numbered ones by default")
    parser.add_argument("--quick", action="store_true", help="three games, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.games, options.positions, options.compared = ["leduc_poker", "hex", "oware"], 2, 1
        options.strengths = ["weak", "medium"]
    began, load = time.perf_counter(), os.getloadavg()
    rows, refused = [], []
    for index, entry in enumerate(CATALOGUE):
        if options.games and entry.name not in options.games:
            continue
        if "mcts" not in figures()[entry.name].search:
            refused.append(entry.name)
            continue
        rows.append(rounded(one_game(entry.name, index * BLOCK, options)))
        say(str(rows[-1]))
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    emit(
        rounded(
            {
                "benchmark": "opponents",
                "ratio": median(ratios),
                "ratio_lowest": min(ratios),
                "batch": batch(options),
                "against": options.against,
                "games": rows,
                "refused": refused,
                "cores": os.cpu_count(),
                "load_before": [round(value, 2) for value in load],
                "load_after": [round(value, 2) for value in os.getloadavg()],
                "quick": options.quick,
                "seconds": time.perf_counter() - began,
                "how": HOW,
            }
        )
    )


if __name__ == "__main__":
    main()
