"""Trajectories as JSONL: what is written is read back, and what is bad is named by its number, whatever it is."""

from __future__ import annotations

import gzip
import json
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.rig import read_trajectories, write_trajectories

from ludora.data.chats import decisions
from ludora.data.examples import read_examples
from ludora.data.trajectories import Writer, to_line
from ludora.envs.build import make_env, task_spec
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.bots import RandomPlayer
from ludora.players.snake import build
from ludora.rollout import Game, collect
from ludora.types import End, Message, Move, Outcome, Spec, Step, Task, Trajectory, Turn

texts = st.text(st.characters(codec="utf-8"), max_size=12)
finite = st.floats(-1e9, 1e9)


def played(player: str = "bfs(noise=0.2)", task: str = "snake(size=4)", games: int = 3) -> list[Trajectory]:
    expert = build(parse(player))
    found = collect([Game(Task(task_spec(task), seed), (expert,)) for seed in range(games)], make_env)
    return [f.trajectories[0] for f in found]


def bare(trajectory: Trajectory) -> Trajectory:
    """As it is after reading: turns have no engine handle and no identity within a rollout."""
    steps = tuple(replace(s, turn=replace(s.turn, state=None, game=0, seed=0)) for s in trajectory.steps)
    return replace(trajectory, steps=steps)


def line(**changes: Any) -> dict[str, Any]:
    """The JSON object of a real game, changed."""
    return {**json.loads(to_line(played(games=1)[0])), **changes}


def read_back(tmp_path: Path, *lines: bytes | str | dict[str, Any]) -> Any:
    data = [x if isinstance(x, bytes) else x.encode() if isinstance(x, str) else json.dumps(x).encode() for x in lines]
    path = tmp_path / "games.jsonl"
    path.write_bytes(b"\n".join(data))
    return read_trajectories(path)


# ---- there and back ------------------------------------------------------------------------------------------------


def test_games_are_read_back_as_they_were_played(tmp_path: Path) -> None:
    games = played()
    assert any(s.move.label for t in games for s in t.steps)
    assert write_trajectories(tmp_path / "a.jsonl", games) == 3
    reading = read_trajectories(tmp_path / "a.jsonl")
    assert reading.all_good() == tuple(bare(t) for t in games)
    assert write_trajectories(tmp_path / "b.jsonl", reading.items) == 3
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_the_format_is_the_one_that_is_documented(tmp_path: Path) -> None:
    (game,) = played(games=1)
    data = json.loads(to_line(game))
    keys = ["version", "kind", "task", "seed", "seat", "player", "steps", "outcome", "score", "end", "info"]
    assert list(data) == keys
    assert (data["version"], data["kind"], data["task"], data["seed"]) == (1, "trajectory", "snake(size=4)", 0)
    wrong = next(i for i, s in enumerate(game.steps) if s.move.label)
    step = data["steps"][wrong]
    assert list(step) == ["messages", "legal", "move", "reasoning", "reward", "played"]
    assert (step["move"], step["played"]) == (game.steps[wrong].move.label, game.steps[wrong].move.text)
    assert list(data["steps"][0])[:5] == ["messages", "legal", "move", "reasoning", "reward"]
    assert step["messages"][1] == {"role": "user", "content": game.steps[wrong].turn.messages[1].content}


def test_games_of_several_seats_too(tmp_path: Path) -> None:
    task = Task(task_spec("leduc_poker"), 3, 1, ("random",))
    (finished,) = collect([Game(task, (RandomPlayer(), RandomPlayer()))], make_env)
    write_trajectories(tmp_path / "a.jsonl", finished.trajectories)
    read = read_trajectories(tmp_path / "a.jsonl").all_good()
    for ours, back in zip(finished.trajectories, read, strict=True):
        # the seat of the line is the seat it tells of
        assert back == bare(replace(ours, task=replace(ours.task, seat=ours.seat)))


moves = st.builds(
    lambda text, label, why: Move(text, reasoning=why, label=label if label != text else ""),
    texts.filter(bool),
    texts,
    texts,
)
turns = st.builds(
    lambda messages, last: Turn(0, (*messages, Message("user", last))),
    st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), max_size=2),
    texts,
)


@given(
    steps=st.lists(st.builds(Step, turns, moves, finite), max_size=4),
    seed=st.integers(0, 2**63),
    player=texts,
    outcome=st.sampled_from(Outcome),
    score=st.floats(0, 1),
    end=st.sampled_from(End),
    unclaimed=finite,
    info=st.dictionaries(texts, finite | texts, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_anything_a_game_may_hold_survives(steps: list[Step], seed: int, **rest: Any) -> None:
    steps = [replace(s, turn=replace(s.turn, number=i)) for i, s in enumerate(steps)]
    trajectory = Trajectory(Task(Spec("snake"), seed), 0, steps=tuple(steps), **rest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        write_trajectories(path, [trajectory])
        assert read_trajectories(path).all_good() == (trajectory,)


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    (game,) = played(games=1)
    with pytest.raises(ValueError, match="Out of range"):
        write_trajectories(tmp_path / "a.jsonl", [game, replace(game, unclaimed=float("nan"))])
    assert list(tmp_path.iterdir()) == []  # and no half a file is left


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"a\.jsonl exists already"):
        Writer(tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == "mine"


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.jsonl")
    writer.write(played(games=1)[0])
    assert not (tmp_path / "a.jsonl").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


# ---- bad lines -----------------------------------------------------------------------------------------------------

BAD_LINES: list[tuple[bytes | str | dict[str, Any], str]] = [
    ("{", "it is not JSON"),
    ("[]", "it is not a JSON object"),
    ("7", "it is not a JSON object"),
    ("{}", "'kind' is not 'trajectory'"),
    (b"\xff\xfe{}", "it is not UTF-8"),
    ('{"a": NaN}', "NaN is no JSON number"),
    ('{"a": ' + "9" * 5000 + "}", "it is not JSON"),
    ("[" * 100_000, "nested too deeply"),
    (line(version=2), "'version' is 2, not 1"),
    (line(version=True), "'version' is true, not 1"),
    (line(kind="game"), "'kind' is not 'trajectory'"),
    (line(extra=1), '"extra" is an unknown key'),
    (line(task="snake("), "'task': cannot read"),
    (line(task=7), "'task' is not a text"),
    (line(seed=1.5), "'seed' is not a whole number"),
    (line(seed=True), "'seed' is not a whole number"),
    (line(seat=-1), "'seat' is negative"),
    (line(player="\ud800"), "lone surrogate"),
    (line(outcome="success"), "'outcome' is \"success\""),
    (line(end="over"), "'end' is \"over\""),
    (line(score=1.5), "'score' is not in 0..1"),
    (line(score="1"), "'score' is not a number"),
    (line(steps={}), "'steps' is not a list"),
    (line(info={"apples": [1]}), "'apples' is not a number"),
    (line(unclaimed=10**400), "'unclaimed' is not a finite number"),
    (line(opponent=[1]), "'opponent' is not a list of texts"),
]
BAD_STEPS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "'messages' is empty"),
    ({"messages": [{"role": "robot", "content": ""}]}, 'a message\'s role is "robot", not system, user or assistant'),
    ({"messages": [{"role": "assistant", "content": "up"}]}, "'messages' does not end with one to answer"),
    ({"messages": [{"role": "user"}]}, "'content' is missing"),
    ({"messages": [{"role": "user", "content": "", "name": ""}]}, '"name" is an unknown key'),
    ({"messages": ["hi"]}, "a message is not an object"),
    ({"legal": "up"}, "'legal' is not a list"),
    ({"legal": [1]}, "'legal' is not a list of texts"),
    ({"move": "jump"}, "'move' is \"jump\", which is not legal"),
    ({"move": "", "legal": None}, "'move' is \"\", which is not legal"),
    ({"reasoning": None}, "'reasoning' is not a text"),
    ({"reward": "1"}, "'reward' is not a number"),
    ({"reward": float("1e308")}, "'reward' is not a finite number"),
    ({"reword": 1}, '"reword" is an unknown key'),
]


@pytest.mark.parametrize(("bad", "why"), BAD_LINES, ids=[why for _, why in BAD_LINES])
def test_a_bad_line_is_named_and_the_good_ones_are_kept(tmp_path: Path, bad: Any, why: str) -> None:
    reading = read_back(tmp_path, line(), b"", bad, line())
    assert [b.place.number for b in reading.bad] == [3] and why in reading.bad[0].why
    assert len(reading.items) == 2
    with pytest.raises(InputError) as caught:
        reading.all_good()
    assert caught.value.message.startswith(f"1 of 3 lines cannot be used: {tmp_path}/games.jsonl:3: ")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("change", "why"), BAD_STEPS, ids=[why for _, why in BAD_STEPS])
def test_a_bad_step_is_named_by_line_and_number(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    data = line()
    data["steps"][1] = {**data["steps"][1], **change}
    reading = read_back(tmp_path, data)
    assert [b.place.number for b in reading.bad] == [1]
    assert reading.bad[0].why.startswith("step 1: ") and why in reading.bad[0].why


@pytest.mark.parametrize("key", list(line()))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    data = line()
    del data[key]
    reading = read_back(tmp_path, data)
    if key == "info":
        assert reading.items[0].info == {}
    else:
        assert key in reading.bad[0].why


def test_what_may_be_read_all_the_same(tmp_path: Path) -> None:
    reading = read_back(tmp_path, b"\xef\xbb\xbf" + json.dumps(line()).encode(), b"  \t", b"\r", line(score=1), b"")
    assert (len(reading.items), reading.bad) == (2, ())
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 100)[:-9])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz cannot be unpacked: \w+"):
        read_trajectories(tmp_path / "cut.jsonl.gz")
    with pytest.raises(InputError, match="there is no file"):
        read_trajectories(tmp_path / "none.jsonl")


def test_many_bad_lines_are_all_numbered(tmp_path: Path) -> None:
    reading = read_back(tmp_path, *["{"] * 8)
    assert reading.complaint.startswith(f"8 of 8 lines cannot be used: {tmp_path}/games.jsonl lines 1-8. The first: ")
    assert reading.complaint.count("it is not JSON") == 5


# ---- fuzz ----------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
GOOD = line(steps=line()["steps"][:2])
KEYS = [*GOOD, "prompt", "completion", "moves", "opponent", "unclaimed"]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good line with a part replaced, removed or cut off, or no JSON at all; never with a newline inside."""
    kind = draw(st.sampled_from(["bytes", "value", "cut", "top", "step"]))
    if kind == "bytes":
        return draw(st.binary(max_size=40)).replace(b"\n", b" ")
    if kind == "value":
        return json.dumps(draw(json_values)).encode()
    if kind == "cut":
        text = json.dumps(GOOD).encode()
        return text[: draw(st.integers(0, len(text) - 1))]
    data = deepcopy(GOOD)
    inside = data if kind == "top" else data["steps"][0]
    key = draw(st.sampled_from([*KEYS, *data["steps"][0]]))
    if draw(st.booleans()):
        inside[key] = draw(json_values)
    else:
        inside.pop(key, None)
    return json.dumps(data).encode()


@given(st.lists(st.just(json.dumps(GOOD).encode()) | spoilt(), max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_file_breaks_the_readers_and_every_line_is_accounted_for(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(b"\n".join(lines))
        alone = []  # which lines are good, each read on its own
        for number, text in enumerate(lines, start=1):
            single = Path(folder) / "one.jsonl"
            single.write_bytes((b"{}\n" if number > 1 else b"") + text)
            alone += [number] * len(read_trajectories(single).items)
        meant = {number for number, text in enumerate(lines, start=1) if text.strip()}
        reading = read_trajectories(path)
        assert {bad.place.number for bad in reading.bad} == meant - set(alone)
        assert len(reading.items) == len(alone)
        assert all(n in alone for n, text in enumerate(lines, start=1) if text == json.dumps(GOOD).encode())
        for trajectory in reading.items:  # what was let in can be written again, and is the same
            assert json.loads(to_line(trajectory))["steps"] is not None
        if meant:
            examples = read_examples([str(path)])
            for found in (examples, decisions(examples)):
                assert {bad.place.number for bad in found.bad} <= meant
                assert len(found.items) + len(found.bad) == len(meant)
        reading.complaint.encode()
