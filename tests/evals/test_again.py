"""The commands of a report, run as they are printed: they measure what the run measured."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ludora.cli.main import run
from ludora.evals.again import commands
from ludora.evals.record import Evaluation, Row
from ludora.evals.story import Story, read_story

TINY = "model=tiny:llama dtype=fp32 device=cpu threads=1 games_per_update=8 minibatch=16 updates=1 evaluate_games=6"
SAYS = "act=say history=true max_new_tokens=3 retries=0 top_p=0.9 temperature=0.8"
SNAKE = "task=snake(size=4,max_steps=5)"


def trained(folder: Path, *values: str) -> tuple[Path, list[str]]:
    """A run's folder and the commands of its report."""
    folder.mkdir(exist_ok=True)
    (folder / "again.toml").write_text('kind = "ppo"\n')
    assert run(["train", "ppo", str(folder / "again.toml"), f"runs_dir={folder}", *values]) == 0
    path = folder / "again"
    printed = (path / "report.md").read_text().split("## Do it again")[1].split("```")[1]
    return path, printed.strip().splitlines()


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (
            ("task=kuhn_poker", "opponent={self=1,random=2}", "evaluate_temperature=0.4", "labels=names", "seed=3"),
            "--against random --compare base --games 6 --seed 3 --exact --model tiny:llama --dtype fp32 --device cpu "
            "--threads 1 --labels names --temperature 0.4",
        ),
        (
            (SNAKE, *SAYS.split()),
            "--compare base --games 6 --seed 0 --model tiny:llama --dtype fp32 --device cpu --threads 1 --act say "
            "--history --temperature 0.8 --top-p 0.9 --max-new-tokens 3 --retries 0",
        ),
        (
            (SNAKE, 'evaluate_on=["kuhn_poker"]', 'compare=["first"]', "dtype=auto"),
            "--against random --compare base --compare first --games 6 --seed 0 --model tiny:llama",
        ),
    ],
)
def test_the_printed_evaluation_comes_to_the_figures_of_the_run(
    tmp_path: Path, values: tuple[str, ...], options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {text.partition("=")[0] for text in values}
    path, printed = trained(tmp_path, *(v for v in TINY.split() if v.partition("=")[0] not in given), *values)
    [train, evaluate, play] = printed
    assert shlex.split(train) == ["ludora", "train", "ppo", str(path / "config.json")]
    assert options in evaluate
    capsys.readouterr()
    assert run([*shlex.split(evaluate)[1:], "--json"]) == 0
    found = Evaluation.from_json(json.loads(capsys.readouterr().out))
    assert found == Evaluation.from_json(json.loads((path / "evaluation.json").read_text()))
    assert ("--watch" if SNAKE in values else "--against") in play


def test_the_printed_game_can_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, task in enumerate((SNAKE, "task=kuhn_poker")):
        monkeypatch.setattr("sys.stdin", io.StringIO("1\n" * 9))
        folder = tmp_path / f"odd, (name) {number}"
        assert run(shlex.split(trained(folder, *TINY.split(), task)[1][-1])[1:]) == 0


def test_the_printed_test_of_an_evolution_comes_to_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = (
        "model=tiny dtype=fp32 threads=1 data=arithmetic generations=1 population=2 ranks=[2,4] train_size=4 batch=4"
    )
    values += " eval_size=2 test_size=5 answer_tokens=3 metric=strict finalists=0 rungs=[] fitness=accuracy"
    assert run(["evolve", "evolve", f"runs_dir={tmp_path}", "name=e", *values.split()]) == 0
    evaluate = commands(read_story(tmp_path / "e"))[1]
    assert evaluate.endswith(
        "--games 5 --seed 0 --metric strict --answer-tokens 3 --model tiny --dtype fp32 --threads 1"
    )
    capsys.readouterr()
    assert run([*shlex.split(evaluate)[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "e" / "evaluation.json").read_text())


def story(folder: Path, against: str = "", task: str = "kuhn_poker", **config: Any) -> Story:
    (folder / "adapter").mkdir()
    return Story(folder, config=config, evaluation=Evaluation(task, against, 4, 0, "", (Row("a"), Row("base"))))


def test_an_opponent_at_another_temperature_is_told(tmp_path: Path) -> None:
    told = commands(story(tmp_path, "adapter(x)", temperature=1.0, evaluate_temperature=0.5))
    assert told[1] == "# adapter(x) played at temperature 1.0; here it plays at that of the others"
    assert "--temperature 0.5" in told[2]


def test_what_would_be_refused_is_not_printed(tmp_path: Path) -> None:
    """A model that chooses is not let into a shell."""
    assert len(commands(story(tmp_path, task="shell(level=1)", act="choose"))) == 1
