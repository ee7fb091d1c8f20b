"""What `ludora shell verify` and `ludora data shell` refuse before anything runs."""

from __future__ import annotations

import pytest

from ludora.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["shell", "verify", "nowhere.json"], "there is no file nowhere.json"),
        (["shell", "verify", "--threads", "0"], "greater than or equal to 1"),
        (["data", "shell", "out.jsonl", "--task", "leduc_poker"], "is not to be learnt from"),
    ],
)
def test_refused(
    arguments: list[str],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert run(arguments) == 2
    assert why in " ".join(capsys.readouterr().err.split())
