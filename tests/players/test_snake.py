"""Experts of Snake: what they are known to reach, and that what they say is true."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import pytest

from ludora.envs.build import make_env, task_spec
from ludora.envs.snake_game import MOVES, Position, is_trap
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.base import check_plays
from ludora.players.build import build_player
from ludora.players.snake import EXPERTS, PLAYERS, build, cycle_of
from ludora.rollout import Game, collect
from ludora.settings import ModelSettings
from ludora.types import Message, Step, Task, Trajectory, Turn

STEP = {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}
ALL = sorted(EXPERTS)


@cache
def games(player: str, task: str, count: int) -> list[Trajectory]:
    expert = build(parse(player))
    tasks = [Task(task_spec(task), seed) for seed in range(count)]
    return [f.trajectories[0] for f in collect([Game(t, (expert,)) for t in tasks], make_env)]


def mean(player: str, task: str, count: int = 40, key: str = "apples") -> float:
    return sum(float(t.info[key]) for t in games(player, task, count)) / count


def deaths(player: str, task: str, count: int = 40) -> int:
    return sum(t.info["end_reason"] in ("wall", "self", "reversals") for t in games(player, task, count))


def distance(position: Position, obstacles: Sequence[int]) -> int:
    """Steps to the apple, by a queue of cells; 0 without a way. The first step is not straight back."""
    board, size = position.board, position.size
    blocked = {board.xy(cell) for cell in obstacles}
    goal = board.xy(position.apple)
    head = board.xy(position.head)
    queue, seen = deque([(head, 0)]), {head}
    while queue:
        (x, y), steps = queue.popleft()
        if (x, y) == goal:
            return steps
        for number, (dx, dy) in enumerate(STEP.values()):
            cell = (x + dx, y + dy)
            if steps == 0 and position.is_back(number):
                continue
            if all(0 <= v < size for v in cell) and cell not in blocked and cell not in seen:
                seen.add(cell)
                queue.append((cell, steps + 1))
    return 0


# ---- how well they play --------------------------------------------------------------------------------------------

SHORT8, SHORT10 = "snake(size=8, max_steps=200)", "snake(size=10, max_steps=200)"


def test_the_safe_expert_reaches_what_is_known_of_it_and_does_not_die() -> None:
    assert mean("bfs-safe", SHORT8) > 25 and mean("bfs-safe", SHORT10) > 24  # 26.3 and 25.4 are known
    assert deaths("bfs-safe", SHORT8) == deaths("bfs-safe", SHORT10) == 0


def test_the_rules_of_thumb_reach_what_is_known_of_them() -> None:
    # known: 19.1 and 19.8 apples for what `features` tells, 22.0 and 22.7 with the trap
    assert 16 < mean("greedy", SHORT8) < 21 and 17 < mean("greedy", SHORT10) < 22
    assert 20.5 < mean("greedy:trap", SHORT8) < 23.5 and 21 < mean("greedy:trap", SHORT10) < 24.5
    assert deaths("greedy:trap", SHORT8) < 4 < deaths("greedy", SHORT8)


def test_looking_ahead_is_worth_it() -> None:
    task = "snake(size=8)"
    safe, smart, plain, deep, thumb = (mean(n, task, 25) for n in ("bfs-safe", "astar", "bfs", "dfs", "greedy"))
    assert safe > plain + 6 and smart > plain + 4 and plain > thumb and deep > thumb
    assert deaths("bfs", task, 25) > 15 and deaths("dfs", task, 25) > 15 and deaths("bfs-safe", task, 25) < 3


@pytest.mark.parametrize("size", [4, 6, 8])
def test_the_cycle_always_wins_in_the_end(size: int) -> None:
    task = f"snake(size={size}, max_steps=100000)"
    assert {t.info["end_reason"] for t in games("hamiltonian", task, 15)} == {"win"}
    assert mean("hamiltonian", task, 15, "steps") < size**4 / 4  # the bare cycle takes size^4 / 2 or so


def test_shortcuts_save_steps() -> None:
    assert mean("hamiltonian", SHORT10) > 15  # 200 steps are two rounds of the bare cycle: a handful of apples


@pytest.mark.parametrize("size", [4, 6, 10, 16])
def test_the_cycle_passes_through_every_cell_by_single_steps(size: int) -> None:
    place = cycle_of(size)
    position = games("bfs", f"snake(size={size}, max_steps=1)", 1)[0].steps[0].turn.state
    cells = sorted(position.board.order, key=lambda cell: place[cell])
    assert [place[cell] for cell in cells] == list(range(size * size))
    xy = [position.board.xy(cell) for cell in (*cells, cells[0])]
    assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in pairwise(xy))


def test_an_odd_board_has_no_cycle() -> None:
    with pytest.raises(ValueError, match="odd"):
        cycle_of(5)
    ours, safe = (games(name, "snake(size=5)", 5) for name in ("hamiltonian", "bfs-safe"))
    assert [[s.move for s in t.steps] for t in ours] == [[s.move for s in t.steps] for t in safe]


# ---- every move ----------------------------------------------------------------------------------------------------


def steps(player: str, task: str = "snake(size=6)", count: int = 12) -> list[Step]:
    return [step for t in games(player, task, count) for step in t.steps]


@pytest.mark.parametrize("player", ALL)
def test_nobody_dies_while_a_move_is_free(player: str) -> None:
    for task in ("snake(size=6)", "snake(size=7)"):
        for step in steps(player, task):
            free = [MOVES[m] for m in step.turn.state.free_moves()]
            assert step.move.text in free or not free
            assert step.move.text == step.turn.legal[step.move.index]


@pytest.mark.parametrize("player", ALL)
def test_an_answer_depends_on_nothing_but_the_turn(player: str) -> None:
    expert, turns = build(parse(player)), [step.turn for step in steps(player)]
    moves = expert.act(turns)
    assert moves == [step.move for step in steps(player)]
    assert expert.act(turns[::-1]) == moves[::-1]
    for turn, move, row in zip(turns[:50], moves, expert.probabilities(turns[:50]), strict=False):
        assert row == [float(text == move.text) for text in turn.legal]


@pytest.mark.parametrize("player", ALL)
def test_the_reasoning_is_short_and_true_of_the_board(player: str) -> None:
    for step in steps(player):
        p, text = step.turn.state, step.move.reasoning
        assert 20 < len(text) < 220 and "\n" not in text
        (x, y), (ax, ay) = p.board.xy(p.head), p.board.xy(p.apple)
        told = re.match(r"The apple is (.*?)\. Blocked: (.*?)\. ", text)
        assert told
        offset = {way: int(n) for n, way in re.findall(r"(\d+) (\w+)", told[1])}
        assert offset == {k: n for k, n in zip(MOVES, (ay - y, y - ay, x - ax, ax - x), strict=True) if n > 0}
        blocked = dict(re.findall(r"(\w+) \((\w+)\)", told[2]))
        assert blocked == {MOVES[m]: p.look(m) for m in range(4) if p.look(m) != "free"}
        assert ("No move is free" in text) == (not p.free_moves())
        assert step.move.text in text or not p.free_moves()


def claimed(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def test_the_steps_that_are_told_are_the_steps_there_are() -> None:
    for step in steps("bfs", count=30):
        p = step.turn.state
        if p.free_moves():
            assert claimed(step.move.reasoning, r"takes (\d+) step") == distance(p, p.body)
    told = 0
    for step in steps("bfs-safe", count=30):
        p, n = step.turn.state, claimed(step.move.reasoning, r"takes (\d+) step")
        told += bool(n)
        assert n in (0, distance(p, p.body[1:]))
        if n:  # the tail stays in reach: so far as the first step shows, it is no trap
            assert not is_trap(p, MOVES.index(step.move.text)) or n > 1
        assert ("no way leads to it" in step.move.reasoning) == bool(p.free_moves() and not distance(p, p.body[1:]))
    assert told > 500


@pytest.mark.parametrize("player", ["bfs", "bfs-safe", "dfs"])
def test_what_holds_for_a_body_that_lies_still_is_said_to(player: str) -> None:
    """The body moves on: A*, which counts on that, finds ways where the others say that there is none."""
    moving = build(parse("astar"))
    opened = 0
    for step in steps(player, count=30):
        text = step.move.reasoning
        if said := re.search(r"(.*)(?:shortest way|no way leads) ", text):
            assert said[1].endswith(("Around the body as it lies, ", "Around the body as it lies, the "))
        assert "No way leads" not in text and "The shortest way" not in text
        if "no way leads" in text:
            opened += "A way of" in moving.act([step.turn])[0].reasoning
    assert opened > 10


def test_a_way_by_depth_first_search_is_a_way() -> None:
    lengths = [
        (claimed(s.move.reasoning, r"A way of (\d+) step"), distance(s.turn.state, s.turn.state.body))
        for s in steps("dfs")
    ]
    assert all((n == 0) == (shortest == 0) and n >= shortest for n, shortest in lengths)
    assert any(n > shortest for n, shortest in lengths)


def test_a_star_counts_on_the_room_that_the_body_makes() -> None:
    through = 0
    for step in steps("astar", count=30):
        p, n = step.turn.state, claimed(step.move.reasoning, r"A way of (\d+) step")
        still = distance(p, p.body[1:])
        assert n == 0 or still == 0 or n <= still  # never longer than around the body as it lies
        through += n > 0 and (still == 0 or n < still)
    assert through > 10


def test_a_shortcut_is_as_long_as_told() -> None:
    place, jumps = cycle_of(6), []
    for step in steps("hamiltonian"):
        p = step.turn.state
        after = p.moved(MOVES.index(step.move.text))
        n = claimed(step.move.reasoning, r"goes (\d+) of them")
        assert n == (place[after.head] - place[p.head]) % 36
        assert claimed(step.move.reasoning, r"is (\d+) steps? ahead") == (place[p.apple] - place[p.head]) % 36
        jumps.append(n)
    assert max(jumps) > 5 and 1 in jumps


def test_off_its_cycle_it_plays_safe() -> None:
    """Positions that another player made, in which the body does not lie along the cycle."""
    turns = [step.turn for step in steps("bfs", "snake(size=8)")]
    ours, safe = (build(parse(name)).act(turns) for name in ("hamiltonian", "bfs-safe"))
    off = [
        (a, b) for a, b in zip(ours, safe, strict=True) if "cycle" not in a.reasoning and "No move" not in a.reasoning
    ]
    assert len(off) > 100 and all(a == b for a, b in off)


# ---- errors on purpose ---------------------------------------------------------------------------------------------


def test_noise_errs_as_often_as_told_and_labels_every_error() -> None:
    noisy, expert = games("bfs-safe(noise=0.3)", SHORT8, 20), build(parse("bfs-safe"))
    assert noisy[0].player == "bfs-safe(noise=0.3)"
    moves = [(s.turn, s.move) for t in noisy for s in t.steps]
    wrong = [(turn, move) for turn, move in moves if move.label]
    # a random one of three free moves is often the expert's own
    assert 0.12 < len(wrong) / len(moves) < 0.28
    for turn, move in moves:
        (right,) = expert.act([turn])
        assert right.text == (move.label or move.text) and move.reasoning == right.reasoning
    assert all(move.label != move.text and turn.state.look(MOVES.index(move.text)) == "free" for turn, move in wrong)


# ---- who cannot play -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("player", ALL)
def test_other_games_are_refused(player: str) -> None:
    turn = Turn(0, (Message("user", "Check or bet?"),), ("Check", "Bet"))
    with pytest.raises(InputError, match="plays snake only"):
        build(parse(player)).act([turn])
    with pytest.raises(InputError, match="plays snake only"):
        collect([Game(Task(task_spec("kuhn_poker")), (build(parse(player)),) * 2)], make_env)


@pytest.mark.parametrize("player", ["hamiltonian", "bfs(noise=0.1)", "epsilon(0.5, greedy:trap)"])
def test_other_games_are_refused_before_the_first_one(player: str) -> None:
    made = build_player(player, ModelSettings(), lambda text: None)
    check_plays(made, task_spec("snake(size=5, text=board)"))
    with pytest.raises(InputError, match="plays snake only"):
        check_plays(made, task_spec("kuhn_poker"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bfs:weak", "no player of snake is called 'bfs:weak'"),
        ("bfs(depth=3)", "no option 'depth'"),
        ("greedy:trap(3)", "takes no plain value 3"),
        ("astar(noise=0)", "noise is above 0 and at most 1, not 0"),
        ("astar(noise=1.5)", "at most 1, not 1.5"),
        ("dfs(noise=much)", "is of type float"),
    ],
)
def test_options_are_checked(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(parse(text))
    assert message in caught.value.message


def test_every_player_has_its_line() -> None:
    assert {name.partition(":")[0] for name in EXPERTS} == set(PLAYERS)
    from ludora.players import build as all_players

    assert PLAYERS.items() <= all_players.PLAYERS.items()
