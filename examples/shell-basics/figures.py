"""What the evaluations of run.sh come to, as one JSON line: success with 95 % intervals, and PPO against SFT."""

import json
from pathlib import Path


def read(name: str) -> dict:
    """What a command printed."""
    return json.loads(Path(f"{name}.json").read_text())


def success(row: dict) -> dict:
    """The share of tasks done, with its interval."""
    return {key: round(row[f"win_rate{end}"], 3) for key, end in (("rate", ""), ("low", "_low"), ("high", "_high"))}


figures = {}
for name, prefix in (("eval", ""), ("held_out", "held_out_")):
    after, before = read(name)["rows"]
    figures[f"{prefix}base"] = success(read(f"{prefix}base")["rows"][0])
    figures[f"{prefix}sft"], figures[f"{prefix}ppo"] = success(before), success(after)
    figures[f"{prefix}ppo_over_sft"] = {
        key: read(name)["comparisons"][0][key] for key in ("wins_only_player", "wins_only_baseline", "p_value_wins")
    }
figures["train_seconds"] = {name: read(name)["train_seconds"] for name in ("sft", "ppo")}
print(json.dumps(figures))
