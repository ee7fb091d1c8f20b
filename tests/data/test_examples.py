"""Reading examples: every kind of line, every line that cannot be used by number, and nothing that crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ludora.data.examples import read_examples
from ludora.data.lines import BadLine, Place, complaint
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
    "steps": [STEP, {**STEP, "legal": None, "move": "anything", "reasoning": ""}],
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
    assert found.bad == ()
    game, chat, prompted = found.items
    assert [record.place.number for record in found.items] == [1, 3, 5]
    assert game.task == "snake(size=8)" and game.seat == 0 and not game.messages
    first, second = game.turns
    assert first.messages == (Message("system", "Rules"), Message("user", "State"))
    assert (first.legal, first.move, first.reasoning) == (("up", "down"), "up", "It is free.")
    assert (second.legal, second.move, second.reasoning) == (None, "anything", "")
    assert chat.messages == (Message("user", "1+1"), Message("assistant", "2")) == prompted.messages


def test_what_follows_the_last_answer_is_left_out(tmp_path: Path) -> None:
    chat = {"messages": [*CHAT["messages"], {"role": "user", "content": "thanks"}]}
    assert read_examples([write(tmp_path, chat)]).items[0].messages[-1] == Message("assistant", "2")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "it is not JSON (Expecting property name"),
        (b"\xff{}", "it is not UTF-8"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"9" * 10_000, "it is not JSON"),
        ([1], "it is not a JSON object"),
        (3, "it is not a JSON object"),
        ({}, "neither 'kind', nor 'moves', nor 'messages', nor 'prompt' and 'completion'"),
        ({**GAME, "version": 2}, "'version' is 2, not 1"),
        ({k: v for k, v in GAME.items() if k != "kind"}, "'kind' is not 'trajectory'"),
        ({k: v for k, v in GAME.items() if k != "task"}, "'task' is missing"),
        ({**GAME, "steps": [STEP, {**STEP, "move": "left"}]}, "step 1: 'move' is \"left\", which is not legal"),
        ({**GAME, "steps": [{**STEP, "messages": CHAT["messages"]}]}, "step 0: 'messages' does not end with one to"),
        ({**GAME, "steps": [{**STEP, "reasoning": None}]}, "step 0: 'reasoning' is not a text"),
        ({"messages": "hi"}, "'messages' is not a list"),
        ({"messages": ["hi"]}, "a message is not an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 'a message\'s role is "tool", not system, user or'),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "'role' is not a text"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "'content' is not a text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no message is the assistant's"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the assistant answers nobody"),
        (
            {"messages": [*CHAT["messages"], CHAT["messages"][1], *CHAT["messages"]]},
            "two messages of the assistant follow one another",
        ),
        ({"prompt": "x", "completion": " "}, "the assistant's last message is empty"),
        ({"prompt": "x"}, "'completion' is missing"),
        ({"completion": "x"}, "'prompt' is missing"),
        ({"prompt": " ", "completion": "x"}, "'prompt' is empty"),
        ({"prompt": 1, "completion": "x"}, "'prompt' is not a text"),
        (b'{"prompt": "x", "completion": "\\ud800"}', "a text holds half a character"),
    ],
)
def test_bad_lines_are_reported_by_number_and_the_good_ones_kept(tmp_path: Path, line: Any, reason: str) -> None:
    path = write(tmp_path, CHAT, line, GAME)
    found = read_examples([path])
    assert [str(record.place) for record in found.items] == [f"{path}:1", f"{path}:3"]
    [bad] = found.bad
    assert str(bad.place) == f"{path}:2" and reason in bad.why and "\n" not in bad.why


def test_every_bad_line_is_named_and_the_first_ones_with_the_reason() -> None:
    bad = [BadLine(Place("a.jsonl", n), "odd") for n in range(1, 8)] + [BadLine(Place("b.jsonl", 2), "even")]
    assert complaint(bad[:1], 9) == "1 of 9 lines cannot be used: a.jsonl:1: odd"
    bad += [BadLine(Place("b.jsonl", n), "even") for n in (5, 6)]
    told = "; ".join(f"a.jsonl:{n}: odd" for n in range(1, 6))
    named = "a.jsonl lines 1-7; b.jsonl lines 2, 5-6"
    assert complaint(bad, 12) == f"10 of 12 lines cannot be used: {named}. The first: {told}"
    assert len(complaint([BadLine(Place("a.jsonl", n), "x" * 10_000) for n in range(1, 1000)], 999)) < 1200


def test_bad_lines_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    paths = [write(tmp_path, CHAT, {}), write(tmp_path / "other", {}, CHAT)]
    found = read_examples(paths)
    assert [str(bad.place) for bad in found.bad] == [f"{paths[0]}:2", f"{paths[1]}:1"] and len(found.items) == 2
    with pytest.raises(InputError, match="2 of 4 lines cannot be used"):
        found.all_good()


@pytest.mark.parametrize("name", ["none", "", "a\0"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="there is no file"):
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
    assert sorted(part.place.number for part in (*found.items, *found.bad)) == wanted
    assert all(bad.why and "\n" not in bad.why for bad in found.bad)
