"""Snake: its rules against a plain second implementation, its options, its rewards and its record."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.envs.build import make_env, num_players, task_spec
from ludora.envs.check import check_env
from ludora.envs.snake import MAX_REVERSALS, Options, SnakeEnv, options_of, replay
from ludora.envs.snake_game import MOVES, EndReason, Position
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.bots import RandomPlayer
from ludora.players.snake import build
from ludora.rollout import Game, collect
from ludora.types import End, Move, Outcome, Spec, Task

STEP = {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}
OPPOSITE = {"up": "down", "down": "up", "left": "right", "right": "left"}
moves_of_a_game = st.lists(st.sampled_from(MOVES), max_size=60)


def snake(text: str = "snake", seed: int = 0) -> SnakeEnv:
    return SnakeEnv(Task(task_spec(text), seed))


def make(env: SnakeEnv, *moves: str) -> SnakeEnv:
    for move in moves:
        env.apply({0: Move(move)})
    return env


def cells(position: Position) -> list[tuple[int, int]]:
    return [position.board.xy(cell) for cell in position.body]


def apple(position: Position) -> tuple[int, int]:
    return position.board.xy(position.apple)


def approach(env: SnakeEnv) -> str:
    """A move towards the apple that is not straight back: eats in a few steps while the snake is short."""
    (x, y), (ax, ay) = cells(env.position)[-1], apple(env.position)
    wanted = [m for m, far in (("up", ay - y), ("down", y - ay), ("left", x - ax), ("right", ax - x)) if far > 0]
    allowed = [m for m in wanted if not env.position.is_back(MOVES.index(m))]
    return (allowed or [m for m in MOVES if env.position.look(MOVES.index(m)) == "free"])[0]


# ---- the rules -----------------------------------------------------------------------------------------------------


@given(st.integers(4, 9), st.integers(0, 2**31), moves_of_a_game)
@settings(max_examples=150, deadline=None)
def test_it_follows_the_rules_as_a_plain_list_of_cells_does(size: int, seed: int, moves: list[str]) -> None:
    env = snake(f"snake(size={size}, max_steps=50)", seed)
    body, heading, in_a_row, steps, ended = [(size // 2, size // 2)], "", 0, 0, ""
    for move in moves:
        if ended:
            break
        target = apple(env.position)
        assert target not in body and all(0 <= v < size for v in target)
        make(env, move)
        steps += 1
        there = (body[-1][0] + STEP[move][0], body[-1][1] + STEP[move][1])
        if heading and move == OPPOSITE[heading]:
            in_a_row += 1
            ended = "reversals" if in_a_row == 10 else ""
        elif not all(0 <= v < size for v in there):
            ended = "wall"
        elif there in (body if there == target else body[1:]):
            ended = "self"
        else:
            body, heading, in_a_row = (body if there == target else body[1:]) + [there], move, 0
        if not ended and steps == 50:
            ended = "max_steps"
        assert cells(env.position) == body
        assert bool(env.turns()) == (not ended)
    assert str(env.ended or "") == ended
    assert env.info() == {
        "apples": len(body) - 1,
        "length": len(body),
        "steps": steps,
        "reversals": env.reversals,
        "end_reason": ended,
    }


def test_it_starts_in_the_middle_with_the_origin_at_the_bottom_left() -> None:
    for size, middle in ((10, (5, 5)), (7, (3, 3))):
        env = snake(f"snake(size={size})")
        assert cells(env.position) == [middle] and env.position.heading == -1
        assert cells(make(env, "up").position)[-1] == (middle[0], middle[1] + 1)
    assert num_players(task_spec("snake")) == 1


def test_the_tail_makes_room_for_the_head() -> None:
    env = snake("snake(size=8)", 4)
    while env.position.apples < 3:
        make(env, approach(env))
    heading = MOVES[env.position.heading]
    turns = next(
        [heading, side, OPPOSITE[heading], OPPOSITE[side]]
        for side in (("left", "right") if heading in ("up", "down") else ("up", "down"))
        if fits(env, [heading, side, OPPOSITE[heading], OPPOSITE[side]])
    )
    make(env, *turns, *turns)  # round and round: the head follows the tail
    assert not env.ended and len(set(cells(env.position))) == 4


def fits(env: SnakeEnv, moves: list[str]) -> bool:
    body = [*cells(env.position)]
    for move in moves:
        body.append((body[-1][0] + STEP[move][0], body[-1][1] + STEP[move][1]))
    return all(0 <= v < 8 for cell in body for v in cell) and apple(env.position) not in body


def test_straight_back_is_refused_at_any_length_and_ten_times_ends_it() -> None:
    env = make(snake(), "up", "down")
    assert (len(env.position.body), cells(env.position), env.reversals) == (1, [(5, 6)], 1)
    make(env, *["down"] * (MAX_REVERSALS - 2), "left")  # one short of ten, and then something else
    assert env.reversals == 9 and not env.ended
    make(env, *["right"] * 9)
    assert not env.ended
    make(env, "right")
    assert env.ended is EndReason.REVERSALS and env.rewards() == (-1.0,)
    assert env.result().outcomes == (Outcome.LOST,)


def test_a_full_board_is_a_win() -> None:
    expert = build(Spec("hamiltonian"))
    for finished in collect([Game(Task(task_spec("snake(size=4)"), seed), (expert,)) for seed in range(20)], make_env):
        (t,) = finished.trajectories
        assert (t.info["end_reason"], t.info["length"], t.outcome, t.score) == ("win", 16, Outcome.WON, 1.0)
        assert t.total == 15.0 and t.end is End.TERMINATED


def test_apples_are_uniform_over_the_free_cells() -> None:
    seen = Counter(apple(snake("snake(size=4)", seed).position) for seed in range(3000))
    assert len(seen) == 15 and (2, 2) not in seen
    assert all(130 < n < 270 for n in seen.values())  # 200 expected, standard deviation 13.7


def test_a_seed_is_a_game_and_another_seed_another() -> None:
    first, again, other = (make(snake("snake", seed), "up", "left").position for seed in (1, 1, 2))
    assert first == again != other


# ---- rewards, results, options -------------------------------------------------------------------------------------


def test_rewards_by_option() -> None:
    env = snake("snake(size=6, apple=2.5, death=-3, step_cost=0.25)", 1)
    paid = []
    while env.position.apples == 0:
        paid += make(env, approach(env)).rewards()
    assert paid == [-0.25] * (len(paid) - 1) + [2.25]
    while env.turns():
        paid += make(env, MOVES[env.position.heading]).rewards()
    assert env.ended is EndReason.WALL and paid[-1] == -3.25
    assert env.rewards() == (0.0,)


def test_running_out_of_steps_is_no_death() -> None:
    env = make(snake("snake(max_steps=2)"), "up", "up")
    result = env.result()
    assert (result.end, result.outcomes, result.info["end_reason"]) == (
        End.TRUNCATED,
        (Outcome.TRUNCATED,),
        "max_steps",
    )
    assert env.rewards() == (0.0,) and env.turns() == ()


def test_a_death_in_the_last_step_is_a_death() -> None:
    env = make(snake("snake(size=4, max_steps=2)"), "up", "up")
    assert env.ended is EndReason.WALL and env.result().end is End.TERMINATED


def test_the_goal_decides_what_is_won() -> None:
    for goal, outcome in ((1, Outcome.WON), (2, Outcome.LOST)):
        env = snake(f"snake(size=6, goal={goal})", 1)
        while env.position.apples == 0:
            make(env, approach(env))
        while env.turns():
            make(env, MOVES[env.position.heading])
        assert env.position.apples == 1
        assert env.result().outcomes == (outcome,) and env.result().scores == (1 / 35,)


def test_anything_else_than_a_move_forfeits() -> None:
    for text in ("UP", "", "jump", "up "):
        env = make(snake(), text)
        assert env.turns() == () and env.rewards() == (-1.0,)
        assert (env.result().outcomes, env.result().scores) == ((Outcome.FORFEITED,), (0.0,))
        assert env.info()["end_reason"] == "forfeit" and env.moves == []


def test_moves_out_of_turn_are_refused() -> None:
    env = snake("snake(size=4)")
    with pytest.raises(ValueError, match="seat 0 must move"):
        env.apply({1: Move("up")})
    with pytest.raises(RuntimeError):
        env.result()
    with pytest.raises(ValueError, match="nobody must move"):
        make(env, "up", "up", "up")


def test_only_safe_moves_by_option() -> None:
    env = make(snake("snake(size=4, offer=safe)"), "up")
    (turn,) = env.turns()
    assert turn.legal == ("left", "right")
    assert "do not end the game at once" in turn.messages[0].content
    assert make(env, "up").info()["end_reason"] == "forfeit"
    tasks = [Task(task_spec("snake(size=5, offer=safe)"), seed) for seed in range(30)]
    turns = [
        s.turn for f in collect([Game(t, (RandomPlayer(),)) for t in tasks], make_env) for s in f.trajectories[0].steps
    ]
    lost = [turn for turn in turns if not turn.state.free_moves()]
    assert lost and all(turn.legal == MOVES for turn in lost)  # all four, where nothing is safe
    for turn in turns:
        safe = tuple(m for i, m in enumerate(MOVES) if turn.state.look(i) == "free")
        assert turn.legal == safe or (not safe and turn in lost)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("snake(8)", "named options only", "snake(size=8"),
        ("snake:big", "named options only", "snake(size=8"),
        ("snake(sise=8)", "no option 'sise'", "did you mean 'size'?"),
        ("snake(size=3)", "size is a whole number from 4 to 100, not 3", "size=4"),
        ("snake(size=101)", "from 4 to 100", ""),
        ("snake(size=8.5)", "not 8.5", ""),
        ("snake(size=true)", "not True", ""),
        ("snake(text=pictures)", "text=pictures is unknown", "features+trap"),
        ("snake(offer=none)", "offer=none is unknown", "all, safe"),
        ("snake(death=bad)", "death is a number", "death=-1"),
        ("snake(step_cost=-0.1)", "at least 0", "0.01"),
        ("snake(history=5)", "no effect with text=features", "text=seed"),
        ("snake(size=4, goal=16)", "cannot be reached", "15 apples"),
        ("snake(max_steps=0)", "from 1 to", ""),
    ],
)
def test_what_cannot_be_played_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        task_spec(text)
    assert message in caught.value.message and hint in caught.value.hint


def test_equal_games_have_equal_specs() -> None:
    assert str(task_spec("snake")) == "snake(size=10)"
    assert task_spec("snake(apple=1, size=10, text=features, offer=all)") == task_spec("snake(apple=1.0)")
    text = "snake(goal=3, history=4, offer=safe, size=6, step_cost=0.5, text=seed)"
    assert str(task_spec(text)) == text and parse(text) == task_spec(text)
    assert options_of(task_spec("snake(text=features+trap)")) == Options(text="features+trap")


def test_every_option_changes_something() -> None:
    """An option that nothing reads would be accepted and ignored."""
    other = {
        **{"size": "6", "text": "board", "apple": "2", "death": "-2", "step_cost": "1", "max_steps": "5", "goal": "1"},
        **{"offer": "safe", "history": "1, text=seed"},
    }
    assert set(other) == {f.name for f in fields(Options)}

    def story(text: str) -> list[object]:
        env, told = snake(text, 3), []
        while env.turns() and len(env.moves) < 40:
            told.append((env.turns()[0].messages, env.turns()[0].legal))
            make(env, approach(env) if env.position.apples < 2 else MOVES[env.position.heading])
            told.append(env.rewards())
        return [*told, env.result()]

    base = {"history": story("snake(text=seed)")}
    for key, value in other.items():
        assert story(f"snake({key}={value})") != base.get(key, story("snake")), key


@pytest.mark.parametrize("text", ["snake(size=4)", "snake(size=5, text=seed)", "snake(size=6, offer=safe, text=board)"])
def test_it_keeps_the_promises_of_an_environment(text: str) -> None:
    assert [f for f in check_env(task_spec(text), games=10) if not f.passed] == []


# ---- record and replay ---------------------------------------------------------------------------------------------


def test_the_task_and_the_moves_are_the_game() -> None:
    task = Task(task_spec("snake(size=6)"), 5)
    (finished,) = collect([Game(task, (build(Spec("bfs")),))], make_env)
    (t,) = finished.trajectories
    env, positions = replay(task, [step.move.text for step in t.steps])
    assert env.info() == t.info and positions == [step.turn.state for step in t.steps]
    with pytest.raises(InputError, match="after the end"):
        replay(task, [*env.moves, "up"])


def test_a_person_sees_a_board() -> None:
    env = snake("snake(size=4)", 1)
    while env.position.apples < 2:
        make(env, approach(env))
    rows = env.position.picture().splitlines()
    assert len(rows) == 6 and {len(row) for row in rows} == {11}
    (x, y), (ax, ay), (tx, ty) = cells(env.position)[-1], apple(env.position), cells(env.position)[0]
    at = {(i, j): rows[4 - j][2 + 2 * i] for i in range(4) for j in range(4)}
    assert (at[x, y], at[ax, ay], at[tx, ty]) == ("@", "*", ".")
    assert Counter(at.values()) == {" ": 12, "@": 1, "*": 1, ".": 1, "o": 1}
