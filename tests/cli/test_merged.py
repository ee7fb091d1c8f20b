"""An adapter beside the model that it was merged into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.models import zoo
from tests.models.test_merge import make_adapter

from ludora.cli.main import run
from ludora.models.merge import merged_from


def test_an_adapter_and_its_merge_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path / "cache"))
    adapter = make_adapter(tmp_path / "adapter", zoo.base("llama"), scale=0.5)
    command = ["evaluate", "adapter(adapter)", "kuhn_poker", "--merged", "out", "--games", "40", "--json"]
    options = ["--model", "tiny:llama", "--dtype", "fp32", "--device", "cpu", "--threads", "1"]
    assert run([*command, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["player"] for row in found["rows"]] == ["adapter(adapter)", "merged(out)"]
    assert found["comparison"]["same_moves"] == 40  # fp32 on both sides: not one answer differs
    assert merged_from(tmp_path / "out", adapter)

    written = (tmp_path / "out" / "ludora_merge.json").stat().st_mtime_ns
    assert run([*command, *options]) == 0  # the merge of this very adapter is used again
    assert (tmp_path / "out" / "ludora_merge.json").stat().st_mtime_ns == written
    capsys.readouterr()

    make_adapter(tmp_path / "other", zoo.base("llama"), scale=0.1)
    assert not merged_from(tmp_path / "out", tmp_path / "other")
    assert run([*[word.replace("adapter(adapter)", "adapter(other)") for word in command], *options]) == 2
    assert "exists already" in capsys.readouterr().err
