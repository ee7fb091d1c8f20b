"""No option of imitation is accepted and ignored: each one, changed, changes the run; or a test named here shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.learn import toy
from tests.learn.options import assert_all_are_tested, changed, once, told

from ludora.errors import LudoraError
from ludora.learn import sft
from ludora.models.recipes import resolve
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import SFTConfig

STEPS = 3
BASE: dict[str, Any] = {
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "learning_rate": 1e-2,
    "data": "games.jsonl",
    "eval_share": 0.2,
    "batch": 4,
    "epochs": 100,
    "log_every": 1,
    "evaluate_every": 0,
    "task": "none",
}
MEASURED = {"evaluate_every": STEPS, "evaluate_examples": 8}
SAY = {"act": "say", "labels": "names", "max_new_tokens": 3, "retries": 1}
REASONED = {"answer": "reasoning", "labels": "names", "max_new_tokens": 12}
PLAYED = {"task": "kuhn_poker", "evaluate_games": 2, "steps": 1}

# field -> (a run's settings, what is changed in them)
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "model": ({}, "tiny"),
    "dtype": ({}, "bf16"),
    "threads": ({}, 2),
    "quantize": ({}, "4bit"),
    "act": ({"labels": "names"}, SAY),
    "labels": ({}, "names"),
    "history": (SAY, True),
    "reasoning": (REASONED, False),
    "temperature": ({}, 2.0),
    "max_new_tokens": (SAY | PLAYED, 1),
    "retries": (SAY | PLAYED, 0),
    "seed": ({}, 1),
    "lora": ({}, "quality"),
    "rank": ({}, 2),
    "alpha": ({}, 1.0),
    "dropout": ({}, 0.5),
    "rslora": ({}, True),
    "targets": ({}, "mlp"),
    "layers": ({}, "top:1"),
    "rank_pattern": ({}, {"q_proj": 2}),
    "minutes": ({}, 1e-9),
    "accumulation": ({"dropout": 0.5}, 3),  # what is drawn for a part shows that there are parts
    "learning_rate": ({}, 1e-3),
    "schedule": ({"steps": 8}, "constant"),
    "weight_decay": ({}, 0.5),
    "beta1": ({}, 0.0),
    "beta2": ({}, 0.0),
    "max_grad_norm": ({}, 1e-6),
    "save_every": ({}, 1),
    "keep": ({"save_every": 1}, 1),
    "evaluate_every": ({}, 2),
    "evaluate_games": (PLAYED, 4),
    "evaluate_temperature": (PLAYED, 0.001),
    "evaluate_on": (PLAYED, ("catch",)),
    "compare": (PLAYED, ("random",)),
    "patience": (MEASURED | {"learning_rate": 1e-12, "evaluate_every": 1}, 1),
    "data": ({}, "other.jsonl"),
    "eval_data": (MEASURED, "other.jsonl"),
    "eval_share": ({}, 0.4),
    "bad_lines": ({"data": "bad.jsonl"}, "skip"),
    "answer": (SAY, REASONED),
    "loss": ({}, "tokens"),
    "assistant": ({"data": "chats.jsonl"}, "all"),
    "epochs": ({"data": "few.jsonl", "batch": 40, "epochs": 2}, 1),
    "steps": ({}, 2),
    "batch": ({}, 5),
    "part_tokens": ({"dropout": 0.5}, 100),
    "warmup": ({}, 0.9),
    "log_every": ({}, 2),
    "evaluate_examples": (MEASURED, 3),
    "evaluate_answers": (SAY | MEASURED | {"evaluate_answers": 3}, 0),
    "task": (PLAYED, "catch"),
    "opponent": (PLAYED, "first"),
}

# field -> the test that shows what it does
ELSEWHERE = {
    "device": "models/test_load.py::test_dtype_and_device_by_name",
    "gradient_checkpointing": "models/test_engine.py::test_recomputed_activations_give_the_same_gradients",
    "trust_remote_code": "models/test_load.py::test_a_models_own_code_runs_only_where_the_user_says_so",
    "top_p": "learn/test_every_option.py::test_an_option_that_is_changed_changes_the_run",  # the same sampler
    "adapter": "learn/test_sft.py::test_goes_on_from_an_adapter",
    "name": "test_config.py::test_the_name_comes_from_the_file",
    "runs_dir": "cli/test_train_sft.py::test_trains_resumes_and_refuses_other_examples",
    "trackers": "runs/test_log.py::test_tensorboard_reads_what_we_write",
}
TIMING = {"seconds_step", "tokens_per_second", "examples_per_second", "time"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    toy.games(folder / "games.jsonl")
    toy.games(folder / "other.jsonl", seed=1)
    toy.games(folder / "few.jsonl", count=8)
    toy.chats(folder / "chats.jsonl")
    (folder / "bad.jsonl").write_bytes((folder / "games.jsonl").read_bytes() + b"oops\n")
    return folder


@pytest.fixture(autouse=True)
def among_the_files(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def what_happened(folder: Path, settings: dict[str, Any]) -> str:
    """All that a run of a few steps left behind, but times; or why it was refused."""
    try:
        config = SFTConfig(**BASE | settings)
        if config.lora != "none":
            config = resolve(config, lambda text: None)
        with Run.create(folder, "run", config.to_json()) as run, RunLog(run) as log:
            return _trained(config, run, log)
    except LudoraError as error:
        return error.message


def _trained(config: SFTConfig, run: Run, log: RunLog) -> str:
    asked = iter(range(99))
    ended = sft.train(config, run, log, stop=lambda: not config.steps and next(asked) >= STEPS)
    evaluations = [ended["evaluation"], *ended["evaluation"]["further"]] if "evaluation" in ended else []
    players = [{**row, "player": "", "cost": row["cost"]["tokens_per_move"]} for e in evaluations for row in e["rows"]]
    return json.dumps([ended["ended"], ended["epochs"], run.steps, told(run, TIMING), players], sort_keys=True)


unchanged = once(what_happened)


@pytest.mark.parametrize("field", CHANGES)
def test_an_option_that_is_changed_changes_the_run_or_is_refused(field: str, tmp_path: Path) -> None:
    settings, value = CHANGES[field]
    before = unchanged(tmp_path / "b", settings)
    assert before.startswith("[") != (field == "bad_lines")
    assert what_happened(tmp_path / "a", settings | changed(field, value)) != before


def test_a_run_that_is_repeated_is_the_same(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    for settings in ({}, SAY | PLAYED, {"dropout": 0.5}):
        assert what_happened(tmp_path / "a", settings) == unchanged(tmp_path / "b", settings)


def test_no_option_is_left_out() -> None:
    assert_all_are_tested(SFTConfig, CHANGES, ELSEWHERE)
