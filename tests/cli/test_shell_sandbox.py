"""`ludora shell setup` and `ludora shell probe`, and the sandbox's part of `ludora doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.envs.sandbox import rig

from ludora.cli import doctor
from ludora.cli.main import run
from ludora.envs.sandbox import probing
from ludora.envs.sandbox.forgeries import FORGERIES
from ludora.envs.sandbox.probes import PROBES


def test_setup_probe_and_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rig.need()
    with rig.open_folder() as folder:
        monkeypatch.setenv("LUDORA_CACHE", str(folder))
        assert run(["shell", "setup", "--from", "host", "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["source"] == "host" and Path(made["folder"]).parent.parent == folder / "shell"
        monkeypatch.setattr(probing, "PROBES", [probe for probe in PROBES if probe.group == "devices"])
        monkeypatch.setattr(probing, "FORGERIES", FORGERIES[:1])
        assert run(["shell", "probe", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["probes"] == found["contained"] == len(found["findings"]) == 3 + 2 + 7
        assert found["digest"] == made["digest"] and found["backend"] == "namespaces"
        assert run(["shell", "probe"]) == 0
        assert "host afterwards" in capsys.readouterr().out
        monkeypatch.setattr(probing, "FORGERIES", [FORGERIES[0].__class__("honest", "true", "never", verdict="true")])
        assert run(["shell", "probe"]) == 1
        assert "NOT contained" in capsys.readouterr().out


def test_doctor_says_what_the_sandbox_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_machine", dict)
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sandbox"]
    lines = {check["name"]: check["fix"] for check in found["checks"]}
    assert found["ready"] is False and lines["root file system"] == "ludora shell setup"
    assert [engine["name"] for engine in found["engines"]] == ["docker", "podman"]


@pytest.mark.parametrize(
    ("words", "why", "hint"),
    [
        (["setup", "--from", "host", "--package", "gcc"], "--package gcc", "--from"),
        (["setup", "--from", "nothing.tar"], "nothing.tar: No such file", "docker export"),
        (["probe"], "no root file system", "ludora shell setup"),
        (["probe", "--backend", "podmen"], "no sandbox backend 'podmen'", "podman"),
        (["probe", "--backend", "podman", "--image", "x"], "podman is not installed", "namespaces"),
        (["probe", "--backend", "docker"], "needs an image", "image="),
        (["probe", "--threads", "0"], "threads", ""),
    ],
)
def test_bad_input(
    words: list[str],
    why: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["shell", *words]) == 2
    said = capsys.readouterr().err
    assert why in said and hint in said
    assert not list(tmp_path.glob("shell/*"))
