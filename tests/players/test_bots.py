"""Uniform, first and scripted players, and the options of PLAYER strings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.base import Explicit, Player
from ludora.players.bots import FirstLegal, RandomPlayer, ScriptedPlayer, build, read_options
from ludora.rng import stream
from ludora.types import Message, Turn

TURN = Turn(0, (Message("user", "choose"),), ("a", "b", "c"))


def turns(count: int) -> list[Turn]:
    return [replace(TURN, seed=stream("test", i)) for i in range(count)]


def test_they_are_players() -> None:
    for player in (RandomPlayer(), FirstLegal(), ScriptedPlayer(lambda turn: "a")):
        assert isinstance(player, Player) and isinstance(player, Explicit)


def test_random_is_uniform() -> None:
    counts = Counter(move.text for move in RandomPlayer().act(turns(6000)))
    assert set(counts) == {"a", "b", "c"}
    assert all(abs(count - 2000) < 150 for count in counts.values())
    assert RandomPlayer().probabilities([TURN]) == [[1 / 3] * 3]


@given(st.permutations(range(20)))
def test_random_does_not_depend_on_the_batch(order: list[int]) -> None:
    batch = turns(20)
    alone = [RandomPlayer().act([turn])[0] for turn in batch]
    assert RandomPlayer().act([batch[i] for i in order]) == [alone[i] for i in order]


def test_moves_know_their_index() -> None:
    for move in RandomPlayer().act(turns(20)):
        assert ("a", "b", "c")[move.index] == move.text
    assert FirstLegal().act([TURN])[0].index == 0


def test_a_script_by_rule_and_by_list() -> None:
    rule = ScriptedPlayer(lambda turn: (turn.legal or ())[-1], "last")
    assert (rule.name, rule.act([TURN])[0].text, rule.act([TURN])[0].index) == ("last", "c", 2)
    assert rule.probabilities([TURN]) == [[0, 0, 1]]
    listed = ScriptedPlayer(["b", "c"])
    assert [m.text for m in listed.act([TURN, replace(TURN, number=1)])] == ["b", "c"]
    with pytest.raises(InputError, match="2 moves and needs another"):
        listed.act([replace(TURN, number=2)])
    with pytest.raises(InputError, match="not a policy"):
        listed.probabilities([TURN])


def test_a_script_may_say_something_illegal_but_has_no_probability_then() -> None:
    rule = ScriptedPlayer(lambda turn: "z")
    assert (rule.act([TURN])[0].text, rule.act([TURN])[0].index) == ("z", -1)
    with pytest.raises(InputError, match="not legal"):
        rule.probabilities([TURN])


def test_free_text_is_refused() -> None:
    for player in (RandomPlayer(), FirstLegal()):
        with pytest.raises(InputError, match="legal actions"):
            player.act([replace(TURN, legal=None)])
        with pytest.raises(InputError, match="legal actions"):
            player.probabilities([replace(TURN, legal=None)])


def test_player_strings() -> None:
    assert [build(parse(name)).name for name in ("random", "first")] == ["random", "first"]


@pytest.mark.parametrize("text", ["random(3)", "random(p=1)", "random:strong", "first(x=2)"])
def test_players_without_options_refuse_them(text: str) -> None:
    with pytest.raises(InputError):
        build(parse(text))


def test_options_are_typed() -> None:
    known = {"simulations": int, "seconds": float}
    assert read_options(parse("mcts(simulations=5, seconds=2)"), known) == {"simulations": 5, "seconds": 2.0}
    for text, hint in [("mcts(simulation=5)", "simulations"), ("mcts(simulations=many)", "e.g."), ("mcts(5)", "write")]:
        with pytest.raises(InputError) as caught:
            read_options(parse(text), known)
        assert hint in caught.value.hint
