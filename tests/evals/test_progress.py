"""What "best" means while a learner trains: by a fact where the reward is shaped, by scores in 0..1 over several games."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ludora.envs.build import task_spec
from ludora.envs.sources import Source
from ludora.evals.progress import Measures
from ludora.players import snake
from ludora.players.base import Player
from ludora.players.bots import FirstLegal, RandomPlayer
from ludora.types import Move, Spec, Turn

COSTLY = "snake(size=5, max_steps=12, step_cost=0.5)"  # whoever dies at once keeps the most


def source(task: str) -> Source:
    spec = task_spec(task)
    return Source(str(spec), spec)


def taken(player: Player, *tasks: str, games: int = 6) -> dict[str, float]:
    return Measures([source(task) for task in tasks], player, [(RandomPlayer(), 1.0)], games, 0).take()


def expert(name: str) -> Player:
    return snake.build(Spec(name))


def test_snake_is_judged_by_its_apples_and_not_by_its_shaped_return() -> None:
    good, bad = taken(expert("bfs-safe"), COSTLY), taken(FirstLegal(), COSTLY)
    assert good["evaluation_return"] < bad["evaluation_return"]
    assert good["score"] == good["evaluation_apples"] > bad["evaluation_apples"] == bad["score"]


def test_several_boards_are_judged_by_the_mean_score_though_nobody_wins() -> None:
    boards = ("snake(size=6, max_steps=9)", "snake(size=8, max_steps=9)")
    good, bad = taken(expert("bfs-safe"), *boards), taken(FirstLegal(), *boards)
    assert good["evaluation_win_rate"] == bad["evaluation_win_rate"] == 0
    assert good["score"] > bad["score"]
    names = [source(board).game for board in boards]
    assert good["score"] == good["evaluation_score"]
    assert good["score"] == pytest.approx(sum(good[f"evaluation_score/{name}"] for name in names) / 2)
    cells = (35, 63)  # apples possible
    assert [good[f"evaluation_score/{name}"] * n for name, n in zip(names, cells, strict=True)] == pytest.approx(
        [good[f"evaluation_apples/{name}"] for name in names]
    )


class Plain:
    """Does not tell its probabilities."""

    def __init__(self, player: Player) -> None:
        self.name, self.player = player.name, player

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        return self.player.act(turns)


@pytest.mark.parametrize("task", ["kuhn_poker", "tiny_hanabi"])
def test_the_exact_score_is_what_the_games_scores_come_to(task: str) -> None:
    exact = taken(FirstLegal(), task)
    by_games = taken(Plain(FirstLegal()), task, games=600)
    assert "nash_conv" in exact and "nash_conv" not in by_games
    assert exact["evaluation_score"] == pytest.approx(by_games["evaluation_score"], abs=0.04)


def test_exploitability_is_told_only_where_one_wins_what_the_other_loses() -> None:
    zero_sum, shared = taken(RandomPlayer(), "kuhn_poker"), taken(RandomPlayer(), "tiny_hanabi")
    assert zero_sum["exploitability"] == zero_sum["nash_conv"] / 2 == pytest.approx(11 / 24)
    assert shared["nash_conv"] > 0 and "exploitability" not in shared
