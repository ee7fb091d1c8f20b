"""Small data sets with a rule to find, as files."""

from __future__ import annotations

import json
import random
from pathlib import Path

RULE = {"red": "stop", "blue": "go", "green": "wait"}


def games(path: Path, count: int = 40, turns: int = 5, seed: int = 0, days: int = 7, task: str = "lights") -> Path:
    """Recorded games in which the move hangs on one word of the state."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for number in range(count):
            steps = []
            for turn in range(turns):
                colour = draw.choice(sorted(RULE))
                state = f"Day {number % days}. {'It rains. ' * (turn % 2)}The light is {colour}."
                messages = [{"role": "system", "content": "Mind the light."}, {"role": "user", "content": state}]
                move = {"legal": ["stop", "go", "wait"], "move": RULE[colour], "reasoning": f"{colour}!", "reward": 0.0}
                steps.append({"messages": messages, **move})
            line = {"version": 1, "kind": "trajectory", "task": task, "seed": number, "seat": 0, "player": "expert"}
            ended = {"outcome": "won", "score": 1.0, "end": "terminated"}
            file.write(json.dumps({**line, "steps": steps, **ended}) + "\n")
    return path


def chats(path: Path, count: int = 40) -> Path:
    """Conversations of two rounds."""
    with path.open("w") as file:
        for number in range(count):
            a, b = number % 5, number % 3
            words = [("user", f"{a}+{b}"), ("assistant", f"{a + b}"), ("user", f"{b}+{b}"), ("assistant", f"{b + b}")]
            file.write(json.dumps({"messages": [{"role": r, "content": c} for r, c in words]}) + "\n")
    return path
