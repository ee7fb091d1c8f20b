"""Exact resume: a training process killed by SIGKILL anywhere, and resumed, ends in the same bits as one left alone."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
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


@pytest.fixture(scope="module")
def order(driver: Order) -> Order:
    return partial(driver, CONFIG)


def finish(order: Order, run: Path, **changes: Any) -> None:
    """Resume until it is done."""
    assert order(run, **changes) == 0


def the_same_from_step_one(order: Order, folder: Path, changes: dict[str, Any]) -> None:
    """A run that goes back to its first checkpoint ends as it did without."""
    finish(order, folder / "calm", **changes)
    shutil.copytree(folder / "calm", folder / "run")
    finish(order, folder / "run", step=1, **changes)
    assert differences(folder / "run", folder / "calm") == []


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
    changes = {"keep": 1, "save_every": 1, "updates": 8, "seed": 3, "evaluate_every": 1, "learning_rate": 0.02}
    finish(order, tmp_path / "calm", **changes)
    best = Run.read(tmp_path / "calm").best
    assert best is not None and 0 < best < 8  # or this would not be the case that it is about
    assert order(tmp_path / "run", f"mark:{best}", **changes) == -9
    finish(order, tmp_path / "run", **changes)
    assert differences(tmp_path / "run", tmp_path / "calm") == []


def test_killed_at_random_moments(order: Order, undisturbed: Path, tmp_path: Path) -> None:
    run = killed_at_random(order, tmp_path, 4)
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


def forget_failures(contents: dict[str, bytes]) -> None:
    state = json.loads(contents["state.json"])
    assert state["replay"]
    state["replay"] = []
    contents["state.json"] = json.dumps(state, sort_keys=True).encode()


def copy_tensors(source: str, target: str) -> Change:
    def change(contents: dict[str, bytes]) -> None:
        assert contents[target] != contents[source]
        contents[target] = contents[source]

    return change


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda contents: None, True),
        (drop_moments("actor_optimizer"), False),
        (set_state("learner.dropout_draws", 0), False),
        (set_state("learner.kl_coef", 0.5), False),
        (set_state("curriculum.stage", 0), False),
        (set_state("curriculum.tokens", {}), False),
        (set_state("curriculum.means", {}), False),
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
def test_controls(order: Order, undisturbed: Path, tmp_path: Path, change: Change, same: bool) -> None:
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


def test_exact_against_the_base(order: Order, tmp_path: Path) -> None:
    """It never changes, so what it keeps lives long; a resumed run has none of it."""
    changes = {
        "stages": [],
        "window": 100,
        "task": "leduc_poker",
        "opponent": "epsilon(0.2, base)",
        "snapshot_every": 0,
        "sampler": "uniform",
        "updates": 2,
        "save_every": 1,
        "evaluate_every": 1,
        "evaluate_temperature": 0.5,
    }
    the_same_from_step_one(order, tmp_path, changes)


def test_exact_in_bf16_too(order: Order, tmp_path: Path) -> None:
    """Its kernels may give a row other bits in another batch, so what a cache holds must not outlive a checkpoint."""
    changes = {
        "model": bf16_model(tmp_path / "model"),
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
    the_same_from_step_one(order, tmp_path, changes)
