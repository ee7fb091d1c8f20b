"""Exact resume of learning from examples: killed by SIGKILL anywhere and resumed, a run ends in the same bits."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.learn import toy

from ludora.models.checkpoint import pack_tensors
from ludora.models.tiny import tiny_model
from ludora.runs import files
from ludora.runs.store import Run

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
    "batch": 16,
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
TIMING = {"seconds_step", "tokens_per_second", "examples_per_second", "time"}

Order = Callable[..., int]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.games(tmp_path_factory.mktemp("data") / "games.jsonl")


@pytest.fixture(scope="module")
def order(data: Path) -> Iterator[Order]:
    """Gives the driver an order; returns the exit code of the training process."""
    driver = Path(__file__).with_name("resume_driver.py")
    process = subprocess.Popen([sys.executable, str(driver)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    reader, writer = process.stdout, process.stdin

    def give(run: Path, die: str | None = None, step: int | None = None, **changes: Any) -> int:
        config = {**CONFIG, "data": str(data), **changes}
        print(json.dumps({"run": str(run), "config": config, "die": die, "step": step}), file=writer, flush=True)
        return int(reader.readline())

    yield give
    writer.close()
    process.wait()


@pytest.fixture(scope="module")
def undisturbed(order: Order, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert order(path) == 0
    return path


def outcome(path: Path) -> dict[str, Any]:
    """All that must be the same bit for bit: final adapter, metrics, evaluation, and the whole last checkpoint."""
    run = Run.read(path)
    found: dict[str, Any] = {f"adapter/{file.name}": file.read_bytes() for file in run.adapter.iterdir()}
    found["metrics"] = [{k: v for k, v in row.items() if k not in TIMING} for row in run.rows("metrics.jsonl")]
    last = run.load_checkpoint()
    found |= {f"checkpoint/{name}": data for name, data in last.files.items()}
    state = json.loads(last.files["state.json"])
    del state["progress"]["seconds"]
    found["checkpoint/state.json"] = state
    if run.evaluation.exists():
        found["evaluation"] = json.dumps(run.read_json("evaluation.json")["rows"]).replace(str(path), "RUN")
    return found | {"last": last.step, "best": run.best}


def differences(a: Path, b: Path) -> list[str]:
    """What is not the same in two runs; empty if they are one and the same history."""
    first, second = outcome(a), outcome(b)
    return [key for key in sorted(first.keys() | second.keys()) if first.get(key) != second.get(key)]


def test_two_undisturbed_runs_are_the_same(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    assert order(tmp_path / "again") == 0
    assert differences(tmp_path / "again", undisturbed) == []
    assert order(tmp_path / "other", seed=1) == 0
    assert "adapter/adapter_model.safetensors" in differences(tmp_path / "other", undisturbed)


def test_killed_inside_saves_and_between_steps(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run, killed = tmp_path / "run", 0
    for die in ("fsync:9", "step:3", "rename:2", "write:16", "step:9", "fsync:14", "act:2", "rename:4", "step:6"):
        killed += order(run, die) == -9
    assert killed >= 7
    assert order(run) == 0
    assert differences(run, undisturbed) == []


def test_killed_at_random_moments(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run, draw = tmp_path / "run", random.Random()
    killed = [order(run, f"after:{draw.uniform(0.1, 0.8):.3f}") for _ in range(6)]
    assert -9 in killed
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


def alter(name: str) -> Callable[[dict[str, bytes]], None]:
    """Takes a part of a checkpoint's state away."""

    def change(contents: dict[str, bytes]) -> None:
        state = json.loads(contents["state.json"])
        if name == "optimizer":
            contents["optimizer.safetensors"] = pack_tensors({})
        if name == "dropout":
            state["pupil"]["dropout_draws"] = 0
        if name == "sums":
            assert state["sums"]
            state["sums"] = {}
        if name == "step":
            state["progress"]["step"] -= 1
        contents["state.json"] = json.dumps(state, sort_keys=True).encode()

    return change


@pytest.mark.parametrize("part", ["nothing", "optimizer", "dropout", "sums", "step"])
def test_controls(order: Order, undisturbed: Path, tmp_path: Path, part: str) -> None:
    """Going back to a checkpoint repeats history; with a part of the state taken away it must not."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    step = next(s for s in reversed(Run.read(run).steps[:-1]) if s % 4 and s % 7)  # between two lines of metrics
    folder = Run.read(run).checkpoint(step)
    contents, facts = files.read_folder(folder)
    alter(part)(contents)
    shutil.rmtree(folder)
    files.write_folder(folder, contents, facts)
    assert order(run, step=step) == 0
    assert (differences(run, undisturbed) == []) is (part == "nothing")


@pytest.mark.parametrize("room", [None, 400_000])
def test_exact_in_bf16_with_a_warm_and_a_cold_trunk(order: Order, tmp_path: Path, room: int | None) -> None:
    """Its kernels may give a row other bits in another batch, and a resumed run begins with an empty cache."""
    model, tokenizer = tiny_model("llama", hidden_size=576, intermediate_size=1536, num_hidden_layers=2)
    torch.nn.Module.to(model, dtype=torch.bfloat16)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    changes = {
        "model": str(tmp_path / "model"),
        "dtype": "bf16",
        "act": "choose",
        "labels": "letters",
        "max_new_tokens": 32,
        "retries": 2,
        "evaluate_answers": 32,
        "layers": "top:1",
        "learning_rate": 1e-3,
        "task": "none",
        "data": str(toy.games(tmp_path / "few.jsonl", count=8, turns=4, days=2)),
        "batch": 2,
        "steps": 24,
        "save_every": 4,
        "evaluate_every": 10,
        "cache_bytes": room,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    assert order(tmp_path / "calm", **changes) == 0
    assert order(tmp_path / "run", "step:19", **changes) == -9
    assert order(tmp_path / "run", **changes) == 0
    assert differences(tmp_path / "run", tmp_path / "calm") == []


def test_other_examples_are_refused(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    other = toy.games(tmp_path / "other.jsonl", seed=1)
    assert order(tmp_path / "run", data=str(other)) != 0
    moved = toy.games(tmp_path / "moved.jsonl")  # the same bytes in another place
    assert order(tmp_path / "run", data=str(moved)) == 0
    assert differences(tmp_path / "run", undisturbed) == []
