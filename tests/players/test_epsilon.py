"""A share of random moves before another player's, and players that are asked before a game whether they can play it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ludora.envs.build import make_env, task_spec
from ludora.errors import InputError
from ludora.evals.evaluate import evaluate_players
from ludora.evals.tables import verdicts
from ludora.players.base import Explicit, Player, check_plays
from ludora.players.bots import Epsilon, FirstLegal, RandomPlayer, ScriptedPlayer
from ludora.players.build import build_player
from ludora.players.search import ISMCTS, MCTS, sees_hidden
from ludora.rng import stream
from ludora.rollout import Game, Limits, collect
from ludora.settings import ModelSettings
from ludora.types import End, Message, Move, Outcome, Spec, Task, Turn

TURN = Turn(0, (Message("user", "choose"),), ("a", "b", "c", "d"))


def made(text: str) -> Player:
    return build_player(text, ModelSettings(), print)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("epsilon(0.2, mcts:weak)", "epsilon(0.2, mcts:weak)"),
        ("epsilon(0.5,mcts(simulations=3))", "epsilon(0.5, mcts(simulations=3))"),
        ("epsilon(1, first)", "epsilon(1.0, first)"),
        ("epsilon(0.1, epsilon(0.5, random))", "epsilon(0.1, epsilon(0.5, random))"),
    ],
)
def test_names_are_canonical(text: str, name: str) -> None:
    assert made(text).name == name == made(name).name


@pytest.mark.parametrize(
    "text",
    [
        "epsilon",
        "epsilon(0.2)",
        "epsilon(mcts:weak, 0.2)",
        "epsilon(1.5, random)",
        "epsilon(true, random)",
        "epsilon(0.2, random, first)",
        "epsilon:half(0.2, random)",
        "epsilon(0.2, nobody)",
        "epsilon(0.2, mcts:stong)",
        "epsilon(0.2, self)",
        "epsilon(share=0.2, player=random)",
    ],
)
def test_bad_ones_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        made(text)


def test_the_share_is_played_at_random_and_the_batch_decides_nothing() -> None:
    player = Epsilon(0.4, FirstLegal())
    turns = [replace(TURN, seed=stream("epsilon-test", i)) for i in range(4000)]
    moves = player.act(turns)
    assert player.act(turns[::-1]) == moves[::-1]
    assert sum(m.text == "a" for m in moves) / 4000 == pytest.approx(0.6 + 0.4 / 4, abs=0.03)
    for text in "bcd":
        assert sum(m.text == text for m in moves) / 4000 == pytest.approx(0.1, abs=0.02)
    assert all(TURN.legal and TURN.legal[m.index] == m.text for m in moves)


def test_probabilities_are_known_where_the_other_players_are() -> None:
    mixed = made("epsilon(0.4, first)")
    assert isinstance(mixed, Explicit)
    assert mixed.probabilities([TURN]) == [pytest.approx([0.7, 0.1, 0.1, 0.1])]
    assert not isinstance(made("epsilon(0.4, mcts:weak)"), Explicit)


def test_players_are_asked_before_the_game() -> None:
    for text, game in (("mcts", "goofspiel"), ("ismcts", "hex"), ("nash", "chess"), ("epsilon(0.5, ismcts)", "2048")):
        with pytest.raises(InputError):
            check_plays(made(text), task_spec(game))
    for text, game in (("mcts", "hex"), ("ismcts", "liars_dice"), ("nash", "kuhn_poker"), ("random", "goofspiel")):
        check_plays(made(text), task_spec(game))
    with pytest.raises(InputError, match="simultaneous"):
        evaluate_players([RandomPlayer()], task_spec("goofspiel"), MCTS("weak"), games=2)


def test_those_who_see_hidden_cards_are_named() -> None:
    leduc, board = task_spec("leduc_poker"), task_spec("tic_tac_toe")
    assert sees_hidden(MCTS(), leduc) and sees_hidden(Epsilon(0.1, MCTS()), leduc)
    assert (
        not sees_hidden(MCTS(), board) and not sees_hidden(ISMCTS(), leduc) and not sees_hidden(RandomPlayer(), leduc)
    )
    found = evaluate_players([RandomPlayer()], leduc, MCTS(simulations=2), games=4)
    assert found.sees_hidden == ("mcts(simulations=2)",)
    assert "mcts(simulations=2): sees hidden cards, which nobody at the table does." in verdicts(found)
    assert type(found).from_json(found.to_json()) == found
    assert not evaluate_players([RandomPlayer()], board, MCTS(simulations=2), games=4).sees_hidden


class Wordy:
    """Reads 30 tokens and writes 2 at every turn."""

    name = "wordy"

    def act(self, turns: list[Turn]) -> list[Move]:
        return [Move((turn.legal or ("",))[0], tokens=(1, 2), prompt=(0,) * 30) for turn in turns]


def test_a_token_budget_truncates() -> None:
    game = Game(Task(Spec("tic_tac_toe")), (Wordy(), ScriptedPlayer(lambda turn: (turn.legal or ())[-1])))
    (full,), (cut,) = (collect([game], make_env, max_tokens=tokens) for tokens in (0, 40))
    assert full.trajectories[0].end is End.TERMINATED and len(full.trajectories[0].steps) == 3
    assert [(t.end, t.outcome, len(t.steps)) for t in cut.trajectories] == [(End.TRUNCATED, Outcome.TRUNCATED, 2)] * 2
    assert Limits(5).tokens == 0


@pytest.mark.parametrize("text", ["liars_dice(numdice=2)", "phantom_ttt", "phantom_ttt(obstype=reveal-numturns)"])
def test_information_set_search_beats_uniform_play(text: str) -> None:
    spec, player, other = task_spec(text), ISMCTS(simulations=40), RandomPlayer()
    seats = [(player, other), (other, player)]
    finished = collect([Game(Task(spec, i // 2), seats[i % 2]) for i in range(60)], make_env)
    won = sum(f.trajectories[i % 2].score for i, f in enumerate(finished)) / 60
    assert won > 0.6  # deterministic; three standard errors above a half where games are closest
