"""Games as they were played, with what the players made of every position."""

from __future__ import annotations

import json

import pytest

from ludora.envs.build import make_env
from ludora.errors import InputError
from ludora.evals.evaluate import deals, seated
from ludora.evals.replay import Decision, ReplayedGame, as_text, replay, telling_games
from ludora.players.bots import FirstLegal, RandomPlayer, ScriptedPlayer
from ludora.rollout import collect
from ludora.types import Outcome, Spec, Task

KUHN, LEDUC = Spec("kuhn_poker"), Spec("leduc_poker")


def test_it_is_the_game_that_the_rollout_plays() -> None:
    games = replay(FirstLegal(), LEDUC, RandomPlayer(), seeds=[5, 6, 7], seats=[0, 1, 0], baseline=RandomPlayer())
    first, other = FirstLegal(), RandomPlayer()
    played = collect([seated(Task(LEDUC, g.seed, g.seat), first, other) for g in games], make_env)
    for game, finished in zip(games, played, strict=True):
        own = finished.trajectories[game.seat]
        assert (game.outcome, game.total) == (own.outcome, own.total)
        mine = [d for d in game.decisions if d.seat == game.seat]
        assert [d.chosen for d in mine] == [s.move.text for s in own.steps]
        assert [d.legal for d in mine] == [s.turn.legal for s in own.steps]
        assert [d.text for d in mine] == [s.turn.messages[-1].content for s in own.steps]
        assert len(game.decisions) == sum(len(t.steps) for t in finished.trajectories)


def test_probabilities_of_player_and_baseline_stand_side_by_side() -> None:
    (game,) = replay(FirstLegal(), KUHN, RandomPlayer(), seeds=[1], seats=[1], baseline=RandomPlayer())
    own, others = ([d for d in game.decisions if (d.seat == 1) == mine] for mine in (True, False))
    assert [d.probabilities for d in own] == [(1.0, 0.0)] * len(own)
    assert [d.baseline for d in own] == [(0.5, 0.5)] * len(own)
    assert others and all(d.probabilities == d.baseline == () for d in others)


def test_players_and_games_without_probabilities_are_replayed_all_the_same() -> None:
    (game,) = replay(ScriptedPlayer(["Check", "Fold"], "list"), KUHN, RandomPlayer(), seeds=[1], seats=[0])
    assert all(d.probabilities == () for d in game.decisions)
    (alone,) = replay(RandomPlayer(), Spec("blackjack"), None, seeds=[3], seats=[0])
    assert (alone.against, alone.baseline) == ("", "")
    assert "blackjack" in alone.task


def test_simultaneous_moves_are_recorded_for_every_seat() -> None:
    (game,) = replay(RandomPlayer(), Spec("goofspiel", params=(("num_cards", 4),)), FirstLegal(), seeds=[2], seats=[0])
    assert {d.seat for d in game.decisions} == {0, 1}


def test_json_round_trip() -> None:
    games = replay(FirstLegal(), LEDUC, RandomPlayer(), seeds=[5, 6], seats=[0, 1], baseline=RandomPlayer())
    data = json.loads(json.dumps([g.to_json() for g in games], allow_nan=False))
    assert [ReplayedGame.from_json(item) for item in data] == games


@pytest.mark.parametrize("damage", [{"outcome": "exploded"}, {"decisions": [{}]}, {"decisions": 4}, {"seed": "x"}])
def test_a_damaged_replay_is_refused(damage: dict[str, object]) -> None:
    (game,) = replay(FirstLegal(), KUHN, RandomPlayer(), seeds=[5], seats=[0])
    with pytest.raises(InputError):
        ReplayedGame.from_json(game.to_json() | damage)
    with pytest.raises(InputError):
        ReplayedGame.from_json({"seed": 1})


def test_the_games_told_are_long_and_not_only_victories() -> None:
    games = telling_games(FirstLegal(), LEDUC, RandomPlayer(), among=24)
    assert len(games) == 3
    assert any(g.outcome is not Outcome.WON for g in games)
    known = {(t.seed, t.seat) for t in deals(LEDUC, 24, 0)}
    assert all((g.seed, g.seat) in known for g in games)


def test_a_game_as_text() -> None:
    game = ReplayedGame(
        "kuhn_poker",
        7,
        0,
        "adapter(a)",
        "random",
        "base",
        (
            Decision(0, "adapter(a)", "You hold the king.", ("Check", "Bet"), "Bet", (0.1, 0.9), (0.5, 0.5)),
            Decision(1, "random", "", ("Fold", "Call"), "Call"),
        ),
        Outcome.WON,
        2.0,
    )
    assert as_text(game) == (
        "seed 7: adapter(a) in seat 0 against random won, return +2\n"
        "\n"
        "1. seat 0, adapter(a)\n"
        "   | You hold the king.\n"
        "   Check ##                    10%  (base: 50%)\n"
        "   Bet   ##################    90%  (base: 50%)  <- chosen\n"
        "\n"
        "2. seat 1, random\n"
        "   Call\n"
    )
