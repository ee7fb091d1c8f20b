"""A model plays every numbered game to its end, choosing; no prompt fails and nothing illegal is said."""

from __future__ import annotations

import pytest

from ludora.envs.build import make_env
from ludora.envs.catalogue import CATALOGUE, decode, encode
from ludora.envs.openspiel_games import load
from ludora.players.bots import RandomPlayer
from ludora.players.studio import studio
from ludora.rollout import Game, collect
from ludora.settings import ModelSettings
from ludora.types import End, Task

SHORT = ("goofspiel", "leduc_poker", "blackjack", "phantom_ttt", "euchre")


def whole_game(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = studio(ModelSettings(model="tiny", dtype="fp32", threads=1), lambda text: None)
    monkeypatch.setattr(opened.engine, "context", 8192)  # rotary positions go on; letters as tokens need more of them
    player = opened.player("base", None)
    task = Task(decode(encode(name)), seed=3)
    seats = [player, *[RandomPlayer()] * (load(task.env).seats - 1)]
    (finished,) = collect([Game(task, seats)], make_env)
    assert not finished.error
    (mine, *_) = finished.trajectories
    assert mine.end is End.TERMINATED and mine.steps and 0 <= mine.score <= 1
    for step in mine.steps:
        assert step.turn.legal and step.move.text in step.turn.legal and len(step.move.logprobs) == 1


@pytest.mark.parametrize("name", SHORT)
def test_a_model_plays_short_games_to_their_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_game(name, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in CATALOGUE if entry.name not in SHORT])
def test_a_model_plays_every_game_to_its_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_game(name, monkeypatch)
