"""Files in the keys of the documents this program grew from: every key honoured, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ludora import seedfiles
from ludora.cli.main import run
from ludora.config import PPOConfig, load_config
from ludora.errors import ConfigError

TRAIN: dict[str, Any] = {
    "model": {"model_name": "Qwen/Qwen2.5-3B-Instruct", "use_4bit": True, "use_nested_quant": True},
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "bias": "none", "target_modules": ["q_proj", "v_proj"]},
    "ppo": {
        "batch_size": 8,
        "mini_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "learning_rate": 1e-5,
        "ppo_epochs": 4,
        "init_kl_coef": 0.2,
        "target_kl": 6.0,
        "cliprange": 0.3,
        "cliprange_value": 0.25,
        "num_train_steps": 10000,
        "save_freq": 500,
        "eval_freq": 100,
        "max_new_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "output_dir": "./checkpoints/ppo_lora",
        "resume_from": None,
        "use_wandb": True,
    },
}
STAGES: dict[str, Any] = {
    "curriculum_stages": [
        {"name": "easy", "task_range": [0, 999999999], "opponent": "random", "weight": 1.0, "min_success_rate": 0.6},
        {"name": "hard", "task_range": [2300000000, 2999999999], "opponent": "mcts", "min_success_rate": 0.4},
    ],
    "failure_buffer_size": 500,
    "failure_replay_prob": 0.3,
    "eval_window": 50,
}
ENV: dict[str, Any] = {"allowed_game_indices": [1, 2, 6, 7], "opponent": "mcts", "gamma": 0.9, "mcts_simulations": 10}
NO_OPPONENT = {key: value for key, value in ENV.items() if key != "opponent"}
# what a key needs beside it
NEEDED: dict[str, dict[str, Any]] = {
    **{key: {"curriculum_stages": [{}, {}]} for key in ("eval_window", "progression_threshold")},
    **{key: {"opponent": "mcts"} for key in ("mcts_simulations", "mcts_rollouts")},
    "failure_buffer_size": {"failure_replay_prob": 0.3},
}


def read(folder: Path, **files: Any) -> PPOConfig:
    for name, values in files.items():
        (folder / f"{name}_config.json").write_text(json.dumps(values))
    return load_config(PPOConfig, str(folder / f"{name}_config.json" if len(files) == 1 else folder))


def test_training(tmp_path: Path) -> None:
    c = read(tmp_path, train=TRAIN)
    assert (c.model, c.quantize, c.rank, c.alpha, c.dropout) == ("Qwen/Qwen2.5-3B-Instruct", "4bit", 16, 32.0, 0.05)
    assert c.targets == ("q_proj", "v_proj") and c.games_per_update == 8 and c.epochs == 4 and c.learning_rate == 1e-5
    assert (c.minibatch, c.accumulation) == (8, 4)  # four parts of two make a step
    assert (c.kl, c.kl_coef, c.kl_target, c.clip, c.value_clip) == ("adaptive", 0.2, 6.0, 0.3, 0.25)
    assert (c.updates, c.save_every, c.evaluate_every) == (10000, 500, 100)
    assert (c.act, c.labels, c.max_new_tokens, c.temperature, c.top_p) == ("say", "ids", 8, 0.7, 0.9)
    assert (c.runs_dir, c.name, c.trackers) == ("checkpoints", "ppo_lora", ("wandb",))


def test_a_run_named_beside_its_folder_lies_in_it(tmp_path: Path) -> None:
    c = read(tmp_path, train={"ppo": {"wandb_run_name": "mine", "output_dir": "./checkpoints/ppo_lora"}})
    assert (c.runs_dir, c.name) == ("checkpoints/ppo_lora", "mine")
    c = read(tmp_path, train={"ppo": {"output_dir": "./checkpoints/ppo_lora", "wandb_run_name": None}})
    assert (c.runs_dir, c.name) == ("checkpoints", "ppo_lora")


def test_curriculum(tmp_path: Path) -> None:
    c = read(tmp_path, curriculum=STAGES)
    assert [(s.name, s.task, s.opponent, s.threshold) for s in c.stages] == [
        ("easy", "ids(0, 999999999)", "random", 0.6),
        ("hard", "ids(2300000000, 2999999999, wrap=true)", "mcts", 0.4),
    ]
    assert (c.replay, c.replay_size, c.window) == (0.3, 500, 50)
    shared = {"curriculum_stages": [{"opponent": "random"}, {"opponent": "mcts"}], "progression_threshold": 0.7}
    c = read(tmp_path, curriculum=shared)
    assert [s.name for s in c.stages] == ["stage 1", "stage 2"] and c.threshold == 0.7


def test_environment(tmp_path: Path) -> None:
    c = read(tmp_path, env=ENV)
    assert c.tasks == tuple(f"ids({i}00000000, {i}99999999)" for i in (1, 2, 6, 7))
    assert c.opponent == "mcts(simulations=10)" and c.gamma == 0.9


def test_all_three_in_their_folder(tmp_path: Path) -> None:
    c = read(tmp_path, train=TRAIN, curriculum=STAGES, env=NO_OPPONENT)
    assert c.rank == 16 and c.tasks[0] == "ids(100000000, 199999999)"
    assert [(s.task, s.opponent) for s in c.stages] == [("", "random"), ("", "mcts(simulations=10)")]
    assert run(["config", "check", str(tmp_path)]) == 0
    assert load_config(PPOConfig, str(tmp_path), ["rank=4"]).rank == 4


@pytest.mark.parametrize("key", [*seedfiles.KEYS, *seedfiles.GIVEN])
def test_every_key_is_honoured(key: str) -> None:
    """Each alone comes to something that is not the default, or says what is so anyway."""
    example = {
        **{f"{section}.{name}": value for section, values in TRAIN.items() for name, value in values.items()},
        **STAGES,
        **ENV,
        "model.bnb_4bit_compute_dtype": "bfloat16",
        "ppo.adap_kl_ctrl": False,
        "ppo.wandb_run_name": "mine",
        "progression_threshold": 0.6,
        "mcts_rollouts": 3,
        **{name: allowed[0] for name, (allowed, _) in seedfiles.GIVEN.items()},
    }
    section, dot, name = key.rpartition(".")
    given = {section: {name: example[key]}} if dot else {key: example[key]}
    needed = NEEDED.get(key, {})
    out = seedfiles.translate(given | needed, "x")
    assert (out == seedfiles.translate(needed, "x")) is (key in seedfiles.GIVEN)
    if needed:
        with pytest.raises(ConfigError, match=f"{key} in x has no effect"):
            seedfiles.translate(given, "x")
    if key in seedfiles.GIVEN:
        wrong = {section: {name: "other"}} if dot else {key: "other"}
        with pytest.raises(ConfigError, match=name):
            seedfiles.translate(wrong, "x")


@pytest.mark.parametrize("key", seedfiles.KEYS)
@pytest.mark.parametrize("wrong", [None, {}, "false", 2.5, True, 5], ids=str)
def test_a_value_of_another_type_is_refused_by_name(key: str, wrong: Any) -> None:
    """Nothing is taken for another value, and nothing falls over."""
    kind, types = next((kind, types) for kind, (types, keys) in seedfiles.KINDS.items() if key in keys)
    section, dot, name = key.rpartition(".")
    if type(wrong) not in types:
        with pytest.raises(ConfigError, match=f"{key} = .* in x is not {kind}"):
            seedfiles.translate({section: {name: wrong}} if dot else {key: wrong}, "x")


def test_a_section_may_be_empty_and_a_number_written_as_yaml_reads_it() -> None:
    assert seedfiles.translate({"ppo": {}, "lora": {"r": 4}}, "x") == {"rank": 4}
    assert seedfiles.translate({"ppo": {"learning_rate": "1e-5"}}, "x") == {"learning_rate": 1e-5}


@pytest.mark.parametrize("key", seedfiles.REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(key: str) -> None:
    section, dot, name = key.rpartition(".")
    with pytest.raises(ConfigError, match=f"{key} in x cannot be honoured") as caught:
        seedfiles.translate({section: {name: 1}} if dot else {key: 1}, "x")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"train": {"lora": {"rank": 3}}}, "unknown key 'lora.rank'"),
        ({"train": {"lora": {"r": 0}}}, "rank = 0 is not allowed"),
        ({"env": {"allowed_game_indices": [22]}}, "allowed_game_indices"),
        ({"env": {"allowed_game_indices": [0], "opponent": "mcts"}}, "simultaneous"),
        ({"curriculum": {"failure_replay_prob": 0.3, "opponent": "self"}}, "replay = 0.3 has no effect"),
        ({"env": {"env_mode": "docker"}}, "env_mode = 'docker'"),
        ({"env": {"allowed_games": [1], "env_mode": "local"}}, "unknown key 'allowed_games'"),
        ({"curriculum": {"curriculum_stages": [{"task_range": [5, 3]}]}}, "holds no task id"),
        ({"curriculum": {"curriculum_stages": [{"task_range": 5}]}}, "task_range = 5"),
        ({"curriculum": {"curriculum_stages": [{"weight": 2.0}]}}, "weight"),
        ({"curriculum": {"curriculum_stages": [{"level": 2}]}}, "unknown key 'level'"),
        ({"curriculum": {"curriculum_stages": [7]}}, "is no table"),
        ({"curriculum": {"curriculum_stages": [{"name": 5}]}}, "name = 5"),
        ({"curriculum": {"curriculum_stages": [{"min_success_rate": 0}]}}, "min_success_rate = 0"),
        ({"curriculum": STAGES | {"progression_threshold": 0.65}}, "progression_threshold in"),
        ({"curriculum": STAGES | {"progression_threshold": 0.7}}, "progression_threshold in"),
        ({"curriculum": STAGES | {"opponent": "random"}}, "opponent in"),
        ({"env": ENV | {"opponent": "random"}}, "mcts_simulations in"),
        ({"env": ENV | {"mcts_rollouts": "abc"}}, "mcts_rollouts = 'abc'"),
    ],
)
def test_one_line_and_exit_code_2(
    files: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [(name, values)] = files.items()
    path = tmp_path / f"{name}_config.json"
    path.write_text(json.dumps(values))
    assert run(["config", "check", str(path)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2 and error[0].startswith("error: ") and why in error[0] and error[1].startswith("hint: ")
