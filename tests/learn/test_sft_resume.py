"""Exact resume of learning from examples: killed by SIGKILL anywhere and resumed, a run ends in the same bits."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.learn import toy
from tests.learn.resuming import (
    Change,
    Order,
    altered,
    bf16_model,
    differences,
    drop_moments,
    killed_at_random,
    set_state,
)

# all that has a state: dropout, trunk cache, sums between lines of metrics, evaluations by loss and by answers
CONFIG: dict[str, Any] = {
    "kind": "sft",
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "act": "say",
    "labels": "names",
    "max_new_tokens": 4,
    "retries": 0,
    "dropout": 0.1,
    "rank": 4,
    "layers": "top:2",
    "learning_rate": 3e-3,
    "batch": 8,
    "accumulation": 2,
    "epochs": 2,
    "log_every": 4,
    "save_every": 5,
    "keep": 3,
    "eval_share": 0.2,
    "evaluate_every": 7,
    "evaluate_examples": 20,
    "evaluate_answers": 4,
    "task": "kuhn_poker",
    "evaluate_games": 4,
}
GAMES = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.games(tmp_path_factory.mktemp("data") / "games.jsonl", GAMES)


@pytest.fixture(scope="module")
def order(driver: Order, data: Path) -> Order:
    return partial(driver, {**CONFIG, "data": str(data)})


def test_two_undisturbed_runs_are_the_same(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    assert order(tmp_path / "again") == 0
    assert differences(tmp_path / "again", undisturbed) == []
    assert order(tmp_path / "other", seed=1) == 0
    assert "adapter/adapter_model.safetensors" in differences(tmp_path / "other", undisturbed)


def test_killed_inside_saves_and_between_steps(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run, killed = tmp_path / "run", 0
    for die in ("fsync:9", "step:3", "rename:2", "write:16", "step:9", "act:2"):
        killed += order(run, die) == -9
    assert killed >= 5
    assert order(run) == 0
    assert differences(run, undisturbed) == []


def test_killed_at_random_moments(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run = killed_at_random(order, tmp_path, 3)
    assert order(run) == 0
    assert differences(run, undisturbed) == []


def test_killed_when_all_is_learnt_but_the_ending(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "adapter")
    (run / "evaluation.json").unlink()
    assert order(run, "rename:1") == -9
    for _ in range(2):
        assert order(run) == 0
        assert differences(run, undisturbed) == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda contents: None, True),
        (drop_moments("optimizer"), False),
        (set_state("pupil.dropout_draws", 0), False),
        (set_state("sums", {}), False),
        (set_state("progress.step", 14), False),
    ],
    ids=["nothing", "no optimizer", "no dropout stream", "no sums", "the step before"],
)
def test_controls(order: Order, undisturbed: Path, tmp_path: Path, change: Change, same: bool) -> None:
    """Going back to a checkpoint repeats history; with a part of the state taken away it must not."""
    run, step = tmp_path / "run", 15  # between two lines of metrics
    altered(undisturbed, run, step, change)
    assert order(run, step=step) == 0
    assert (differences(run, undisturbed) == []) is same


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bf16_model(tmp_path_factory.mktemp("models") / "wide")


@pytest.mark.parametrize("room", [None, 400_000])
def test_exact_in_bf16_with_a_warm_and_a_cold_trunk(order: Order, wide: str, tmp_path: Path, room: int | None) -> None:
    """Its kernels may give a row other bits in another batch, and a resumed run begins with an empty cache."""
    changes = {
        "model": wide,
        "dtype": "bf16",
        "act": "choose",
        "labels": "letters",
        "max_new_tokens": 32,
        "retries": 2,
        "evaluate_answers": 32,
        "layers": "top:1",
        "learning_rate": 1e-3,
        "task": "none",
        "data": str(toy.games(tmp_path / "few.jsonl", count=5, turns=4, days=2)),
        "batch": 2,
        "steps": 14,
        "save_every": 4,
        "evaluate_every": 6,
        "cache_bytes": room,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    assert order(tmp_path / "calm", **changes) == 0
    assert order(tmp_path / "run", "step:12", **changes) == -9
    assert order(tmp_path / "run", **changes) == 0
    assert differences(tmp_path / "run", tmp_path / "calm") == []


def test_other_examples_are_refused(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    other = toy.games(tmp_path / "other.jsonl", GAMES, seed=1)
    assert order(tmp_path / "run", data=str(other)) != 0
    moved = toy.games(tmp_path / "moved.jsonl", GAMES)  # the same bytes in another place
    assert order(tmp_path / "run", data=str(moved)) == 0
    assert differences(tmp_path / "run", undisturbed) == []
