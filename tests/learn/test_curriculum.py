"""The curriculum: when a stage ends, what is drawn in it, and how games share an update."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ludora.envs.build import task_spec
from ludora.errors import ConfigError
from ludora.learn.curriculum import Advance, Curriculum, stages
from ludora.settings import PPOConfig
from ludora.types import End, Move, Outcome, Step, Task, Trajectory, Turn

EASY, HARD = {"name": "easy", "task": "kuhn_poker", "threshold": 0.6}, {"name": "hard", "task": "leduc_poker"}


def curriculum(**changes: Any) -> Curriculum:
    return Curriculum(PPOConfig(**changes))


def result(
    won: bool, seed: int = 0, game: str = "kuhn_poker", opponent: str = "random", seat: int = 0, **changes: Any
) -> Trajectory:
    """A game the learner played in its seat."""
    own = changes.pop("own", seat)
    task = Task(task_spec(game), seed, seat, (opponent,) if opponent else ())
    step = Step(Turn(own, ()), Move("x", prompt=(1,) * changes.pop("tokens", 10)), 0.0)
    outcome = changes.pop("outcome", Outcome.WON if won else Outcome.LOST)
    return Trajectory(task, own, "self", (step,), outcome, changes.pop("score", float(won)), End.TERMINATED)


def dealt(found: Curriculum, seed: int) -> Task:
    """A task that is chosen and played."""
    task = found.choose(seed)
    found.deal(task)
    return task


def feed(found: Curriculum, *wins: bool, **changes: Any) -> Advance | None:
    """One update's results."""
    games = [result(won, seed, **changes) for seed, won in enumerate(wins)]
    return found.observe(games, [game.task for game in games])


def test_a_stage_ends_with_a_full_window_of_enough_wins() -> None:
    found = curriculum(stages=[EASY, HARD], window=10)
    assert feed(found, *[True] * 9) is None  # nine of ten results, all won: not full
    advance = feed(found, False)
    assert advance is not None and advance.success == pytest.approx(0.9)
    assert (advance.before.name, advance.now.name, advance.number, advance.of) == ("easy", "hard", 2, 2)
    assert advance.sentence == ("curriculum: stage 2/2, hard, against random (easy was won 90.00% of the time)")
    assert found.stage.name == "hard" and len(found.window) == 0  # the next stage starts with an empty one


def test_the_threshold_is_reached_or_not() -> None:
    for wins, ends in ((6, True), (5, False)):
        found = curriculum(stages=[EASY, HARD], window=10)
        advance = feed(found, *[True] * wins, *[False] * (10 - wins))
        assert (advance is not None) is ends


def test_only_the_newest_results_count() -> None:
    found = curriculum(stages=[EASY, HARD], window=4)
    assert feed(found, *[False] * 50) is None
    assert feed(found, False, True) is None
    assert feed(found, True, True) is not None


def test_a_stage_without_a_threshold_has_the_runs() -> None:
    found = stages(PPOConfig(stages=[{"name": "a"}, {"name": "b", "threshold": 0.1}, {"name": "c"}], threshold=0.8))
    assert [stage.threshold for stage in found] == [0.8, 0.1, 0.8]
    assert [stage.threshold for stage in stages(PPOConfig(stages=[{"name": "a"}, {"name": "b"}]))] == [0.7, 0.7]


def test_the_last_stage_has_no_end_and_nothing_goes_back() -> None:
    found = curriculum(stages=[EASY, HARD], window=4)
    assert feed(found, *[True] * 4) is not None
    assert feed(found, *[True] * 20) is None and feed(found, *[False] * 20) is None
    assert found.number == 1


@pytest.mark.parametrize(
    "changes",
    [{"opponent": "self"}, {"own": 1}, {"fresh": False}],
    ids=["against oneself", "another seat of one's own", "a replay"],
)
def test_what_is_no_result(changes: dict[str, Any]) -> None:
    found = curriculum(stages=[EASY, HARD], window=4)
    fresh = changes.pop("fresh", True)
    games = [result(True, seed, **changes) for seed in range(20)]
    assert found.observe(games, [game.task for game in games] if fresh else []) is None
    assert len(found.window) == 0


def test_a_draw_and_a_truncated_game_are_no_success() -> None:
    found = curriculum(stages=[EASY, HARD], window=4)
    games = [result(False, i, outcome=o, score=0.5) for i, o in enumerate([Outcome.DREW, Outcome.TRUNCATED] * 2)]
    assert found.observe(games, [game.task for game in games]) is None and found.success == 0.0


def test_what_each_stage_plays() -> None:
    found = curriculum(
        stages=[{**EASY, "opponent": "first"}, {**HARD, "opponent": {"mcts:weak": 2.0, "random": 1.0}}], window=1
    )
    assert found.stage.opponents == {"first": 1.0}
    assert {found.choose(seed).env.name for seed in range(5)} == {"kuhn_poker"}
    assert feed(found, True) is not None
    assert found.stage.opponents == {"mcts:weak": 2.0, "random": 1.0}
    assert {found.choose(seed).env.name for seed in range(5)} == {"leduc_poker"}


def test_what_a_stage_does_not_say_is_the_runs() -> None:
    [one, two] = stages(PPOConfig(task=["kuhn_poker", "leduc_poker"], opponent="first", stages=[
        {"name": "one", "task": "kuhn_poker"}, {"name": "two", "opponent": "random"}]))  # fmt: skip
    assert [source.game for source in two.games] == ["kuhn_poker", "leduc_poker"] and one.opponents == {"first": 1.0}


def test_games_are_drawn_alike_and_seats_go_round() -> None:
    found = curriculum(task=["kuhn_poker", "tic_tac_toe", "blackjack"])
    tasks = [dealt(found, seed) for seed in range(600)]
    counts = Counter(task.env.name for task in tasks)
    assert min(counts.values()) > 160
    for name, seats in (("kuhn_poker", 2), ("tic_tac_toe", 2), ("blackjack", 1)):
        own = [task.seat for task in tasks if task.env.name == name]
        assert own == [i % seats for i in range(len(own))]
    assert [found.choose(seed).seed for seed in (7, 8)] == [7, 8]
    assert len({found.choose(seed).seat for seed in range(100) if found.choose(seed).env.name == "kuhn_poker"}) == 1


def test_variants_of_a_range_are_one_game_and_tasks_of_the_config_are_their_own() -> None:
    found = curriculum(task=["ids(600000000, 699999999)", "hex(board_size=3)"])
    names = {found.game(found.choose(seed).env) for seed in range(60)}
    assert names == {"hex", "hex(board_size=3)"}


def test_learning_progress_draws_what_moves_up_or_down() -> None:
    found = curriculum(task=["kuhn_poker", "leduc_poker", "tic_tac_toe"], sampler="progress")
    for update in range(4):
        played = [
            result(True, 10 * update + i, game, score=score)
            for i in range(4)
            for game, score in (("kuhn_poker", 0.2 * update), ("leduc_poker", 0.9), ("tic_tac_toe", 1 - 0.2 * update))
        ]
        found.observe(played, [game.task for game in played])
    assert found.progress("leduc_poker") == pytest.approx(0.0)
    assert (
        found.progress("kuhn_poker") == pytest.approx(found.progress("tic_tac_toe"))
        and found.progress("kuhn_poker") > 0.1
    )
    counts = Counter(found.choose(seed).env.name for seed in range(2000))
    assert 100 < counts["leduc_poker"] < 240  # a third of the quarter that progress does not decide
    assert min(counts["kuhn_poker"], counts["tic_tac_toe"]) > 800
    assert found.metrics()["progress/kuhn_poker"] == found.progress("kuhn_poker")


def test_games_share_tokens_not_turns() -> None:
    found = curriculum(task=["kuhn_poker", "leduc_poker"], tokens_per_update=1000)
    played = [
        result(True, i, game, tokens=n) for i in range(5) for game, n in (("kuhn_poker", 50), ("leduc_poker", 450))
    ]
    found.observe(played, [game.task for game in played])
    assert [found.cost(Task(task_spec(game))) for game in ("kuhn_poker", "leduc_poker")] == [50.0, 450.0]
    counts = Counter(found.choose(seed).env.name for seed in range(3000))
    assert 7.5 < counts["kuhn_poker"] / counts["leduc_poker"] < 10.8  # 9
    more = [result(True, i, "leduc_poker", tokens=150) for i in range(10)]
    found.observe(more, [])  # replays cost tokens, too
    assert found.cost(Task(task_spec("leduc_poker"))) == pytest.approx(250.0)


def test_both_seats_of_a_game_against_oneself_cost() -> None:
    found = curriculum(task="kuhn_poker", opponent="self")
    both = [result(True, 3, opponent="self", own=own, tokens=30) for own in (0, 1)]
    found.observe(both, [both[0].task])
    assert found.cost(both[0].task) == 60.0


def test_what_a_game_costs_before_it_was_played() -> None:
    found = curriculum(task=["backgammon", "liars_dice", "nim"], tokens_per_update=1)
    backgammon, dice, unknown = (found.cost(Task(task_spec(name))) for name in ("backgammon", "liars_dice", "nim"))
    assert backgammon > 20 * dice > 0 and unknown == 2000.0


def test_the_state_comes_back() -> None:
    changes = {"stages": [{**EASY, "task": ["kuhn_poker", "tic_tac_toe"]}, {**HARD, "task": ["kuhn_poker", "blackjack"]}],
               "window": 6, "sampler": "progress", "tokens_per_update": 500}  # fmt: skip
    found = curriculum(**changes)
    for update in range(3):
        for seed in range(5):
            dealt(found, seed)
        feed(found, True, update > 1, score=0.3 * update)
    again = curriculum(**changes)
    again.load(json.loads(json.dumps(found.state())))
    assert again.state() == found.state() and again.metrics() == found.metrics()
    for _ in range(2):
        assert [dealt(found, seed) for seed in range(40)] == [dealt(again, seed) for seed in range(40)]
        assert (feed(found, True, True, True) is None) == (feed(again, True, True, True) is None)
        assert again.state() == found.state()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stages": [EASY, EASY]}, "two stages are called 'easy'"),
        ({"stages": [{**EASY, "opponent": "self"}, HARD]}, "would never end"),
        ({"stages": [EASY, HARD], "opponent": {"self": 1.0}}, "would never end"),
        ({"stages": [EASY, HARD], "task": "tic_tac_toe"}, "task has no effect"),
        (
            {"stages": [{**EASY, "opponent": "first"}, {**HARD, "opponent": "first"}], "opponent": "mcts"},
            "opponent has no",
        ),
        ({"stages": [EASY, HARD], "threshold": 0.5}, "threshold has no effect"),
        ({"threshold": 0.5}, "no effect with stages"),
        ({"window": 50}, "no effect with stages"),
        ({"stages": [{**EASY, "opponent": "snapshots"}, HARD]}, "needs snapshots"),
        ({"stages": [EASY, HARD], "snapshot_every": 5}, "no opponent is a snapshot"),
        ({"sampler": "progress"}, "one game"),
        ({"task": []}, "names no game"),
        ({"replay_size": 5}, "no effect with replay"),
        ({"task": ["shell(level=1)", "shell(level=2)"]}, "a shell lists no actions to choose from"),
        ({"task": "shell", "act": "say", "labels": "names"}, "labels = names has no effect in a shell"),
        ({"task": "shell", "act": "say", "retries": 7}, "retries = 7 has no effect in a shell"),
        ({"task": "shell", "act": "say", "invalid_penalty": 5.0}, "invalid_penalty = 5.0 has no effect in a shell"),
        ({"opponent": "self", "replay": 0.5}, "replay = 0.5 has no effect: all games are against oneself"),
        ({"stages": [{**HARD, "opponent": {"self": 1.0}}], "replay": 0.5}, "replay = 0.5 has no effect"),
    ],
)
def test_contradictions(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        stages(PPOConfig(**changes))
    assert caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"opponent": {"self": 1.0, "random": 0.1}},
        {"task": ["leduc_poker", "snake(size=4)"], "opponent": "self"},
        {"stages": [EASY, {**HARD, "opponent": "self"}]},
    ],
)
def test_replay_needs_some_games_that_are_not_against_oneself(changes: dict[str, Any]) -> None:
    assert stages(PPOConfig(**changes, replay=0.5))
