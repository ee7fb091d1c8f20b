"""What the scripts of the examples ask `ludora` for, told by one that only notes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# Notes its words; of a training prints the run folder of a second run, of an evaluation a line that has all keys.
STUB = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$NOTES"
[ "$1" = train ] && player="adapter(runs/new-$2/adapter)" || player=$2
row='{"player": "'$player'", "win_rate": 0.5, "win_rate_low": 0.4, "win_rate_high": 0.6, "facts": {"apples": {"mean": 1}}}'
pair='{"wins_only_player": 1, "wins_only_baseline": 1, "p_value_wins": 1, "p_value": 1, "sentence": "equal"}'
record='"task": "snake", "rows": ['$row', '$row'], "comparisons": ['$pair']'
echo '{"adapter": "runs/new-'$2'/adapter", "train_seconds": 1, "started_from_sha256": "0", '$record', "evaluation": {'$record'}}'
"""


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("runs", "data"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ludora").write_text(STUB)
    (tmp_path / "bin" / "ludora").chmod(0o755)
    return tmp_path / "examples"


def noted(examples: Path, name: str, *words: str) -> list[str]:
    """The commands that an example gives, in order."""
    notes = examples / "notes"
    path = f"{examples.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NOTES": str(notes)}
    subprocess.run([examples / name / "run.sh", *words], env=environment, check=True, capture_output=True, timeout=60)
    return notes.read_text().splitlines()


def test_the_shell_is_measured_with_what_was_just_trained(examples: Path) -> None:
    commands = noted(examples, "shell-basics", "seed=1")
    [ppo] = [c for c in commands if c.startswith("train ppo")]
    assert ppo == "train ppo ppo.toml --json adapter=runs/new-sft/adapter seed=1"
    asked = [c for c in commands if c.startswith("evaluate adapter")]
    assert len(asked) == 2
    assert all(c.startswith("evaluate adapter(runs/new-ppo/adapter) ") for c in asked)
    assert all("--compare adapter(runs/new-sft/adapter) " in c for c in asked)


def test_ppo_on_snake_begins_from_the_latest_imitation(examples: Path) -> None:
    runs = examples / "snake-imitation" / "runs"
    assert noted(examples, "snake-ppo")[0] == "train ppo config.toml --json"
    for age, name in enumerate(("snake-imitation-trap", "snake-imitation-10", "snake-imitation-9", "snake-imitation")):
        (runs / name / "adapter").mkdir(parents=True)
        os.utime(runs / name / "adapter", (10**9 - age, 10**9 - age))
    (runs / "snake-imitation-11").mkdir()  # not over yet
    [*_, first, _] = noted(examples, "snake-ppo", "seed=1")
    assert first == "train ppo config.toml --json adapter=../snake-imitation/runs/snake-imitation-10/adapter seed=1"
    [*_, first, _] = noted(examples, "snake-ppo", "adapter=other")
    assert first == "train ppo config.toml --json adapter=other"
