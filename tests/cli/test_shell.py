"""What `ludora shell verify` and `ludora data shell` refuse before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.envs.shell.test_entries import raw, write

from ludora.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["shell", "verify", "nowhere.json"], "there is no file nowhere.json"),
        (["shell", "verify", "--threads", "0"], "greater than or equal to 1"),
        (["shell", "verify", "--seconds", "inf"], "less than or equal to 86400"),
        (["shell", "verify", "--backend", "dokcer"], "no sandbox backend 'dokcer'"),
        (["shell", "verify", "--backend", "docker"], "docker needs an image"),
        (["shell", "verify", "--image", "debian"], "an image (debian) is for docker or podman"),
        (["shell", "probe", "--image", "debian"], "an image (debian) is for docker or podman"),
        (["evaluate", "random", "shell", "--compare", "epsilon(0.1, base)"], "a shell lists no actions to choose from"),
        (
            ["evaluate", "random", "shell", "--max-new-tokens", "7", "--act", "say"],
            "no player is a model: --act has no",
        ),
        (["play", "leduc_poker", "--temperature", "0.5"], "no player is a model: --temperature has no effect"),
        (["play", "shell", "--watch", "base"], "a shell lists no actions to choose from"),
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


def test_an_option_without_effect_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tasks.json", {"1": raw(1)})
    assert run(["shell", "verify", str(path), "--instances", "7"]) == 2
    assert "every entry of a file is one task" in capsys.readouterr().err
