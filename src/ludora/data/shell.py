"""Reference solutions of shell tasks as conversations to learn from, each carried out in a sandbox and judged correct.

One JSON object per line, `{"messages": [rules, instruction, answer, output, ..., answer]}`. Equal arguments write equal
files, as long as the outputs of the commands are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ludora.data.snake import check_games, expert_games
from ludora.data.trajectories import close_file, new_file
from ludora.envs.build import task_spec
from ludora.envs.shell.options import options_of
from ludora.envs.shell.templates.base import EVAL, HELD_OUT
from ludora.errors import InputError
from ludora.players.shell import Reference
from ludora.types import Message, Outcome, Trajectory


@dataclass(slots=True)
class Statistics:
    """What was written. `refused` solutions were not judged correct and left out; `skills` counts conversations."""

    conversations: int = 0
    refused: int = 0
    templates: int = 0
    skills: dict[str, int] = field(default_factory=dict)


def generate(
    path: Path, task: str, *, games: int, seed: int = 0, progress: Callable[[], None] = lambda: None
) -> Statistics:
    """Carry out the reference solutions of `games` tasks and write those that were judged correct.

    Args:
        path: file to write.
        task: a TASK of the shell, of no split that is for evaluation.
        games: how many tasks, drawn by the seed.
        seed: of the draws.
        progress: called after every task.

    Raises:
        InputError: the task is none to learn from, a file is there already or cannot be made, or this machine has no
            sandbox.
        EnvBroken: a sandbox failed twice.
    """
    spec = task_spec(task)
    if spec.name != "shell" or options_of(spec).split in (EVAL, HELD_OUT):
        raise InputError(f"{spec} is not to be learnt from", "for example shell(level=1)")
    check_games(games, "task", "solved", "--games 400")
    found, templates, skills = Statistics(), set(), Counter[str]()
    temporary, file = new_file(path, newline="\n")
    done = False
    try:
        for trajectory in expert_games(spec, Reference(), games, seed):
            progress()
            if trajectory.outcome is not Outcome.WON:
                found.refused += 1
                continue
            chat = [{"role": m.role, "content": m.content} for m in conversation(trajectory)]
            file.write(json.dumps({"messages": chat}, ensure_ascii=False) + "\n")
            found.conversations += 1
            templates.add(trajectory.info["template"])
            skills.update(str(trajectory.info["skills"]).split())
        if not found.conversations:
            raise InputError(f"not one reference solution of {spec} was judged correct", "ludora shell verify says why")
        done = True
    finally:
        close_file(file, temporary, path, keep=done)
    found.templates, found.skills = len(templates - {""}), dict(sorted(skills.items()))
    return found


def conversation(trajectory: Trajectory) -> tuple[Message, ...]:
    """All that was said in an episode: every turn of the shell shows what was said before."""
    last = trajectory.steps[-1]
    return (*last.turn.messages, Message("assistant", last.move.text))
