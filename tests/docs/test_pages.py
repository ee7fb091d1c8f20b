"""The pages in `docs/` and the README say what is so: every TASK, PLAYER, key, preset and command line in them."""

from __future__ import annotations

import re
import sys
from itertools import product
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import make

from ludora.cli.train import check_usable
from ludora.config import CONFIGS, kind_of, load_config
from ludora.data.sources import source_spec
from ludora.envs.build import task_spec
from ludora.errors import InputError
from ludora.evolve.settings import EvolveConfig
from ludora.players.build import player_spec
from ludora.settings import PPOConfig, SFTConfig

KEYS = ("model", "run", "train", "ppo", "sft", "evolve")
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in (*PAGES, ROOT / "README.md")}


def table(page: str, *head: str) -> list[tuple[str, str]]:
    """(code of the first column, text of the second) of all tables with this head."""
    found = []
    for block in TEXTS[page].split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines and lines[0] == f"| {' | '.join(head)} |":
            found += [tuple(line.strip("| ").split(" | ", 1)) for line in lines[2:]]
    assert found
    return [(code.strip("`"), text) for code, text in found]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_made_from_the_program_is_up_to_date(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page == make.made(page), "python tests/docs/make.py writes it anew"


def test_every_made_part_is_on_a_page() -> None:
    parts = [name for text in TEXTS.values() for _, name, _, _ in make.PART.findall(text)]
    assert sorted(parts) == sorted(make.PARTS)


def test_every_key_is_in_one_part() -> None:
    """But those that a command has another default or meaning for, which are in its own part again."""
    parts = {name: re.findall(r"^\| `(\w+)`", make.PARTS[f"{name} keys"](), re.MULTILINE) for name in KEYS}
    shared = parts["model"] + parts["run"] + parts["train"]
    assert sorted(shared + parts["ppo"]) == sorted(PPOConfig.model_fields)
    again = set(shared) & set(parts["sft"])
    assert again == {"schedule", "save_every", "evaluate_every", "evaluate_games"}
    assert sorted([*(set(shared) - again), *parts["sft"]]) == sorted(SFTConfig.model_fields)
    assert sorted(parts["model"] + parts["run"] + parts["evolve"]) == sorted(EvolveConfig.model_fields)


@pytest.mark.parametrize("text", [text for text, _ in table("tasks.md", "TASK", "what it is")])
def test_tasks(text: str) -> None:
    assert str(task_spec(str(task_spec(text)))) == str(task_spec(text))


@pytest.mark.parametrize(("text", "why"), table("tasks.md", "TASK", "why"))
def test_tasks_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        task_spec(text)
    assert why in caught.value.message and caught.value.hint


@pytest.mark.parametrize("text", [text for text, _ in table("datasets.md", "TASK", "what it is")])
def test_data_sets(text: str) -> None:
    assert source_spec(text) == source_spec(str(source_spec(text)))


@pytest.mark.parametrize("text", [text for text, _ in table("players.md", "PLAYER", "what it is")])
def test_players(text: str) -> None:
    assert player_spec(text, training=True)


def test_the_page_shows_every_player() -> None:
    shown = {player_spec(text, training=True).name for text, _ in table("players.md", "PLAYER", "what it is")}
    assert shown == set(make.PLAYERS)


@pytest.mark.parametrize(("text", "why"), table("players.md", "PLAYER", "why"))
def test_players_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        player_spec(text, training=True)
    assert why in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "text", [text for page in TEXTS.values() for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
)
def test_configs(text: str, tmp_path: Path) -> None:
    keys = "" if "opponent" not in text or "snapshots" not in text else "snapshot_every = 10\n"
    (tmp_path / "mine.toml").write_text(keys + text)
    source = str(tmp_path / "mine.toml")
    check_usable(load_config(CONFIGS[kind_of(source)], source))


def command_lines() -> list[str]:
    """Every line in a code block, or in backticks, that begins with `ludora`; several may share a line."""
    found = []
    for page in TEXTS.values():
        blocks = re.findall(r"```\n(.*?)```", page, re.DOTALL)
        lines = [part for block in blocks for line in block.splitlines() for part in re.split(r" {2,}", line)]
        found += [text for text in (*lines, *re.findall(r"`(ludora [^`]+)`", page)) if text.startswith("ludora ")]
    return sorted(set(found))


@pytest.mark.parametrize("line", command_lines())
def test_command_lines(line: str) -> None:
    """The command exists, and has the options that the line gives it. `list|show` stands for both."""
    commands = dict(make.commands())
    words = [word.split("|") for word in re.findall(r"[\w-]+(?:\|[\w-]+)*", line.partition("[")[0])]
    for said in product(*words[:3]):
        known = [" ".join(said[:n]) for n in (3, 2) if " ".join(said[:n]) in commands]
        assert known, f"there is no command {' '.join(said)}"
        options = {option for parameter in commands[known[0]].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", line)) <= options | {"--help"}


def test_the_readme_names_every_command() -> None:
    text = TEXTS["README.md"].replace("|", " ")
    assert [words for words, _ in make.commands() if words.split()[1] not in text] == []
