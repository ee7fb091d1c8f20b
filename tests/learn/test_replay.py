"""Failure replay: the same cards against the same opponent, until the task is won; kept in the checkpoint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ludora.envs.build import make_env, task_spec
from ludora.learn.replay import Replay
from ludora.players.bots import RandomPlayer
from ludora.players.build import build_player
from ludora.rng import stream
from ludora.rollout import Game, collect
from ludora.settings import ModelSettings
from ludora.types import End, Outcome, Task, Trajectory

KUHN = task_spec("kuhn_poker")


def game(seed: int, score: float, seat: int = 0, own: int | None = None, opponent: str = "random") -> Trajectory:
    outcome = Outcome.WON if score > 0.5 else Outcome.DREW if score == 0.5 else Outcome.LOST
    task = Task(KUHN, seed, seat, (opponent,) if opponent else ())
    return Trajectory(task, seat if own is None else own, "self", (), outcome, score, End.TERMINATED)


def replay(share: float = 1.0, size: int = 100, decay: float = 1.0) -> Replay:
    return Replay(share, size, decay)


def drawn(found: Replay, update: int = 0, n: int = 2000) -> Counter[int]:
    """How often each kept task (by its seed) is dealt; -1: a fresh game."""
    tasks = (found.choose(stream("game", i), update) for i in range(n))
    return Counter(task.seed if task else -1 for task in tasks)


def test_what_was_not_won_is_kept_by_how_badly_it_went() -> None:
    found = replay()
    found.observe([game(1, 0.0), game(2, 0.5), game(3, 1.0), game(4, 0.25)], 0)
    counts = drawn(found)
    assert counts.keys() == {1, 2, 4}
    for seed, weight in ((1, 1.0), (2, 0.5), (4, 0.75)):
        assert counts[seed] == pytest.approx(2000 * weight / 2.25, abs=90)


def test_its_share_of_the_games() -> None:
    found = replay(share=0.3)
    assert drawn(found) == {-1: 2000}  # there is nothing to replay yet
    found.observe([game(1, 0.0)], 0)
    assert drawn(found)[1] == pytest.approx(600, abs=80)
    off = replay(share=0.0)
    off.observe([game(1, 0.0)], 0)
    assert drawn(off) == {-1: 2000} and off.metrics(1) == {} and off.state() == []


def test_games_against_oneself_and_other_seats_are_no_failures() -> None:
    found = replay()
    found.observe([game(1, 0.0, opponent="self"), game(2, 0.0, own=1)], 0)
    assert found.state() == []


def test_a_task_leaves_once_mastered() -> None:
    found = replay()
    found.observe([game(1, 0.0), game(2, 0.1)], 0)
    assert {task.seed for i in range(50) if (task := found.choose(i, 1))} == {1, 2}
    for seed in (1, 2):
        found.deal(game(seed, 0.0).task)
    found.observe([game(1, 0.0), game(1, 1.0), game(1, 0.0), game(2, 0.4)], 1)
    assert drawn(found, 2) == {2: 2000}
    assert found.failures[game(2, 0.0).task].score == 0.4  # and what is still lost counts as it went last
    assert found.metrics(2)["replays"] == 4 and found.metrics(2)["replay_mastered"] == 1
    assert found.metrics(2)["replay_success"] == pytest.approx(0.25) and found.metrics(2)["replay_size"] == 1


def test_what_was_chosen_but_not_played_is_no_replay() -> None:
    found = replay()
    found.observe([game(1, 0.0)], 0)
    assert found.choose(0, 1) == game(1, 0.0).task
    found.observe([game(1, 0.0)], 1)
    assert found.metrics(2)["replays"] == 0


def test_age_takes_weight_away() -> None:
    found = replay(decay=0.9)
    found.observe([game(1, 0.0)], 0)
    found.observe([game(2, 0.0)], 10)
    counts = drawn(found, 12)
    assert counts[1] / counts[2] == pytest.approx(0.9**10, abs=0.06)
    assert found.metrics(12)["replay_age"] == pytest.approx(7.0)


def test_where_it_is_full_those_of_least_weight_leave() -> None:
    found = replay(size=3, decay=0.5)
    found.observe([game(1, 0.0), game(2, 0.0)], 0)
    found.observe([game(3, 0.5), game(4, 0.0), game(5, 0.3)], 3)
    assert {task.seed for task in found.failures} == {3, 4, 5}
    found.observe([game(6, 0.4)], 3)
    assert {task.seed for task in found.failures} == {4, 5, 6}


def test_opponents_that_are_named() -> None:
    found = replay()
    found.observe(
        [game(1, 0.0, opponent="snapshot(step=5)"), game(2, 0.0), game(3, 1.0, opponent="snapshot(step=8)")], 0
    )
    assert set(found.named) == {"snapshot(step=5)", "random"}


def test_the_state_comes_back() -> None:
    found = replay(share=0.5, decay=0.7)
    found.observe([game(2**63 + 5, 0.2, 1, opponent="mcts(simulations=5)"), game(2, 0.5, opponent="")], 0)
    found.observe([game(3, 0.0)], 4)
    again = replay(share=0.5, decay=0.7)
    again.load(json.loads(json.dumps(found.state())))
    assert again.failures == found.failures and list(again.failures) == list(found.failures)
    assert drawn(again, 6) == drawn(found, 6)


def played(task: Task, attempt: int, opponent: str = "random", learner: Any = None) -> Trajectory:
    other = build_player(opponent, ModelSettings(), lambda text: None)
    seats = [other, other]
    seats[task.seat] = learner or RandomPlayer()
    [finished] = collect([Game(task, seats, attempt)], make_env)
    return finished.trajectories[task.seat]


@pytest.mark.parametrize("opponent", ["random", "mcts:weak"])
@pytest.mark.parametrize("seat", [0, 1])
def test_another_attempt_has_the_same_cards_and_the_same_opponent(seat: int, opponent: str) -> None:
    """The learner's own moves are drawn anew; where they are the same, so is the whole game."""
    task = Task(task_spec("leduc_poker"), 11, seat, (opponent,))
    games = [played(task, attempt, opponent) for attempt in range(40)]
    first = {str(game.steps[0].turn.messages) for game in games}
    moves = {tuple(step.move.text for step in game.steps) for game in games}
    assert len(first) == 1 and len(moves) > 2  # the same hand, and the same bet before it, if any
    by_moves: dict[tuple[str, ...], set[tuple[float, str]]] = {}
    for game in games:
        told = str([step.turn.messages for step in game.steps])
        by_moves.setdefault(tuple(step.move.text for step in game.steps), set()).add((game.total, told))
    assert all(len(told) == 1 for told in by_moves.values())  # the same replies, the same card on the table
    again = played(task, 3, opponent)
    assert [step.move for step in again.steps] == [step.move for step in games[3].steps]


def test_a_run_deals_failures_again_and_forgets_what_it_won(train: Callable[..., Any]) -> None:
    run = train(task="kuhn_poker", opponent="first", replay=0.5, updates=6, games_per_update=24)
    assert run.column("replays")[0] == 0 and run.column("replays")[1] > 4
    assert sum(run.column("replay_mastered")) > 0
    assert all(0 <= share <= 1 for share in run.column("replay_success"))
