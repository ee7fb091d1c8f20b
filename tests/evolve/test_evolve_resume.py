"""Exact resume of evolution: killed by SIGKILL anywhere and resumed, a run ends with the same lineage and weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.learn.resuming import Order, driving, killed_at_random

from ludora.runs.store import Run

# all that has a state: dropout, rungs, a learner that stops, elites, children of two, finals, a small pack that is refilled
CONFIG: dict[str, Any] = {
    "kind": "evolve",
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "fitness": "accuracy",
    "answer_tokens": 3,
    "train_size": 12,
    "eval_size": 4,
    "test_size": 4,
    "rung_questions": 3,
    "population": 5,
    "generations": 2,
    "survivors": 2,
    "crossover": 0.5,
    "immigrants": 1,
    "rungs": (0.5,),
    "finalists": 1,
    "final_seeds": 2,
    "ranks": (2, 4),
    "dropouts": (0.1,),
    "layers": ("top:2", "all"),
    "epochs": 2,
    "batch": 4,
    "pack": 2,
    "save_every": 2,
}
TIMING = {"seconds_train", "seconds_score"}


@pytest.fixture(scope="module")
def order() -> Iterator[Order]:
    """Gives the driver an order; returns the exit code of the evolving process."""
    with driving() as give:
        yield partial(give, CONFIG)


@pytest.fixture(scope="module")
def undisturbed(order: Order, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert order(path) == 0
    return path


def outcome(path: Path) -> dict[str, Any]:
    """All that must be the same bit for bit: lineage with every score, metrics, weights, the answers to the test."""
    run = Run.read(path)
    found: dict[str, Any] = {
        "lineage": [
            {k: v for k, v in row.items() if k != "at" or row["event"] == "rung"} for row in run.rows("events.jsonl")
        ],
        "metrics": [{k: v for k, v in row.items() if k not in TIMING} for row in run.rows("metrics.jsonl")],
        "test": json.dumps(run.read_json("evaluation.json")).replace(str(path), "RUN"),
    }
    for folder in ("adapter", "variants"):
        for file in sorted((path / folder).rglob("*.safetensors")):
            found[str(file.relative_to(path))] = file.read_bytes()
    for name, data in run.load_checkpoint().files.items():
        found[f"checkpoint {name}"] = data
    return found


def differences(path: Path, other: Path) -> list[str]:
    one, two = outcome(path), outcome(other)
    return [key for key in {**one, **two} if one.get(key) != two.get(key)]


def test_what_there_is_to_lose(undisturbed: Path) -> None:
    """The run that is compared with went through everything."""
    kinds = [row["event"] for row in Run.read(undisturbed).rows("events.jsonl")]
    assert {"start", "born", "rung", "scored", "generation", "final", "test", "end"} == set(kinds)
    born = [row for row in Run.read(undisturbed).rows("events.jsonl") if row["event"] == "born"]
    assert {row["operator"] for row in born} == {"start", "mutation", "crossover+mutation", "immigrant"}
    assert len({row["genome"]["layers"] for row in born}) == 2


def test_killed_inside_saves_and_between_steps(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run, killed = tmp_path / "run", 0
    for where in ("fsync:9", "step:3", "rename:2", "write:30", "step:12", "fsync:20", "rename:9", "step:25"):
        killed += order(run, where) == -9
    assert killed >= 6
    assert order(run) == 0
    assert differences(run, undisturbed) == []


def test_killed_again_and_again_at_random_moments(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run = killed_at_random(order, tmp_path, 3)
    assert order(run) == 0
    assert differences(run, undisturbed) == []


def test_another_pack_gives_the_same(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    """On the way, too: what was begun two at a time goes on one at a time."""
    run = tmp_path / "run"
    assert order(run, "step:9", pack=4) == -9
    assert order(run, pack=1) == 0
    assert differences(run, undisturbed) == []
