"""An adapter beside the model that it was merged into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.models import zoo
from tests.models.test_merge import make_adapter

from ludora.cli.main import run

OPTIONS = ("--model", "tiny:llama", "--dtype", "fp32", "--device", "cpu", "--threads", "1")


def test_an_adapter_and_its_merge_give_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path / "cache"))
    for name, scale in (("adapter", 0.5), ("other", 2.0)):
        make_adapter(tmp_path / name, zoo.base("llama"), scale=scale)
    assert run(["merge", "adapter", "out", "--device", "cpu"]) == 0
    capsys.readouterr()

    def same(player: str) -> int:
        command = ["evaluate", player, "kuhn_poker", "--compare", "merged(out)", "--games", "40", "--json"]
        assert run([*command, *OPTIONS]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [row["player"] for row in found["rows"]] == [player, "merged(out)"]
        return int(found["comparisons"][0]["same_moves"])

    assert same("adapter(adapter)") == 40  # fp32 on both sides: not one answer differs
    assert same("adapter(other)") < 40
