"""Write the golden playthroughs: whole games as text, one file per game. `python tests/golden/make.py` renews them.

A change of these files is a change of what models read or of who wins; look at the diff before committing it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ludora.envs.base import Env
from ludora.envs.build import make_env, task_spec
from ludora.players.bots import RandomPlayer
from ludora.players.snake import build
from ludora.rng import stream
from ludora.types import Move, Spec, Stop, Task, Turn

HERE = Path(__file__).parent
GAMES = {"kuhn_poker": 6, "leduc_poker": 8, "tic_tac_toe": 2}
# Snake in each of its texts: the first game of every file is an expert's, which eats.
GAMES |= {f"snake_{text}": 3 for text in ("features", "trap", "coordinates", "board", "seed")}
TASKS = {f"snake_{text}": f"snake(size=4, text={text})" for text in ("features", "coordinates", "board", "seed")}
TASKS["snake_trap"] = "snake(size=4, text=features+trap, offer=safe, step_cost=0.01, max_steps=40)"
SPOILT = 1  # the last game of every file ends with a move that is not legal


def playthrough(name: str, seed: int, spoil_at: int = -1) -> list[str]:
    """One game between uniform players, line by line; the seat whose turn is number `spoil_at` forfeits."""
    task = Task(task_spec(TASKS.get(name, name)), seed)
    env = make_env(task)
    lines = [f"# {task.env}, seed {seed}", f"rewards before the first move: {env.rewards()}"]
    number = 0
    while turns := env.turns():
        (turn,) = turns
        move = _move(task, turn, number, number == spoil_at)
        if number == 0:
            lines += ["", "rules:", turn.messages[0].content]
        lines += ["", f"seat {turn.seat} reads:", turn.messages[1].content, f"legal: {' | '.join(turn.legal or ())}"]
        env.apply({turn.seat: move})
        lines += [f"move: {move.text}", f"rewards: {env.rewards()}"]
        number += 1
    return [*lines, "", *_end(env), ""]


def _move(task: Task, turn: Turn, number: int, spoilt: bool) -> Move:
    if spoilt:
        return Move("hm", stop=Stop.INVALID)
    player = build(Spec("bfs")) if task.env.name == "snake" and task.seed == 0 else RandomPlayer()
    return player.act([replace(turn, seed=stream("golden", task.seed, number))])[0]


def _end(env: Env) -> list[str]:
    result = env.result()
    return [
        f"end: {result.end}",
        f"outcomes: {', '.join(result.outcomes)}",
        f"scores: {', '.join(f'{score:.6f}' for score in result.scores)}",
    ]


def golden(name: str) -> str:
    """The whole file of a game."""
    lines: list[str] = []
    for seed in range(GAMES[name] - SPOILT):
        lines += playthrough(name, seed)
    return "\n".join([*lines, *playthrough(name, GAMES[name] - SPOILT, spoil_at=1)])


if __name__ == "__main__":
    for game in GAMES:
        (HERE / f"{game}.txt").write_text(golden(game), encoding="utf-8")
