"""PPO on shell tasks: what an update leaves behind, and what broken sandboxes do to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.envs.shell.rig import ScriptedSandbox, use

from ludora.envs.sandbox.base import Done
from ludora.errors import TrainingFailed

WAY = {
    "task": "shell(act=line, rounds=1)",
    "act": "say",
    "max_new_tokens": 3,
    "games_per_update": 4,
    "evaluate_games": 1,
    "save_every": 1,
}


def test_every_epoch_has_its_stats_and_can_be_resumed(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [ScriptedSandbox({"check": Done(i % 2, "")}) for i in range(4)]
    use(monkeypatch, *boxes, *[ScriptedSandbox({"check": Done(1, "")}) for _ in range(40)])
    done = train(**WAY, updates=2)
    stats = [
        json.loads((done.path / "checkpoints" / f"step-{n:06}" / "training_stats.json").read_text()) for n in (1, 2)
    ]
    assert [s["epoch"] for s in stats] == [1, 2] and [s["total_attempts"] for s in stats] == [4, 4]
    assert stats[0]["total_correct"] == 2 and stats[0]["success_rate"] == 50 and stats[0]["mean_reward"] == 0.25
    assert stats[1]["total_failed"] == 4 and stats[1]["mean_reward"] == -0.5
    start = json.loads((done.path / "events.jsonl").read_text().splitlines()[0])
    assert start["settings"] == {WAY["task"]: {"root": "scripted"}}
    assert done.summary["evaluation"]["setting"] == {"root": "scripted"}
    assert not (done.path / "checkpoints" / "step-000000" / "training_stats.json").exists()
    assert done.rows[-1]["win_rate/skill/mkdir"] == 0 and done.rows[-2]["win_rate/skill/mkdir"] == 0.5


def test_broken_episodes_are_counted_and_never_a_reward(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ScriptedSandbox(broken=("setup",))
    boxes = [ScriptedSandbox() for _ in range(40)]
    use(monkeypatch, broken, *boxes[:3], broken, *boxes[3:])  # the first game breaks, and so does its second attempt
    (row,) = [row for row in train(**WAY, updates=1).rows if row["step"] == 1]
    assert (row["broken_games"], row["retried_games"], row["return"]) == (1, 1, 1.0)


def test_a_run_whose_sandboxes_all_break_ends(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, *[ScriptedSandbox(broken=("setup",)) for _ in range(40)])
    with pytest.raises(TrainingFailed, match="4 of 4 games broke, the first with: it broke"):
        train(**WAY, updates=1)
