"""Reference solutions as conversations to learn from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.envs.shell.rig import ScriptedSandbox, use

from ludora.data.examples import read_examples
from ludora.data.shell import generate
from ludora.envs.sandbox.base import Done
from ludora.errors import EnvBroken, InputError


def boxes(count: int, **replies: Done) -> list[ScriptedSandbox]:
    return [ScriptedSandbox(dict(replies)) for _ in range(count)]


def test_conversations_that_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, *boxes(5), entry=None)
    path = tmp_path / "chats.jsonl"
    found = generate(path, "shell(level=1)", games=5, seed=3)
    assert (found.conversations, found.refused) == (5, 0) and found.templates > 1
    assert sum(found.skills.values()) >= 5
    chats = [[(m["role"], m["content"]) for m in json.loads(line)["messages"]] for line in path.open()]
    for chat in chats:
        assert [role for role, _ in chat] == ["system", "user", "assistant", "user", "assistant"]
        assert chat[2][1].startswith("Act: bash\n```bash\n") and chat[4][1] == "Act: finish"
    read = read_examples([str(path)])
    assert len(read.items) == 5 and not read.bad
    use(monkeypatch, *boxes(5), entry=None)
    generate(tmp_path / "again.jsonl", "shell(level=1)", games=5, seed=3)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_one_line_and_one_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, *boxes(1))
    generate(tmp_path / "chats.jsonl", "shell(act=line, rounds=1)", games=1)
    chat = json.loads((tmp_path / "chats.jsonl").read_text())["messages"]
    assert [m["content"] for m in chat[1:]] == ["Make a folder.", "mkdir it"]


def test_a_solution_that_is_not_judged_correct_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ScriptedSandbox(), ScriptedSandbox({"check": Done(1, "")}), ScriptedSandbox())
    found = generate(tmp_path / "chats.jsonl", "shell", games=3)
    assert (found.conversations, found.refused) == (2, 1)
    assert len((tmp_path / "chats.jsonl").read_text().splitlines()) == 2


def test_nothing_is_written_where_nothing_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, *boxes(2, check=Done(1, "")))
    with pytest.raises(InputError, match="not one reference solution of shell was judged correct"):
        generate(tmp_path / "chats.jsonl", "shell", games=2)
    use(monkeypatch, *[ScriptedSandbox(broken=("setup",)) for _ in range(2)])
    with pytest.raises(EnvBroken, match="it broke"):
        generate(tmp_path / "chats.jsonl", "shell", games=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("task", "games", "why"),
    [
        ("shell(split=eval)", 3, "is not to be learnt from"),
        ("shell(split=held_out)", 3, "is not to be learnt from"),
        ("snake", 3, "is not to be learnt from"),
        ("shell", 0, "at least 1 task must be solved"),
    ],
)
def test_refused(task: str, games: int, why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=why):
        generate(tmp_path / "chats.jsonl", task, games=games)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there.jsonl").touch()
    with pytest.raises(InputError, match="exists already"):
        generate(tmp_path / "there.jsonl", "shell", games=1)
