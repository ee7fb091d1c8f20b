"""What is told of a position is true, and enough to act on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.envs.build import task_spec
from ludora.envs.snake import SnakeEnv
from ludora.envs.snake_game import MOVES, Position
from ludora.envs.snake_texts import TEXTS, rules, state, thinking_prompt
from ludora.rng import generator
from ludora.types import Move, Task

STEP = {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}


def wander(size: int, seed: int, steps: int) -> SnakeEnv:
    """A game in which random moves that are not fatal were made, towards the apple more often than not."""
    env, draw = SnakeEnv(Task(task_spec(f"snake(size={size}, max_steps=1000)"), seed)), generator("wander", seed)
    for _ in range(steps):
        free = env.position.free_moves()
        if not free or not env.turns():
            break
        ax, ay = env.position.board.xy(env.position.apple)

        def far(move: int, ax: int = ax, ay: int = ay) -> int:
            x, y = env.position.board.xy(env.position.board.around[env.position.head][move])
            return abs(x - ax) + abs(y - ay)

        move = min(free, key=far) if draw.random() < 0.8 else draw.choice(free)
        env.apply({0: Move(MOVES[move])})
    return env


games = st.builds(wander, st.integers(4, 9), st.integers(0, 2**20), st.integers(0, 120)).filter(lambda e: e.turns())


def sides(position: Position, size: int) -> dict[str, str]:
    """What lies in each direction, from a list of cells."""
    body = [position.board.xy(cell) for cell in position.body]
    x, y = body[-1]
    found = {}
    for move, (dx, dy) in STEP.items():
        there = (x + dx, y + dy)
        back = position.heading >= 0 and STEP[MOVES[position.heading]] == (-dx, -dy)
        inside = all(0 <= v < size for v in there)
        found[move] = "wall" if not inside else "body" if back or there in body[1:] else "free"
    return found


def tail_in_reach(position: Position, move: str, size: int) -> bool:
    """By flooding a set of cells: may the head come to the tail after this free move?"""
    body = [position.board.xy(cell) for cell in position.body]
    there = (body[-1][0] + STEP[move][0], body[-1][1] + STEP[move][1])
    body = (body if there == position.board.xy(position.apple) else body[1:]) + [there]
    if len(body) < 3 or len(body) == size * size:
        return True
    seen, todo = {there}, [there]
    while todo:
        x, y = todo.pop()
        for dx, dy in STEP.values():
            cell = (x + dx, y + dy)
            if cell == body[0]:
                return True
            if cell not in seen and cell not in body and all(0 <= v < size for v in cell):
                seen.add(cell)
                todo.append(cell)
    return False


@given(games)
@settings(max_examples=150, deadline=None)
def test_features_are_true(env: SnakeEnv) -> None:
    position, size = env.position, env.options.size
    (x, y), (ax, ay) = position.board.xy(position.head), position.board.xy(position.apple)
    text = env.turns()[0].messages[1].content
    match = re.fullmatch(r"Apple: (.*?)\. up (\w+), down (\w+), left (\w+), right (\w+), going (\w+)\.", text)
    assert match
    offset = dict(reversed(part.split()) for part in match[1].split(", "))
    assert (x + int(offset.get("right", 0)) - int(offset.get("left", 0))) == ax
    assert (y + int(offset.get("up", 0)) - int(offset.get("down", 0))) == ay and "0" not in offset.values()
    assert dict(zip(MOVES, match.groups()[1:5], strict=True)) == sides(position, size)
    assert match[6] == (MOVES[position.heading] if position.heading >= 0 else "none")


@given(games)
@settings(max_examples=150, deadline=None)
def test_traps_are_moves_that_cut_off_the_tail(env: SnakeEnv) -> None:
    position, size = env.position, env.options.size
    plain, trapped = (state(position, text, (), 0).content for text in ("features", "features+trap"))
    wanted = sides(position, size)
    for move, side in wanted.items():
        if side == "free" and not tail_in_reach(position, move, size):
            wanted[move] = "trap"
    assert dict(re.findall(r"(up|down|left|right) (free|wall|body|trap)", trapped)) == wanted
    assert trapped.replace("trap", "free") == plain


@given(games)
@settings(max_examples=50, deadline=None)
def test_the_drawing_and_the_coordinates_say_where_everything_is(env: SnakeEnv) -> None:
    position, size = env.position, env.options.size
    body = [position.board.xy(cell) for cell in position.body]
    ax, ay = position.board.xy(position.apple)
    *rows, last = state(position, "board", (), 0).content.splitlines()
    at = {(x, y): row[2 * x] for y, row in enumerate(reversed(rows)) for x in range(size)}
    assert len(rows) == size and last.startswith("Going ")
    assert at[body[-1]] == "H" and at[ax, ay] == "A" and (len(body) == 1 or at[body[0]] == "t")
    assert {cell for cell, sign in at.items() if sign in "oHt"} == set(body)
    text = state(position, "coordinates", (), 0).content
    pairs = [(int(a), int(b)) for a, b in re.findall(r"\((\d+), (\d+)\)", text)]
    assert text.startswith(f"Board {size}x{size}.") and pairs == [body[-1], (ax, ay), *body[-2::-1]]


def test_features_know_nothing_of_the_board_and_are_shared() -> None:
    small, large = (wander(size, 0, 0) for size in (8, 16))
    assert small.turns()[0].messages[0] is large.turns()[0].messages[0]
    seen: dict[str, object] = {}
    for seed in range(40):
        message = wander(8, seed, seed).turns() and wander(8, seed, seed).turns()[0].messages[1]
        if message:
            assert seen.setdefault(message.content, message) is message


def test_the_thinking_prompt_has_state_history_and_four_points() -> None:
    text = thinking_prompt("STATE", ["up", "left", "down"], 2)
    assert "State:\nSTATE\n" in text and "Moves so far: (1 earlier), left, down\n" in text
    assert [line[:2] for line in text.splitlines() if re.match(r"\d\.", line)] == ["1.", "2.", "3.", "4."]
    assert "Moves so far: (3 earlier)\n" in thinking_prompt("STATE", ["up", "left", "down"], 0)
    assert "Moves so far: none\n" in thinking_prompt("STATE", [], 5)
    env = SnakeEnv(Task(task_spec("snake(text=seed, history=1)")))
    env.apply({0: Move("up")})
    env.apply({0: Move("down")})  # refused, and still part of what was tried
    assert "Moves so far: (1 earlier), down\n" in env.turns()[0].messages[1].content


@pytest.mark.parametrize("text", TEXTS)
def test_a_lookahead_and_safe_offers_are_labelled(text: str) -> None:
    assert ("one step ahead" in rules(text, False).content) == (text == "features+trap")
    assert "Only moves that do not end the game" in rules(text, True).content
    assert "Only moves" not in rules(text, False).content


def test_the_examples_of_the_docs_are_real() -> None:
    from pathlib import Path

    from ludora.grammar import parse
    from ludora.players.snake import build

    docs = (Path(__file__).parents[2] / "docs" / "snake.md").read_text(encoding="utf-8")
    env, expert = SnakeEnv(Task(task_spec("snake(size=6)"), 3)), build(parse("bfs-safe"))
    for _ in range(49):
        env.apply({0: expert.act(env.turns())[0]})
    for text in TEXTS:
        told = state(env.position, text, env.moves, 5).content
        assert "\n".join(f"    {line}".rstrip() for line in told.splitlines()) in docs, text
    for name in ("bfs", "bfs-safe", "astar", "dfs", "greedy", "greedy:trap"):
        facts, _, said = build(parse(name)).act(env.turns())[0].reasoning.partition("(wall). ")
        assert f"{facts}(wall).`" in docs and f"| {said} |" in docs, name
