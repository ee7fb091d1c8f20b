"""No option of evolution is accepted and ignored: each one, changed, changes the run; or a test named here shows it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.evolve.test_search import TINY
from tests.learn.options import assert_all_are_tested, changed, once

from ludora.errors import LudoraError
from ludora.evolve.search import evolve
from ludora.evolve.settings import EvolveConfig
from ludora.runs.log import RunLog
from ludora.runs.store import Run

BASE: dict[str, Any] = TINY | {
    "data": "dataset(questions.jsonl)",
    "learning_rates": (1e-3, 3e-3, 1e-2),
    "layers": ("all", "top:1"),
    "pack": 4,
}
NO_RUNGS = {"rungs": ()}
LONG = {"epochs": 3, "batch": 2, "weight_decays": (0.1,)}
FINALS = {"finalists": 1, "final_seeds": 1}
WIDE = {"population": 8}
GAME = {
    **{key: EvolveConfig.model_fields[key].default for key in ("data", "answer_tokens", "eval_size", "rung_questions")},
    "test_size": 0,
    "fitness": "game:kuhn_poker",
}
PLAYED = GAME | {"fitness": "game:tic_tac_toe", "teacher": "mcts:weak", "evaluate_games": 2}

# field -> (a run's settings, what is changed in them)
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "model": ({}, "tiny"),
    "dtype": ({}, "bf16"),
    "quantize": ({}, "4bit"),
    "act": ({}, "say"),
    "history": ({}, True),
    "reasoning": ({}, True),
    "max_new_tokens": ({}, 5),
    "retries": ({}, 0),
    "top_p": ({}, 0.5),
    "labels": (GAME, "names"),
    "temperature": (GAME, 2.0),
    "seed": ({}, 1),
    "data": ({}, "arithmetic"),
    "train_size": ({}, 12),
    "eval_size": ({}, 5),
    "test_size": ({}, 0),
    "fresh_questions": ({}, False),
    "fitness": ({}, "accuracy"),
    "metric": ({}, "fuzzy"),
    "answer_tokens": ({}, 1),
    "teacher": (GAME, "random"),
    "opponent": (PLAYED, "first"),
    "evaluate_games": (PLAYED, 4),
    "population": ({}, 5),
    "generations": ({}, 1),
    "survivors": ({}, 3),
    "start": ({}, "random"),
    "starters": ({}, 5),
    "crossover": ({}, 1.0),
    "mutate_crossed": ({"crossover": 1.0}, False),
    "mutation_rate": (WIDE, 1.0),
    "null_mutations": (WIDE | {"mutation_rate": 0.01, "crossover": 0.0}, True),
    "immigrants": ({}, 1),
    "selection": (WIDE | {"survivors": 4, "posterior": False}, "quality"),
    "posterior": ({}, False),
    "rungs": ({}, {"rungs": (0.6,)}),
    "rung_keep": ({}, 0.75),
    "rung_questions": ({}, 1),
    "inherit": (NO_RUNGS, True),
    "tokens": ({}, 1),
    "stop_converged": (
        {"generations": 7, "population": 2, "survivors": 1, "test_size": 0, "learning_rates": (1e-6,)},
        True,
    ),
    "finalists": (FINALS, 2),
    "final_seeds": (FINALS, 2),
    "ranks": ({}, (2, 3)),
    "alphas": ({}, (1.0,)),
    "alpha_rules": ({}, ("rslora",)),
    "learning_rates": ({}, (1e-4,)),
    "dropouts": ({}, (0.3,)),
    "targets": ({}, ("mlp",)),
    "layers": ({}, ("all",)),
    "weight_decays": (LONG, (0.9,)),
    "warmups": ({}, (0.9,)),
    "mutations": (WIDE, {"mutations": {"learning_rate": "scale"}}),
    "learning_rate_low": (WIDE | {"mutation_rate": 1.0, "learning_rates": (9e-3, 1e-2)}, 9e-3),
    "learning_rate_high": (WIDE | {"mutation_rate": 1.0, "learning_rates": (1e-3, 2e-3)}, 2e-3),
    "epochs": ({}, 2),
    "batch": ({}, 2),
    "accumulation": ({"dropouts": (0.5,)}, 2),  # what is drawn for a part shows that there are parts
    "part_tokens": ({"dropouts": (0.5,)}, 30),
    "schedule": ({}, "constant"),
    "beta1": (LONG, 0.0),
    "beta2": (LONG, 0.0),
    "max_grad_norm": (LONG, 1e-6),
}

# field -> the test that shows what it does
ELSEWHERE = {
    "device": "models/test_load.py::test_dtype_and_device_by_name",
    "threads": "learn/test_every_option_of_sft.py::test_an_option_that_is_changed_changes_the_run_or_is_refused",
    "gradient_checkpointing": "models/test_engine.py::test_recomputed_activations_give_the_same_gradients",
    "trust_remote_code": "models/test_load.py::test_a_models_own_code_runs_only_where_the_user_says_so",
    "pack": "evolve/test_evolve_resume.py::test_another_pack_gives_the_same",
    "save_every": "evolve/test_evolve_resume.py::test_what_there_is_to_lose",
    "keep": "learn/test_every_option_of_sft.py::test_an_option_that_is_changed_changes_the_run_or_is_refused",
    "name": "test_config.py::test_the_name_comes_from_the_file",
    "runs_dir": "cli/test_train_sft.py::test_trains_resumes_and_refuses_other_examples",
    "trackers": "runs/test_log.py::test_tensorboard_reads_what_we_write",
}
TIMES = {"at", "time", "seconds"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    words = ("red", "green", "blue", "black")
    lines = [{"question": f"Word {i}?", "answer": words[i % 4]} for i in range(200)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(autouse=True)
def among_the_files(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def what_happened(folder: Path, settings: dict[str, Any]) -> str:
    """All that a small evolution left behind, but times; or why it was refused."""
    idle = {"rung_questions"} if settings.get("rungs") == () else set()
    if settings.get("finalists", 1) == 0:
        idle.add("final_seeds")
    try:
        config = EvolveConfig(**{key: value for key, value in (BASE | settings).items() if key not in idle})
        with Run.create(folder, "run", config.to_json()) as run:
            with RunLog(run, console=Console(file=io.StringIO())) as log:
                summary = evolve(config, run, log)
            events = [_timeless(row) for row in run.rows("events.jsonl")]
            items = run.read_json("evaluation.json") if (run.path / "evaluation.json").is_file() else {}
    except LudoraError as error:
        return error.message
    return json.dumps([_timeless(summary), events, items], sort_keys=True).replace(str(folder), "")


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(v) for key, v in value.items() if key not in TIMES and "per_second" not in key}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


unchanged = once(what_happened)


@pytest.mark.parametrize("field", CHANGES)
def test_an_option_that_is_changed_changes_the_run_or_is_refused(field: str, tmp_path: Path) -> None:
    settings, value = CHANGES[field]
    before = unchanged(tmp_path / "b", settings)
    assert before.startswith("[")
    assert what_happened(tmp_path / "a", settings | changed(field, value)) != before


def test_a_run_that_is_repeated_is_the_same(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    for number, settings in enumerate(({}, GAME, FINALS)):
        assert what_happened(tmp_path / f"a{number}", settings) == unchanged(tmp_path / f"b{number}", settings)


def test_no_option_is_left_out() -> None:
    assert_all_are_tested(EvolveConfig, CHANGES, ELSEWHERE)
