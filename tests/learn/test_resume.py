"""Exact resume: a training process killed by SIGKILL anywhere, and resumed, ends in the same bits as one left alone."""

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

from ludora.models.checkpoint import pack_tensors
from ludora.models.tiny import tiny_model
from ludora.runs import files
from ludora.runs.store import Run

# all that has a state: dropout, both controllers, snapshots, the magnet, a mixture, evaluations and the best of them,
# stages of several games by learning progress and by tokens, and failures that are dealt again
CONFIG: dict[str, Any] = {
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "opponent": {"snapshots(last=2)": 2.0, "random": 1.0, "self": 1.0},
    "stages": [
        {"name": "one", "task": ["kuhn_poker", "matching_pennies_3p"], "threshold": 0.2},
        {"name": "two", "task": ["kuhn_poker", "liars_dice(numdice=1,dice_sides=2)"]},
    ],
    "window": 16,
    "sampler": "progress",
    "tokens_per_update": 5000,
    "replay": 0.3,
    "replay_size": 6,
    "snapshot_every": 2,
    "magnet_weight": 0.3,
    "magnet_every": 3,
    "dropout": 0.1,
    "entropy_coef": 0.02,
    "entropy_target": 0.6,
    "kl": "adaptive",
    "kl_coef": 0.05,
    "kl_target": 0.02,
    "learning_rate": 1e-3,
    "schedule": "linear",
    "games_per_update": 10,
    "minibatch": 8,
    "updates": 9,
    "save_every": 2,
    "keep": 3,
    "evaluate_every": 3,
    "evaluate_games": 8,
    "value_hidden": 16,
    "value_steps": 4,
    "rank": 4,
    "layers": "top:2",
}
TIMING = {"seconds_rollout", "seconds_update", "tokens_per_second", "decisions_per_second", "time"}
# how often a token was computed tells whether caches were cold, as they are after a resume
COLD = {"tokens_per_distinct_token"}

Order = Callable[..., int]


@pytest.fixture(scope="module")
def order() -> Iterator[Order]:
    """Gives the driver an order; returns the exit code of the training process."""
    driver = Path(__file__).with_name("resume_driver.py")
    process = subprocess.Popen([sys.executable, str(driver)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    reader, writer = process.stdout, process.stdin

    def give(run: Path, die: str | None = None, step: int | None = None, **changes: Any) -> int:
        wanted = {"run": str(run), "config": {**CONFIG, **changes}, "die": die, "step": step}
        print(json.dumps(wanted), file=writer, flush=True)
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


def finish(order: Order, run: Path, **changes: Any) -> None:
    """Resume until it is done."""
    assert order(run, **changes) == 0


def outcome(path: Path) -> dict[str, Any]:
    """All that must be the same bit for bit: final adapter, metrics, evaluation, and the whole last checkpoint."""
    run = Run.read(path)
    found: dict[str, Any] = {f"adapter/{file.name}": file.read_bytes() for file in run.adapter.iterdir()}
    rows = run.rows("metrics.jsonl")
    found["metrics"] = [{k: v for k, v in row.items() if k not in TIMING | COLD} for row in rows]
    last = run.load_checkpoint()
    found |= {f"checkpoint/{name}": data for name, data in last.files.items()}
    state = json.loads(last.files["state.json"])
    del state["progress"]["seconds"]
    found["checkpoint/state.json"] = state
    found["evaluation"] = run.read_json("evaluation.json")["rows"]
    return found | {"last": last.step, "best": run.best}  # a killed prune may leave more of the older ones


def named(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """An outcome with the run's own name taken out of the evaluation."""
    return {**found, "evaluation": json.loads(json.dumps(found["evaluation"]).replace(str(path), "RUN"))}


def differences(a: Path, b: Path) -> list[str]:
    """What is not the same in two runs; empty if they are one and the same history."""
    first, second = named(a, outcome(a)), named(b, outcome(b))
    return [key for key in sorted(first.keys() | second.keys()) if first.get(key) != second.get(key)]


def unfinished(run: Path) -> bool:
    """Whether a save was cut short."""
    return any((run / "checkpoints").glob(".tmp-*"))


def test_the_run_has_what_is_to_be_tested(undisturbed: Path) -> None:
    """A stage that was left, failures dealt again and won, and opponents of all kinds; or the tests below were easier."""
    run = Run.read(undisturbed)
    rows = list(run.rows("metrics.jsonl"))
    [stage] = [row for row in run.rows("events.jsonl") if row["event"] == "stage"]
    assert 0 < stage["update"] < 7
    assert sum(row.get("replays", 0) for row in rows) > 5 and sum(row.get("replay_mastered", 0) for row in rows) > 0
    assert any("win_rate/snapshots/seat0" in key or "/snapshots/seat" in key for row in rows for key in row)
    counts = {sum(row[key] for key in row if key.startswith("count/") and "seat" in key) for row in rows[1:]}
    assert len(counts) > 1  # tokens, not games, end an update


def test_two_undisturbed_runs_are_the_same(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    assert order(tmp_path / "again") == 0
    assert differences(tmp_path / "again", undisturbed) == []
    assert order(tmp_path / "other", seed=1) == 0
    assert "adapter/adapter_model.safetensors" in differences(tmp_path / "other", undisturbed)


def test_killed_inside_saves(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    """At its k-th write, sync or rename: in a file, between files, before and after the folder gets its name."""
    run, killed, cut = tmp_path / "run", 0, 0
    for die in (
        "fsync:9",
        "fsync:19",
        "rename:2",
        "write:16",
        "fsync:14",
        "rename:4",
        "fsync:26",
        "rename:3",
        "fsync:10",
    ):
        killed += order(run, die) == -9
        cut += unfinished(run)
    assert killed >= 7 and cut >= 4
    finish(order, run)
    assert not unfinished(run)
    assert differences(run, undisturbed) == []


def test_killed_by_an_observer_who_sees_a_save_begin(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    codes = [order(run, f"tmp:{k}") for k in (1, 2, 2)]
    assert codes.count(-9) >= 2
    finish(order, run)
    assert differences(run, undisturbed) == []


def test_killed_while_playing_and_while_learning(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for die in ("act:2", "step:40", "act:14", "step:9"):
        assert order(run, die) == -9, die
    finish(order, run)
    assert differences(run, undisturbed) == []


def test_killed_between_a_save_and_the_mark_that_it_is_the_best(order: Order, tmp_path: Path) -> None:
    """Otherwise the best would be pruned, and missed when training ends."""
    changes = {"keep": 1, "save_every": 1, "updates": 8, "seed": 2, "evaluate_every": 1, "learning_rate": 0.02}
    finish(order, tmp_path / "calm", **changes)
    best = Run.read(tmp_path / "calm").best
    assert best is not None and 0 < best < 8  # or this would not be the case that it is about
    assert order(tmp_path / "run", f"mark:{best}", **changes) == -9
    finish(order, tmp_path / "run", **changes)
    assert differences(tmp_path / "run", tmp_path / "calm") == []


def test_killed_at_random_moments(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run, draw = tmp_path / "run", random.Random()
    killed = [order(run, f"after:{draw.uniform(0.2, 1.6):.3f}") for _ in range(6)]
    assert -9 in killed
    finish(order, run)
    assert differences(run, undisturbed) == []


def test_killed_when_all_is_learnt_but_the_ending(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    """Adapter, evaluation and report are written after the last checkpoint; a finished run may be resumed, too."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "adapter")
    (run / "evaluation.json").unlink()
    for die in ("rename:1", "rename:2", "fsync:6"):
        assert order(run, die) == -9, die
    for _ in range(2):
        finish(order, run)
        assert differences(run, undisturbed) == []


def altered(undisturbed: Path, run: Path, step: int, change: Callable[[dict[str, bytes]], None]) -> None:
    """A copy of a run whose checkpoint of one step holds something else, under a manifest that fits it."""
    shutil.copytree(undisturbed, run)
    folder = Run.read(run).checkpoint(step)
    contents, facts = files.read_folder(folder)
    change(contents)
    shutil.rmtree(folder)
    files.write_folder(folder, contents, facts)


def drop_optimizer(contents: dict[str, bytes]) -> None:
    assert len(contents["actor_optimizer.safetensors"]) > 10_000
    contents["actor_optimizer.safetensors"] = pack_tensors({})


def set_state(part: str, key: str, value: Any) -> Callable[[dict[str, bytes]], None]:
    def change(contents: dict[str, bytes]) -> None:
        state = json.loads(contents["state.json"])
        assert state[part][key] != value
        state[part][key] = value
        contents["state.json"] = json.dumps(state, sort_keys=True).encode()

    return change


def forget_failures(contents: dict[str, bytes]) -> None:
    state = json.loads(contents["state.json"])
    assert state["replay"]
    state["replay"] = []
    contents["state.json"] = json.dumps(state, sort_keys=True).encode()


def copy_tensors(source: str, target: str) -> Callable[[dict[str, bytes]], None]:
    def change(contents: dict[str, bytes]) -> None:
        assert contents[target] != contents[source]
        contents[target] = contents[source]

    return change


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda contents: None, True),
        (drop_optimizer, False),
        (set_state("learner", "dropout_draws", 0), False),
        (set_state("learner", "kl_coef", 0.5), False),
        (set_state("curriculum", "stage", 0), False),
        (set_state("curriculum", "tokens", {}), False),
        (set_state("curriculum", "means", {}), False),
        (forget_failures, False),
        (copy_tensors("snapshot-4.safetensors", "snapshot-6.safetensors"), False),
        (copy_tensors("snapshot-4.safetensors", "magnet.safetensors"), False),
    ],
    ids=[
        "nothing",
        "no optimizer",
        "no dropout stream",
        "no KL coefficient",
        "first stage",
        "no token counts",
        "no progress",
        "no failures",
        "wrong snapshot",
        "wrong magnet",
    ],
)
def test_controls(
    order: Order, undisturbed: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], same: bool
) -> None:
    """Going back to a checkpoint repeats history; with a part of the state taken away it must not."""
    run = tmp_path / "run"
    step = Run.read(undisturbed).steps[-2]
    altered(undisturbed, run, step, change)
    finish(order, run, step=step)
    assert (differences(run, undisturbed) == []) is same


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_used(
    order: Order, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    folder = Run.read(run)
    for name in ("adapter.safetensors", "state.json"):  # one after the other, so it falls back by two
        file = folder.checkpoint(folder.steps[-1 if name.startswith("adapter") else -2]) / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    finish(order, run)
    assert differences(run, undisturbed) == []
    told = [row["text"] for row in folder.rows("events.jsonl") if row["event"] == "warning"]
    assert not told or "damaged" in told[0]  # the log goes back with the run, so the warning itself may be gone


def test_exact_in_bf16_too(order: Order, tmp_path: Path) -> None:
    """Its kernels may give a row other bits in another batch, so what a cache holds must not outlive a checkpoint."""
    model, tokenizer = tiny_model("llama", hidden_size=576, intermediate_size=1536, num_hidden_layers=2)
    torch.nn.Module.to(model, dtype=torch.bfloat16)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    changes = {
        "model": str(tmp_path / "model"),
        "dtype": "bf16",
        "stages": [],
        "window": 100,
        "task": "liars_dice(numdice=1,dice_sides=3)",
        "sampler": "uniform",
        "layers": "top:1",
        "updates": 3,
        "evaluate_every": 1,
        "save_every": 1,
        "snapshot_every": 1,
    }
    finish(order, tmp_path / "calm", **changes)
    shutil.copytree(tmp_path / "calm", tmp_path / "run")
    finish(order, tmp_path / "run", step=1, **changes)
    assert differences(tmp_path / "run", tmp_path / "calm") == []
