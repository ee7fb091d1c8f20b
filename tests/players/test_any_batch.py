"""A model plays a task the same way in any batch and in any order: nothing but the task decides its game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.players.test_model import awake, opened

from ludora.envs.build import make_env, task_spec
from ludora.envs.openspiel_games import load
from ludora.players.bots import FirstLegal, RandomPlayer
from ludora.rng import stream
from ludora.rollout import Finished, Game, collect
from ludora.types import Task

SHORTEST = ("kuhn_poker", "blackjack", "kuhn_poker(players=3)", "goofspiel(num_cards=3)")
SHORT = (*SHORTEST, "leduc_poker", "tic_tac_toe", "liars_dice", "phantom_ttt", "hex(board_size=3)")
SAY = {"act": "say", "labels": "ids", "max_new_tokens": 3, "retries": 1}


def tasks(count: int, games: Sequence[str]) -> list[Task]:
    specs = [task_spec(text) for text in games]
    chosen = [(specs[i % len(specs)], stream("any batch", i)) for i in range(count)]
    return [Task(spec, seed, seed % load(spec).seats) for spec, seed in chosen]


def shown(finished: Finished) -> tuple[list[object], list[float]]:
    """All that a game showed and what came of it; and the model's log-probabilities, whose last bits a batch decides.

    Without the game's place, and the handles of its engine.
    """
    assert not finished.error
    exact: list[object] = []
    numbers: list[float] = []
    for t in finished.trajectories:
        exact.append((t.seat, t.player, t.outcome, t.score, t.end, t.unclaimed))
        for step in t.steps:
            move = step.move
            exact += [step.turn.messages, step.turn.legal, step.turn.seed, step.reward]
            exact += [move.text, move.tokens, move.prompt, move.choices, move.index, move.stop, move.attempts]
            numbers += move.logprobs
    return exact, numbers


def play_twice(dealt: list[Task], **settings: Any) -> None:
    """By a model opened anew each time: few at a time in one order; and in another order, very many at once."""
    orders = (range(len(dealt)), sorted(range(len(dealt)), key=lambda i: stream("order", i)))
    games: list[dict[int, tuple[list[object], list[float]]]] = []
    for slots, order in zip((5, 1024), orders, strict=True):
        made = opened(model="tiny:qwen2", **settings)
        model, others = made.player("model", awake(made)), (RandomPlayer(), FirstLegal())
        seats = [
            [model if seat == task.seat else others[task.seed % 2] for seat in range(load(task.env).seats)]
            for task in dealt
        ]
        played = collect([Game(dealt[i], seats[i]) for i in order], make_env, slots=slots, max_turns=40)
        games.append(dict(zip(order, map(shown, played), strict=True)))
    for i in range(len(dealt)):
        (one, some), (other, more) = games[0][i], games[1][i]
        assert one == other and some == pytest.approx(more, abs=1e-5), dealt[i]


@pytest.mark.parametrize(("settings", "games"), [({}, SHORTEST), (SAY, SHORTEST[::2])], ids=["chooses", "says"])
def test_a_model_plays_a_task_the_same_way_in_any_batch(settings: dict[str, Any], games: Sequence[str]) -> None:
    play_twice(tasks(40, games), **settings)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_plays_a_thousand_tasks_the_same_way_in_any_batch() -> None:
    play_twice(tasks(1000, SHORT))
