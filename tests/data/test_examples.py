"""Reading examples: every kind of line, every line that cannot be used by number, and nothing that crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ludora.data.examples import BadLine, read_examples, refuse
from ludora.errors import InputError
from ludora.types import Message

STEP = {
    "messages": [{"role": "system", "content": "Rules"}, {"role": "user", "content": "State"}],
    "legal": ["up", "down"],
    "move": "up",
    "reasoning": "It is free.",
    "reward": 1.0,
}
GAME: dict[str, Any] = {
    "version": 1,
    "kind": "trajectory",
    "task": "snake(size=8)",
    "seed": 3,
    "seat": 0,
    "player": "bfs",
    "steps": [STEP, {**STEP, "legal": None, "move": "anything", "reasoning": None}],
    "outcome": "won",
    "score": 1.0,
    "end": "terminated",
}
CHAT = {"messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]}


def write(folder: Path, *lines: Any) -> str:
    path = folder / "data.jsonl"
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return str(path)


def test_every_kind_of_line(tmp_path: Path) -> None:
    pair = {"prompt": "1+1", "completion": "2"}
    found = read_examples([write(tmp_path, GAME, b"", CHAT, b"  ", pair)])
    assert found.bad == []
    game, chat, prompted = found.records
    assert [record.where.rpartition(":")[2] for record in found.records] == ["1", "3", "5"]
    assert game.task == "snake(size=8)" and game.seat == 0 and not game.messages
    first, second = game.turns
    assert first.messages == (Message("system", "Rules"), Message("user", "State"))
    assert (first.legal, first.move, first.reasoning) == (("up", "down"), "up", "It is free.")
    assert (second.legal, second.move, second.reasoning) == (None, "anything", "")
    assert chat.messages == (Message("user", "1+1"), Message("assistant", "2")) == prompted.messages


def test_what_follows_the_last_answer_is_left_out(tmp_path: Path) -> None:
    chat = {"messages": [*CHAT["messages"], {"role": "user", "content": "thanks"}]}
    assert read_examples([write(tmp_path, chat)]).records[0].messages[-1] == Message("assistant", "2")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "it is no JSON: Expecting property name"),
        (b"\xff{}", "it is not UTF-8 text (byte 0)"),
        (b"[" * 100_000, "it is no JSON"),
        (b"9" * 10_000, "it is no JSON"),
        ([1], "it is a list, not an object"),
        (3, "it is a number, not an object"),
        ({}, "neither steps, nor messages, nor prompt and completion"),
        ({**GAME, "version": 2}, "its version is 2, not 1"),
        ({**GAME, "version": True}, "its version is true, not 1"),
        ({**GAME, "seat": -1}, "seat is -1"),
        ({**GAME, "steps": {}}, "steps is an object, not a list"),
        ({"kind": "trajectory", "version": 1}, "steps is null, not a list"),
        ({k: v for k, v in GAME.items() if k != "task"}, "task is missing"),
        ({**GAME, "steps": [STEP, 3]}, "step 2: it is a number, not an object"),
        ({**GAME, "steps": [{**STEP, "move": "left"}]}, 'step 1: the move "left" is not among its legal ones'),
        ({**GAME, "steps": [{**STEP, "move": None}]}, "step 1: move is null, not text"),
        ({**GAME, "steps": [{**STEP, "legal": ["up", 3]}]}, "step 1: legal is a list, not a list of texts"),
        ({**GAME, "steps": [{**STEP, "messages": []}]}, "step 1: its messages do not end with one to answer"),
        ({**GAME, "steps": [{**STEP, "reasoning": 3}]}, "step 1: reasoning is a number, not text"),
        ({"messages": "hi"}, "messages is text, not a list"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 'message 1 has the role "tool"'),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "message 1 has the role a list"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "content is a list, not text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no message is the assistant's"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the assistant answers nobody"),
        ({"prompt": "x", "completion": " "}, "the assistant's last message is empty"),
        (b'{"prompt": "x", "completion": "\\ud800"}', "content holds half of a character"),
    ],
)
def test_bad_lines_are_reported_by_number_and_the_good_ones_kept(tmp_path: Path, line: Any, reason: str) -> None:
    path = write(tmp_path, CHAT, line, GAME)
    found = read_examples([path])
    assert [record.where for record in found.records] == [f"{path}:1", f"{path}:3"]
    [bad] = found.bad
    assert bad.where == f"{path}:2" and reason in bad.reason and "\n" not in bad.reason


def test_the_message_names_the_first_lines(tmp_path: Path) -> None:
    assert refuse([BadLine("a.jsonl:3", "it is odd")]).message == "a.jsonl:3 cannot be used: it is odd"
    many = [BadLine(f"a.jsonl:{n}", "odd") for n in range(1, 9)]
    assert refuse(many).message == "a.jsonl:1 cannot be used: odd; so are 7 others (line 2, 3, 4, 5 ...)"
    assert refuse(many).exit_code == 2 and "bad_lines=skip" in refuse(many).hint


@pytest.mark.parametrize(
    ("name", "message"), [("none", "does not exist"), ("", "Is a directory"), ("a\0", "cannot be")]
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_examples([str(tmp_path / name)])


def test_a_file_without_examples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no examples"):
        read_examples([write(tmp_path, b" ")])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([*GAME, *STEP, "prompt", "completion", "content", "role"])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good line of which one value, anywhere, is something else."""
    data = json.loads(json.dumps(draw(st.sampled_from([GAME, CHAT, {"prompt": "a", "completion": "b"}]))))
    places: list[tuple[Any, Any]] = []
    stack = [data]
    while stack:
        value = stack.pop()
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                stack.append(value[key])
    holder, key = draw(st.sampled_from(places))
    holder[key] = draw(JSON)
    if draw(st.booleans()) and isinstance(holder, dict):
        holder[draw(KEYS)] = draw(JSON)
    return json.dumps(data).encode()


@given(lines=st.lists(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()) | spoilt(), max_size=5))
@example(lines=[b'{"messages": [{"role": "user", "content": "\\udfff"}]}'])
@settings(max_examples=300, deadline=None)
def test_no_file_crashes_and_no_line_is_lost(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(b"\n".join(lines))
    wanted = [n for n, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    if not wanted:
        return
    found = read_examples([str(path)])
    numbers = [int(part.where.rpartition(":")[2]) for part in (*found.records, *found.bad)]
    assert sorted(numbers) == wanted
    assert all(bad.reason and "\n" not in bad.reason for bad in found.bad)
