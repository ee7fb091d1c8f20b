"""Snake as other programs wrote it, and decisions of every kind as chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.rig import write_trajectories

from ludora.data.chats import decisions, write_chats
from ludora.data.examples import read_examples
from ludora.data.foreign import declared
from ludora.data.lines import Unreadable
from ludora.data.trajectories import ExpertTurn, expert_turns
from ludora.envs.build import make_env, task_spec
from ludora.envs.snake_game import MOVES
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.snake import build
from ludora.rollout import Game, collect
from ludora.types import Message, Task

ROW = {
    "prompt": "Head (5, 4), apple (6, 8). UP, DOWN, LEFT or RIGHT?",
    "completion": "The way has 5 steps.\nMove: LEFT would not help.\nConclusion: The move is: UP\n",
}
GAME = {
    "moves": [
        {"game_state": {"head": [1, 1], "apple": [2, 1]}, "move": "RIGHT", "llm_response": "Eat.\n\nMove: RIGHT"},
        {"game_state": "head at (2, 1)", "move": "up", "llm_response": None},
    ]
}


def read(tmp_path: Path, *lines: Any) -> Any:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return read_examples([str(path)])


def test_our_own_games(tmp_path: Path) -> None:
    expert = build(parse("bfs-safe(noise=0.3)"))
    found = collect([Game(Task(task_spec("snake(size=4)"), s), (expert,)) for s in range(2)], make_env)
    games = [f.trajectories[0] for f in found]
    write_trajectories(tmp_path / "a.jsonl", games)
    records = read_examples([str(tmp_path / "a.jsonl")]).all_good()
    assert [record.turns for record in records] == [expert_turns(game) for game in games]
    turns = [turn for record in records for turn in record.turns]
    for example, step in zip(turns, (s for t in games for s in t.steps), strict=True):
        (right,) = build(parse("bfs-safe")).act([step.turn])  # what is to be learnt is the expert's move
        assert (example.move, example.reasoning) == (right.text, right.reasoning)


def test_prompt_and_completion_rows(tmp_path: Path) -> None:
    found = read(tmp_path, ROW)
    (record,) = found.all_good()  # a conversation, which is learnt as it stands
    assert record.messages == (Message("user", ROW["prompt"]), Message("assistant", ROW["completion"]))
    ((turn,),) = decisions(found).all_good()
    assert turn == ExpertTurn(
        (Message("user", ROW["prompt"]),), None, "up", "The way has 5 steps.\nMove: LEFT would not help."
    )


@pytest.mark.parametrize(
    ("completion", "move"),
    [
        ("Conclusion: The move is: UP", "up"),
        ("Conclusion: DOWN", "down"),
        ("Move: left", "left"),
        ("**Move: RIGHT**", "right"),
        ("Move: **UP**", "up"),
        ("Move: UP\nNo, better:\nMove: DOWN", "down"),
        ("My move: right.", "right"),
        ("Move: upwards", None),
        ("UP", None),
        ("Remove: UP", None),
    ],
)
def test_the_last_declaration_is_the_move(tmp_path: Path, completion: str, move: str | None) -> None:
    reading = decisions(read(tmp_path, {"prompt": "?", "completion": completion}))
    assert [turn.move for (turn,) in reading.items] == ([move] if move else [])
    assert [b.place.number for b in reading.bad] == ([] if move else [1])


def test_games_of_states_moves_and_answers(tmp_path: Path) -> None:
    (record,) = read(tmp_path, GAME).all_good()
    first, second = record.turns
    assert (record.task, record.messages) == ("", ())
    assert [m.role for m in first.messages] == ["system", "user"]
    assert "State:\nhead: [1, 1]\napple: [2, 1]\n" in first.messages[1].content
    assert "Moves so far: none" in first.messages[1].content
    assert (first.move, first.reasoning, first.legal) == ("right", "Eat.", MOVES)
    assert "State:\nhead at (2, 1)\n" in second.messages[1].content
    assert "Moves so far: right\n" in second.messages[1].content
    assert (second.move, second.reasoning) == ("up", "")


def test_the_formats_may_be_mixed_and_records_keep_their_numbers(tmp_path: Path) -> None:
    reading = read(tmp_path, ROW, GAME, "oops", GAME, "", ROW)
    assert [record.place.number for record in reading.items] == [1, 2, 4, 6]
    assert [len(record.turns) for record in reading.items] == [0, 2, 2, 0]
    assert [b.place.number for b in reading.bad] == [3]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"moves": []}, "'moves' is empty"),
        ({"moves": {}}, "'moves' is not a list"),
        ({"moves": ["up"]}, "move 0: it is not an object"),
        ({"moves": [GAME["moves"][0], {"game_state": "x"}]}, "move 1: 'move' is missing"),
        ({"moves": [{"move": "up"}]}, "move 0: 'game_state' is missing"),
        ({"moves": [{"game_state": {}, "move": "up"}]}, "'game_state' is empty"),
        ({"moves": [{"game_state": [], "move": "up"}]}, "'game_state' is not a text"),
        ({"moves": [{"game_state": "x", "move": "jump"}]}, "'move' is \"jump\", not one of up"),
        ({"moves": [{"game_state": "x", "move": "up", "llm_response": 3}]}, "'llm_response' is not a text"),
    ],
)
def test_a_bad_line_says_what_is_wrong(tmp_path: Path, line: dict[str, Any], why: str) -> None:
    reading = read(tmp_path, ROW, line)
    assert len(reading.items) == 1
    assert [b.place.number for b in reading.bad] == [2] and why in reading.bad[0].why


@given(st.text(max_size=60))
def test_any_answer_is_read_or_refused(text: str) -> None:
    assert declared(text + "\nMove: up")[1] == "up"
    try:
        assert declared(text)[1] in MOVES
    except Unreadable as error:
        assert "names no move" in str(error)


def test_chats(tmp_path: Path) -> None:
    games = decisions(read(tmp_path, ROW, GAME)).all_good()
    assert write_chats(tmp_path / "plain.jsonl", games, reasoning=False) == 3
    assert write_chats(tmp_path / "said.jsonl", games, reasoning=True) == 3
    plain, said = (
        [json.loads(line)["messages"] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("plain.jsonl", "said.jsonl")
    )
    assert [chat[-1] for chat in plain] == [{"role": "assistant", "content": m} for m in ("up", "right", "up")]
    assert [chat[-1]["content"] for chat in said][1:] == ["Eat.\nMove: right", "Move: up"]
    assert plain[1][:-1] == [{"role": m.role, "content": m.content} for m in games[1][0].messages]
    with pytest.raises(InputError, match="exists already"):
        write_chats(tmp_path / "plain.jsonl", games, reasoning=False)
