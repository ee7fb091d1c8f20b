"""Expert games on disk: the same for equal arguments, split by game, counted right, and as a table of numbers."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.data.rig import read_trajectories

from ludora.data.snake import COLUMNS, eval_numbers, expert_games, generate, numbers, write_table
from ludora.envs.build import task_spec
from ludora.envs.snake_game import MOVES
from ludora.errors import InputError
from ludora.evals.evaluate import deals
from ludora.grammar import parse
from ludora.players.base import Player
from ludora.players.snake import build
from ludora.types import Move, Trajectory

SIX = "snake(size=6)"


def player(text: str) -> Player:
    return build(parse(text))


def test_equal_arguments_write_equal_files_and_others_do_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(tmp_path / name, SIX, player("bfs(noise=0.1)"), games=12, seed=seed)
    for file in ("train.jsonl", "eval.jsonl"):
        one, same, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert one == same != other


def test_the_split_is_by_game_and_of_the_share_asked_for(tmp_path: Path) -> None:
    generate(tmp_path, SIX, player("bfs"), games=40, eval_share=0.25)
    train, held = (read_trajectories(tmp_path / f"{name}.jsonl").all_good() for name in ("train", "eval"))
    assert (len(train), len(held)) == (30, 10)
    seeds = [{t.task.seed for t in part} for part in (train, held)]
    assert not seeds[0] & seeds[1]
    in_order = [t.task.seed for t in expert_games(task_spec(SIX), player("bfs"), 40, 0)]
    assert [s for s in in_order if s in seeds[0]] == [t.task.seed for t in train]
    assert not set(in_order) & {t.seed for t in deals(task_spec(SIX), 500, 0)}  # nobody is measured on these


def test_how_many_games_are_held_out() -> None:
    assert [len(eval_numbers(n, share, 0)) for n, share in ((100, 0.1), (3, 0.01), (2, 0.99), (9, 0))] == [10, 1, 1, 0]
    assert eval_numbers(100, 0.1, 0) != eval_numbers(100, 0.1, 1)
    for games, share in ((1, 0.5), (10, 1.0), (10, -0.1), (10, float("nan"))):
        with pytest.raises(InputError):
            eval_numbers(games, share, 0)


def test_statistics_count_what_is_in_the_files(tmp_path: Path) -> None:
    told = generate(tmp_path, SIX, player("bfs-safe(noise=0.2)"), games=12)
    for part in ("train", "eval"):
        path = tmp_path / f"{part}.jsonl"
        games = read_trajectories(path).all_good()
        steps = [s for t in games for s in t.steps]
        apples = [t.info["apples"] for t in games]
        found = told[part]
        assert (found.games, found.moves, found.bytes) == (len(games), len(steps), path.stat().st_size)
        assert (found.apples_min, found.apples_max) == (min(apples), max(apples))
        assert found.apples_mean == pytest.approx(sum(apples) / len(apples))
        assert found.steps_mean == len(steps) / len(games)
        assert found.end_reasons == dict(Counter(t.info["end_reason"] for t in games))
        assert sum(found.labels.values()) == len(steps)
        assert found.relabelled == sum(bool(s.move.label) for s in steps) > 0
        assert found.distinct_prompts == len({s.turn.messages[-1].content for s in steps})


def test_without_a_share_there_is_no_eval_file(tmp_path: Path) -> None:
    calls: list[int] = []
    told = generate(
        tmp_path / "new" / "folder", SIX, player("dfs"), games=1, eval_share=0, progress=lambda: calls.append(1)
    )
    assert list(told) == ["train"] and calls == [1]
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "leduc_poker"}, "is not snake"),
        ({"games": 0}, "at least 1 game"),
        ({"eval_share": 1.0}, "below 1"),
        ({"task": "snake(size=1)"}, "size is a whole number"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "out", **{"task": SIX, "expert": player("bfs"), "games": 2, **change})
    assert not (tmp_path / "out").exists()


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"eval\.jsonl exists already"):
        generate(tmp_path, SIX, player("bfs"), games=2)
    assert [p.name for p in tmp_path.iterdir()] == ["eval.jsonl"]


def test_a_break_leaves_no_half_a_file(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, SIX, player("bfs"), games=4, progress=stop)
    assert list(tmp_path.iterdir()) == []


# ---- tables --------------------------------------------------------------------------------------------------------


def test_the_table_has_its_nineteen_columns_and_one_row_per_decision(tmp_path: Path) -> None:
    games = list(expert_games(task_spec("snake(size=5)"), player("bfs(noise=0.3)"), 4, 0))
    assert write_table(tmp_path / "a.csv", games) == sum(len(t.steps) for t in games)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(COLUMNS) == 19 and tuple(rows[0]) == COLUMNS
    assert [r["target_move"].lower() for r in rows] == [s.move.label or s.move.text for t in games for s in t.steps]
    assert [int(r["game_id"]) for r in rows] == [i for i, t in enumerate(games, 1) for _ in t.steps]
    assert [int(r["step_in_game"]) for r in rows] == [n for t in games for n in range(1, len(t.steps) + 1)]
    assert all(value.isdigit() for r in rows for key, value in r.items() if key != "target_move")


def test_the_numbers_are_those_of_the_board_before_the_move() -> None:
    (game,) = expert_games(task_spec(SIX), player("bfs"), 1, 0)
    for step in game.steps:
        p = step.turn.state
        body = [p.board.xy(cell) for cell in p.body]
        (x, y), (ax, ay) = body[-1], p.board.xy(p.apple)
        got = numbers(p)
        assert (got["head_x"], got["head_y"], got["apple_x"], got["apple_y"]) == (x, y, ax, ay)
        assert got["snake_length"] == len(body)
        there = {"up": ay > y, "down": ay < y, "left": ax < x, "right": ax > x}
        assert {k: bool(got[f"apple_dir_{k}"]) for k in there} == there
        # turning the heading a quarter to the left: (dx, dy) -> (-dy, dx)
        dx, dy = {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}[
            ("up", "down", "left", "right")[p.heading] if p.heading >= 0 else "up"
        ]

        def closed(cell: tuple[int, int], body: list[tuple[int, int]] = body) -> bool:
            return not all(0 <= v < 6 for v in cell) or cell in body[1:]

        assert bool(got["danger_straight"]) == closed((x + dx, y + dy))
        assert bool(got["danger_left"]) == closed((x - dy, y + dx))
        assert bool(got["danger_right"]) == closed((x + dy, y - dx))
        for name, (sx, sy) in {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}.items():
            free = 0
            while not closed((x + sx * (free + 1), y + sy * (free + 1))):
                free += 1
            assert got[f"free_space_{name}"] == free


def test_danger_is_relative_to_the_heading_and_not_to_the_move() -> None:
    """The origin's was relative to the chosen move: never ahead of an expert, so the label could be read from it."""
    steps = [s for t in expert_games(task_spec(SIX), player("bfs"), 10, 0) for s in t.steps[:-1]]
    ahead = [s for s in steps if numbers(s.turn.state)["danger_straight"]]
    assert len(ahead) > 50 and all(s.move.text != MOVES[s.turn.state.heading] for s in ahead)


def spoil_move(t: Trajectory) -> Trajectory:
    other = {"up": "left", "down": "right", "left": "up", "right": "down"}[t.steps[0].move.text]
    return replace(t, steps=(replace(t.steps[0], move=Move(other)), *t.steps[1:]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_move, "the game replays to|after the end"),
        (lambda t: replace(t, steps=t.steps[:-1]), "the game replays to"),
        (lambda t: replace(t, info={**t.info, "apples": 99}), "the game replays to"),
        (lambda t: replace(t, steps=(*t.steps, t.steps[-1])), "after the end of the game"),
        (lambda t: replace(t, task=replace(t.task, env=parse("leduc_poker"))), "the game is leduc_poker, not snake"),
    ],
)
def test_a_record_that_does_not_replay_is_refused(
    tmp_path: Path, spoil: Callable[[Trajectory], Trajectory], message: str
) -> None:
    (game,) = expert_games(task_spec(SIX), player("bfs"), 1, 0)
    with pytest.raises(InputError, match=message):
        write_table(tmp_path / "a.csv", [spoil(game)])
    assert list(tmp_path.iterdir()) == []
