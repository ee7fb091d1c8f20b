"""The wizard: piped answers, a person at a terminal, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ludora.cli import wizard
from ludora.cli.main import run
from ludora.config import PPOConfig, load_config
from ludora.errors import InputError


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_piped_answers_become_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "tiny", "least", "hex(board_size=5); kuhn_poker", "mcts:weak", "77", "tensorboard, wandb")
    file = tmp_path / "mine.toml"
    assert run(["config", "new", str(file)]) == 0
    config = load_config(PPOConfig, str(file))
    assert config.model == "tiny" and config.quantize == "4bit" and config.lora == "memory"
    assert config.tasks == ("hex(board_size=5)", "kuhn_poker") and config.opponent == "mcts:weak"
    assert config.updates == 77 and config.trackers == ("tensorboard", "wandb")


def test_what_is_not_answered_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "", "", "kuhn_poker")
    assert run(["config", "new", str(tmp_path / "mine.toml"), "--json"]) == 0
    config = load_config(PPOConfig, str(tmp_path / "mine.toml"))
    assert config == PPOConfig(name="mine", task="kuhn_poker")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["", "huge"], "memory = 'huge'"),
        (["", "", "leduc_pokr"], "unknown game"),
        (["", "", "9999999999"], "out of range"),
        (["", "", "goofspiel", "mcts"], "simultaneous"),
        (["", "", "", "rnadom"], "no player"),
        (["", "", "", "", "many"], "updates = 'many'"),
        (["", "", "", "", "0"], "updates = 0"),
        (["", "", "", "", "\N{SUPERSCRIPT TWO}"], "updates = '\N{SUPERSCRIPT TWO}'"),
        (["", "", "", "", "9" * 5000], "updates = '999"),
        (["", "", "", "", "", "excel"], "trackers"),
    ],
)
def test_a_piped_answer_must_be_right(
    lines: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, *lines)
    assert run(["config", "new", str(tmp_path / "mine.toml")]) == 2
    assert why in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_person_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    source = io.StringIO("\n\nleduc_pokr\nkuhn_poker\n\nmany\n5\n\n")
    source.isatty = lambda: True  # type: ignore[method-assign]
    assert wizard.ask(source) == {"model": "smollm2-135m", "task": "kuhn_poker", "opponent": "random", "updates": 5}
    said = capsys.readouterr().err
    assert said.count("Games, parted") == 2 and said.count("Steps at most") == 2 and "unknown game" in said


@pytest.mark.parametrize(("name", "why"), [("a.json", "TOML"), ("old.toml", "exists"), ("no/a.toml", "no folder")])
def test_where_it_cannot_be_written(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.toml").write_text("mine")
    answer(monkeypatch)
    assert run(["config", "new", str(tmp_path / name)]) == 2
    assert why in capsys.readouterr().err and (tmp_path / "old.toml").read_text() == "mine"


def test_every_answer_of_memory_is_a_config() -> None:
    for keys in wizard.MEMORY.values():
        assert PPOConfig(**keys)
    with pytest.raises(InputError):
        wizard._memory("none")
