"""`docs/metrics.md` names exactly the metrics that training logs, in all ways of training that log different ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.envs.shell.rig import ScriptedSandbox, use
from tests.learn import toy

from ludora.evolve.search import evolve
from ludora.evolve.settings import EvolveConfig
from ludora.learn import sft
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import SFTConfig

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

# Runs that together log everything there is to log.
WAYS: tuple[dict[str, Any], ...] = (
    {"kl": "fixed", "kl_coef": 0.1, "evaluate_every": 1, "updates": 1},
    {
        "stages": [{"name": "one", "task": ["kuhn_poker", "tic_tac_toe"]}, {"name": "two"}],
        "sampler": "progress",
        "replay": 0.5,
        "evaluate_every": 1,
        "evaluate_games": 2,
    },
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
        "task": ["snake(size=4, max_steps=3)", "snake(size=5, max_steps=3)"],
        "games_per_update": 4,
        "updates": 1,
        "evaluate_every": 1,
        "evaluate_games": 2,
    },
    {
        "task": "snake(size=4, max_steps=3)",
        "games_per_update": 4,
        "updates": 1,
        "evaluate_every": 1,
        "evaluate_games": 2,
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
    """The names in the first column of a table: 0 of PPO, 1 of SFT, 2 of evolution. OPPONENT and N stand for what differs."""
    text = re.split("\n## (?:Learning from examples|Evolution)\n", PAGE.read_text(encoding="utf-8"))[part]
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) == len(set(names))
    return set(names)


def as_documented(name: str) -> str:
    """`return/random/seat0` and `return/kuhn_poker` as the page writes them."""
    name = re.sub(r"/(skill|level)/\w+$", r"/\1/NAME", re.sub(r"^share/\w+$", "share/STATUS", name))
    if name.endswith(("/NAME", "/STATUS")):
        return name
    return re.sub(r"/.+", lambda rest: "/OPPONENT/seatN" if re.search(r"/seat\d+$", rest[0]) else "/GAME", name)


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


EVOLVE: dict[str, Any] = {
    **{
        "model": "tiny",
        "dtype": "fp32",
        "device": "cpu",
        "threads": 1,
        "generations": 1,
        "population": 2,
        "ranks": (2, 4),
    },
    **{"train_size": 4, "batch": 4, "epochs": 1, "finalists": 0, "test_size": 0, "rungs": ()},
}
EVOLVE_WAYS: tuple[dict[str, Any], ...] = (
    {"fitness": "accuracy", "answer_tokens": 2, "eval_size": 2},
    {"fitness": "game:kuhn_poker"},
    {"fitness": "game:tic_tac_toe", "teacher": "first", "evaluate_games": 2},
)


def test_the_page_names_exactly_the_metrics_of_evolution(tmp_path: Path) -> None:
    logged: set[str] = set()
    for way in EVOLVE_WAYS:
        config = EvolveConfig(**EVOLVE, **way)
        with Run.create(tmp_path, "tiny", config.to_json()) as run, RunLog(run) as log:
            evolve(config, run, log)
            logged |= {name for row in run.rows("metrics.jsonl") for name in row}
    assert logged - documented(2) == set()
    assert documented(2) - logged == set()
