"""`docs/metrics.md` names exactly the metrics that training logs, in all ways of training that log different ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.envs.shell.rig import ScriptedSandbox, use
from tests.learn import toy

from ludora.learn import sft
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import SFTConfig

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

# Runs that together log everything there is to log.
WAYS: tuple[dict[str, Any], ...] = (
    {"kl": "fixed", "kl_coef": 0.1, "evaluate_every": 1, "updates": 1},
    {"kl": "adaptive", "kl_coef": 0.1, "kl_target": 0.1, "dropout": 0.1, "value_warmup": 1},
    {"opponent": "self", "magnet_weight": 0.4, "baseline": "ema", "evaluate_every": 2},
    {"opponent": {"snapshots(last=1)": 1, "first": 1}, "snapshot_every": 1, "entropy_coef": 0.1, "target_kl": 1e-9},
    {
        "task": "tic_tac_toe",
        "act": "say",
        "max_new_tokens": 2,
        "retries": 0,
        "games_per_update": 2,
        "evaluate_every": 1,
        "evaluate_games": 2,
        "updates": 1,
    },
    {
        "task": "shell(act=line, rounds=1)",
        "act": "say",
        "max_new_tokens": 2,
        "games_per_update": 4,
        "updates": 1,
        "evaluate_games": 1,
    },
)


SFT: dict[str, Any] = {"model": "tiny", "dtype": "fp32", "device": "cpu", "threads": 1, "task": "none", "steps": 1}
SFT_WAYS: tuple[dict[str, Any], ...] = ({}, {"act": "say", "max_new_tokens": 2, "retries": 0})


def documented(part: int) -> set[str]:
    """The names in the first column of a table: 0 of PPO, 1 of SFT. OPPONENT and N stand for what differs."""
    text = PAGE.read_text(encoding="utf-8").split("\n## Learning from examples\n")[part]
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) == len(set(names))
    return set(names)


def as_documented(name: str) -> str:
    """`return/random/seat0` as the page writes it."""
    name = re.sub(r"/(skill|level)/\w+$", r"/\1/NAME", re.sub(r"^share/\w+$", "share/STATUS", name))
    return re.sub(r"/.+/seat\d+$", "/OPPONENT/seatN", name)


def test_the_page_names_exactly_the_metrics_that_are_logged(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, *[ScriptedSandbox() for _ in range(40)])
    logged = {as_documented(name) for way in WAYS for row in train(**way).rows for name in row}
    assert logged - documented(0) == set()  # logged, and nobody says what it is
    assert documented(0) - logged == set()  # promised, and never logged


def test_the_page_names_exactly_the_metrics_of_learning_from_examples(tmp_path: Path) -> None:
    data = str(toy.games(tmp_path / "games.jsonl"))
    logged: set[str] = set()
    for way in SFT_WAYS:
        config = SFTConfig(**SFT, **way, data=data)
        with Run.create(tmp_path, "tiny", config.to_json()) as run, RunLog(run) as log:
            sft.train(config, run, log)
            logged |= {name for row in run.rows("metrics.jsonl") for name in row}
    assert logged - documented(1) == set()
    assert documented(1) - logged == set()
