"""No option is accepted and ignored: each one, changed, changes what training does; or a test named here shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.learn.options import assert_all_are_tested, changed, once, told

from ludora.learn import ppo
from ludora.runs import episodes
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig

UPDATES = 2
BASE: dict[str, Any] = {
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "task": "kuhn_poker",
    "learning_rate": 1e-2,
    "games_per_update": 12,
    "minibatch": 8,
    "updates": 100,
    "evaluate_every": 0,
    "value_hidden": 16,
    "value_steps": 4,
}
SAY = {"task": "tic_tac_toe", "act": "say", "max_new_tokens": 3, "retries": 1, "games_per_update": 3}
EMA = {"baseline": "ema", "value_hidden": 256, "value_steps": 32}  # the defaults, since the critic is out of play
FIXED, ADAPTIVE = {"kl": "fixed", "kl_coef": 0.5}, {"kl": "adaptive", "kl_coef": 0.5, "kl_target": 0.01}
MAGNET = {"opponent": "self", "magnet_weight": 0.5}
STAGES = [{"name": "one", "threshold": 0.01}, {"name": "two", "opponent": "first"}]
CURRICULUM = {"stages": STAGES, "window": 4}
GAMES = {"task": ["kuhn_poker", "matching_pennies_3p"]}
REPLAY = {"replay": 0.5, "opponent": "first"}
SNAPSHOTS = {"opponent": "snapshots(last=1)", "snapshot_every": 2}
MEASURED = {"task": "tic_tac_toe", "evaluate_every": 2, "evaluate_games": 4, "games_per_update": 2}

# field -> (a run's settings, what is changed in them)
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "model": ({}, "tiny"),
    "dtype": ({}, "bf16"),
    "threads": ({"games_per_update": 2}, 2),
    "quantize": ({}, "4bit"),
    "act": ({"task": "tic_tac_toe", "games_per_update": 3}, SAY),
    "labels": ({}, "names"),
    "reasoning": (SAY, True),
    "temperature": ({}, 2.0),
    "top_p": (SAY, 0.1),
    "max_new_tokens": (SAY, 2),
    "retries": (SAY, 0),
    "seed": ({}, 1),
    "task": ({}, "tic_tac_toe"),
    "opponent": ({}, "first"),
    "stages": (CURRICULUM, STAGES[::-1]),
    "window": (CURRICULUM, 1000),
    "threshold": ({"stages": [{"name": "one"}, {"name": "two", "opponent": "first"}], "window": 4}, 0.01),
    "sampler": (GAMES, "progress"),
    "replay": (REPLAY, 1.0),
    "replay_size": (REPLAY, 1),
    "max_turns": ({}, 1),
    "max_tokens": ({}, 1),
    "tokens_per_update": (GAMES, 900),
    "rank": ({}, 2),
    "alpha": ({}, 1.0),
    "dropout": ({}, 0.5),
    "rslora": ({}, True),
    "targets": ({}, "mlp"),
    "layers": ({}, "top:1"),
    "rank_pattern": ({}, {"q_proj": 2}),
    "games_per_update": ({}, 13),
    "updates": ({}, 1),
    "minutes": ({}, 1e-9),
    "epochs": ({}, 1),
    "minibatch": ({}, 4),
    "accumulation": ({"dropout": 0.5}, 3),  # what is drawn for a part shows that there are parts
    "learning_rate": ({}, 1e-3),
    "schedule": ({}, "linear"),
    "warmup_updates": ({}, 2),
    "weight_decay": ({}, 0.5),
    "beta1": ({}, 0.0),
    "beta2": ({}, 0.0),
    "max_grad_norm": ({}, 1e-6),
    "clip": ({}, 1e-3),
    "value_clip": ({}, 1e-3),
    "invalid_penalty": (SAY, 0.5),
    "gamma": ({}, 0.1),
    "lam": ({}, 0.1),
    "baseline": (EMA | {"baseline": "critic"}, "ema"),
    "value_learning_rate": ({}, 0.1),
    "value_hidden": ({}, 8),
    "value_steps": ({}, 1),
    "value_warmup": ({}, 1),
    "ema_decay": (EMA, 0.0),
    "normalize_advantages": ({}, False),
    "kl": (ADAPTIVE | {"kl_target": 0.0, "kl": "fixed"}, {"kl": "adaptive", "kl_target": 0.01}),
    "kl_coef": (FIXED, 0.1),
    "kl_target": (ADAPTIVE, 1.0),
    "target_kl": ({}, 1e-9),
    "entropy_coef": ({}, 0.5),
    "entropy_schedule": ({"entropy_coef": 0.5}, "linear"),
    "entropy_target": ({"entropy_coef": 0.5}, 0.5),
    "magnet_weight": (MAGNET, 0.1),
    "magnet_every": (MAGNET, 1),
    "snapshot_every": (SNAPSHOTS, 1),
    "save_every": ({}, 1),
    "keep": ({"save_every": 1}, 1),
    "evaluate_every": ({}, 1),
    "evaluate_games": (MEASURED, 6),
    "episodes": (MEASURED, 1),
    "patience": (MEASURED | {"learning_rate": 1e-9}, 1),
    "evaluate_temperature": (MEASURED, 0.001),
}

# field -> the test that shows what it does
ELSEWHERE = {
    "replay_decay": "learn/test_replay.py::test_age_takes_weight_away",
    "device": "models/test_load.py::test_dtype_and_device_by_name",
    "gradient_checkpointing": "models/test_engine.py::test_recomputed_activations_give_the_same_gradients",
    "trust_remote_code": "models/test_load.py::test_a_models_own_code_runs_only_where_the_user_says_so",
    "history": "players/test_model.py::test_a_history_is_the_whole_chat_and_costs_only_what_is_new",
    "adapter": "players/test_model.py::test_a_learner_starts_fresh_or_from_an_adapter_with_its_frozen_original",
    "lora": "learn/test_sft.py::test_a_recipe_is_written_out_and_what_is_given_wins",
    "name": "test_config.py::test_the_name_comes_from_the_file",
    "runs_dir": "cli/test_commands.py::trained",
    "evaluate_on": "learn/test_sft.py::test_the_end_compares_with_other_players_on_further_tasks",
    "compare": "learn/test_sft.py::test_the_end_compares_with_other_players_on_further_tasks",
    "trackers": "runs/test_log.py::test_tensorboard_reads_what_we_write",
}
TIMING = {"seconds_rollout", "seconds_update", "tokens_per_second", "decisions_per_second", "time"}


def what_happened(folder: Path, settings: dict[str, Any]) -> str:
    """All that a run of a few updates left behind, but times."""
    config = PPOConfig(**BASE | settings)
    with Run.create(folder, "run", config.to_json()) as run, RunLog(run) as log:

        def enough() -> bool:
            return sum(1 for row in run.rows("metrics.jsonl") if row["step"]) >= UPDATES

        ended = ppo.train(config, run, log, stop=enough)["ended"]
        kept = {step: path.read_bytes().hex() for step, path in episodes.found(run.episodes).items()}
        return json.dumps([ended, run.steps, told(run, TIMING), kept], sort_keys=True)


unchanged = once(what_happened)


@pytest.mark.parametrize("field", CHANGES)
def test_an_option_that_is_changed_changes_the_run(field: str, tmp_path: Path) -> None:
    settings, value = CHANGES[field]
    assert what_happened(tmp_path / "a", settings | changed(field, value)) != unchanged(tmp_path / "b", settings)


def test_labels_name_the_actions_of_a_model_that_says_its_move(tmp_path: Path) -> None:
    assert what_happened(tmp_path / "a", SAY | {"labels": "ids"}) != unchanged(tmp_path / "b", SAY)


def test_a_run_that_is_repeated_is_the_same(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    for settings in ({}, SAY, {"dropout": 0.5}):
        assert what_happened(tmp_path / "a", settings) == unchanged(tmp_path / "b", settings)


def test_no_option_is_left_out() -> None:
    assert_all_are_tested(PPOConfig, CHANGES, ELSEWHERE)
