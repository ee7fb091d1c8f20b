"""The games of the golden files are played again and must read the same, to the last character."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
assert _spec and _spec.loader
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.mark.parametrize("name", sorted(make.GAMES))
def test_playthroughs_are_unchanged(name: str) -> None:
    expected = (HERE / f"{name}.txt").read_text(encoding="utf-8")
    assert make.golden(name) == expected, "games changed: if that is meant, run python tests/golden/make.py"


def test_every_game_has_its_file() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == set(make.GAMES)
