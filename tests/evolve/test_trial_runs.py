"""`--pipeline-test` and `--quick-test` fit every fitness and every config: what means nothing there steps aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ludora.cli.main import run as ludora
from ludora.config import load_config
from ludora.errors import ConfigError
from ludora.evolve.settings import PIPELINE_TEST, QUICK_TEST, EvolveConfig
from ludora.runs.store import Run

SIZES = {"pipeline": PIPELINE_TEST, "quick": QUICK_TEST}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preset", ["evolve", "evolve-seed"])
@pytest.mark.parametrize(
    "given",
    [[], ["fitness=game:kuhn_poker"], ["finalists=0"], ["fitness=game:tic_tac_toe", "finalists=0", "evaluate_games=6"]],
)
def test_every_fitness_has_its_trial_size(given: list[str], preset: str, size: str) -> None:
    found = load_config(EvolveConfig, preset, given, SIZES[size])
    assert (found.population, found.generations) == (SIZES[size]["population"], 2)
    typed = dict(text.split("=") for text in given)
    if found.game:
        assert found.evaluate_games == int(typed.get("evaluate_games", SIZES[size]["evaluate_games"]))
    else:
        assert found.eval_size == SIZES[size]["eval_size"]
    assert found.finalists == int(typed.get("finalists", 1))


def test_what_a_file_says_of_rungs_steps_aside_with_them(tmp_path: Path) -> None:
    """What is typed does not, nor what the file could not say without a trial run."""
    file = tmp_path / "mine.toml"
    file.write_text('preset = "evolve"\nrungs = [0.5]\nrung_keep = 0.25\n')
    assert load_config(EvolveConfig, str(file)).rung_keep == 0.25
    assert load_config(EvolveConfig, str(file), [], QUICK_TEST).rung_keep == 0.25
    assert load_config(EvolveConfig, str(file), [], PIPELINE_TEST).rungs == ()
    with pytest.raises(ConfigError, match=r"rung_keep = 0\.3 has no effect with rungs"):
        load_config(EvolveConfig, str(file), ["rung_keep=0.3"], PIPELINE_TEST)
    file.write_text('preset = "evolve"\nteacher = "first"\n')
    with pytest.raises(ConfigError, match="teacher = first has no effect"):
        load_config(EvolveConfig, str(file), [], PIPELINE_TEST)


@pytest.mark.parametrize("size", SIZES)
def test_immigrants_that_a_trial_has_no_place_for_step_aside(tmp_path: Path, size: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "evolve"\npopulation = 12\nimmigrants = 6\n')
    assert load_config(EvolveConfig, str(file), [], SIZES[size]).immigrants == 0


def test_a_trial_run_of_a_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["model=tiny:qwen2", "dtype=fp32", "device=cpu", "threads=1"]
    assert ludora(["evolve", "--pipeline-test", "--json", *model, "fitness=game:kuhn_poker", "finalists=0"]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert summary["variants"] == 4 and Run.read(summary["run"]).config["fitness"] == "game:kuhn_poker"
