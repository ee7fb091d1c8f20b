"""MCTS, IS-MCTS and Nash: strength, repeatability, and what they refuse."""

from __future__ import annotations

import random
from dataclasses import replace
from time import monotonic

import pytest

from ludora.envs.build import make_env, task_spec
from ludora.envs.openspiel import state_turn
from ludora.envs.openspiel_games import load
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.base import Explicit, Player
from ludora.players.bots import RandomPlayer
from ludora.players.search import ISMCTS, MCTS, Effort, Nash, build
from ludora.rng import stream
from ludora.rollout import Game, collect
from ludora.types import Message, Outcome, Task, Turn


def turns(text: str, count: int = 12) -> list[Turn]:
    """The first turns of games with different seeds."""
    spec = task_spec(text)
    return [replace(make_env(Task(spec, i)).turns()[0], seed=stream("test", i)) for i in range(count)]


def mean_return(player: Player, text: str, games: int) -> float:
    """Mean return against uniform play, both seats."""
    spec, other = task_spec(text), RandomPlayer()
    seats = [(player, other), (other, player)]
    finished = collect([Game(Task(spec, i // 2), seats[i % 2]) for i in range(games)], make_env)
    return sum(f.trajectories[i % 2].total for i, f in enumerate(finished)) / games


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mcts", "mcts"),
        ("mcts:weak", "mcts:weak"),
        ("mcts(rollouts=2, simulations=30)", "mcts(rollouts=2, simulations=30)"),
        ("mcts(seconds=1)", "mcts(seconds=1.0)"),
        ("ismcts(simulations=50)", "ismcts(simulations=50)"),
        ("nash", "nash"),
        ("nash(iterations=10)", "nash(iterations=10)"),
    ],
)
def test_names_are_canonical(text: str, name: str) -> None:
    player = build(parse(text))
    assert player.name == name
    assert build(parse(player.name)).name == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mcts:stong", "strong"),
        ("mcts(simulation=5)", "simulations"),
        ("mcts(simulations=0)", "simulations=1"),
        ("mcts(5)", "simulations="),
        ("ismcts:huge", "weak"),
        ("ismcts:origin", "strong"),
        ("nash:big", "alone"),
        ("nash(iterations=0)", "1000"),
        ("nash(iteration=5)", "iterations"),
    ],
)
def test_bad_options_are_refused(text: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        build(parse(text))
    assert hint in caught.value.hint


@pytest.mark.parametrize("player", [MCTS(simulations=20), ISMCTS(simulations=20), Nash(iterations=50)])
def test_the_batch_decides_nothing(player: Player) -> None:
    batch = turns("leduc_poker", 40)
    together = player.act(batch)
    assert [player.act([turn])[0] for turn in batch] == together
    assert player.act(batch[::-1]) == together[::-1]
    assert all(turn.legal and turn.legal[m.index] == m.text for turn, m in zip(batch, together, strict=True))
    # Another seed makes other choices somewhere.
    assert player.act([replace(turn, seed=turn.seed + 2**40 + 1) for turn in batch]) != together


def test_labels_say_who_sees_hidden_cards() -> None:
    assert MCTS().sees_hidden and not ISMCTS().sees_hidden and not Nash().sees_hidden


def test_searchers_leave_the_state_and_the_global_generator_alone() -> None:
    batch, before = turns("leduc_poker"), random.getstate()
    states = [str(turn.state.live) for turn in batch]
    for player in (MCTS(simulations=20), ISMCTS(simulations=20), Nash(iterations=5)):
        player.act(batch)
    assert [str(turn.state.live) for turn in batch] == states
    assert random.getstate() == before


def test_mcts_takes_the_win_and_stops_the_loss() -> None:
    spec = task_spec("tic_tac_toe")
    # x has two in a row twice over; the third in the top row wins. o must stop the column instead.
    for history, best in (([0, 3, 1, 4], "x(0,2)"), ([0, 4, 3], "o(2,0)")):
        state = load(spec).game.new_initial_state()
        for action in history:
            state.apply_action(action)
        turn = replace(state_turn(spec, state, state.current_player()), seed=7)
        assert MCTS("strong").act([turn])[0].text == best


def test_strengths_are_ordered() -> None:
    weak, strong = (mean_return(MCTS(strength), "connect_four", 16) for strength in ("weak", "medium"))
    assert strong >= weak
    assert strong > 0.7


def test_leduc_opponents_beat_uniform_play() -> None:
    # Expected: mcts about 1.7 (it sees the cards), ismcts about 1.6, nash 0.71; standard error of 400 hands 0.2.
    assert mean_return(MCTS("medium"), "leduc_poker", 400) > 1.1
    assert mean_return(ISMCTS("medium"), "leduc_poker", 400) > 0.5
    assert mean_return(Nash(), "leduc_poker", 400) > 0.1


def test_the_origins_strength_follows_the_catalogue() -> None:
    player, leduc = MCTS("origin"), task_spec("leduc_poker")
    player.act(turns("leduc_poker", 1))
    assert player._efforts == {leduc: Effort(3000, 200, 0.0, 1.414)}
    with pytest.raises(InputError, match="no search settings"):
        player.act(turns("tic_tac_toe", 1))
    weaker = MCTS("origin", simulations=5)
    weaker.act(turns("leduc_poker", 1))
    assert weaker._efforts == {leduc: Effort(5, 200, 0.0, 1.414)}


def test_exploration_is_in_units_of_the_stakes() -> None:
    player = MCTS(rollouts=3)
    player.act([*turns("leduc_poker", 1), *turns("tic_tac_toe", 1)])
    assert player._efforts[task_spec("leduc_poker")].uct == pytest.approx(1.4 * 13)
    assert player._efforts[task_spec("tic_tac_toe")] == Effort(100, 3, 0.0, 1.4)


@pytest.mark.parametrize(("player", "text"), [(MCTS, "hex(board_size=5)"), (ISMCTS, "leduc_poker")])
def test_a_time_limit_is_kept(player: type[MCTS], text: str) -> None:
    (turn,) = turns(text, 1)
    start = monotonic()
    move = player(seconds=0.05).act([turn])[0]
    assert move.text in (turn.legal or ())
    assert 0.04 < monotonic() - start < 1.0


def test_a_time_limit_takes_the_place_of_simulations() -> None:
    for text in ("mcts:weak(seconds=1)", "mcts(seconds=1, simulations=10)"):
        with pytest.raises(InputError, match="takes the place"):
            build(parse(text))


def test_information_set_search_does_not_look_at_hidden_cards() -> None:
    """States that differ only in the opponent's card get the same move from the same seed; plain MCTS's differ."""
    spec = task_spec("leduc_poker")
    moves: dict[type[MCTS], list[str]] = {ISMCTS: [], MCTS: []}
    for kind, chosen in moves.items():
        for hidden in (2, 5):  # a queen, which splits the pot with seat 0, or a king, which beats it
            state = load(spec).game.new_initial_state()
            for action in (3, hidden, 1, 1, 1, 1, 2):
                state.apply_action(action)
            batch = [replace(state_turn(spec, state, 0), seed=stream("peek", i)) for i in range(20)]
            chosen.append(" ".join(m.text for m in kind(simulations=30).act(batch)))
    assert moves[ISMCTS][0] == moves[ISMCTS][1]
    assert moves[MCTS][0] != moves[MCTS][1]


@pytest.mark.parametrize(
    ("player", "text", "message"),
    [
        (MCTS(), "goofspiel(num_cards=4)", "simultaneous"),
        (MCTS(), "2048", "pays as it goes"),
        (ISMCTS(), "tic_tac_toe", "hidden information"),
        (ISMCTS(), "solitaire", "pays as it goes"),
        (ISMCTS(), "backgammon", "hidden information"),
        (Nash(), "tic_tac_toe", "too large"),
        (Nash(), "tiny_hanabi", "not zero-sum"),
        (Nash(), "leduc_poker(players=3)", "3 seats"),
    ],
)
def test_refused_games(player: Player, text: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=message):
        player.act(turns(text, 2))
    assert capfd.readouterr().err == ""


def test_other_environments_are_refused() -> None:
    turn = Turn(0, (Message("user", "go"),), ("left", "right"))
    for player in (MCTS(), ISMCTS(), Nash()):
        with pytest.raises(InputError, match="OpenSpiel games only"):
            player.act([turn])


def test_nash_acts_as_it_says() -> None:
    nash = Nash(iterations=200)
    assert isinstance(nash, Explicit)
    (turn,) = turns("kuhn_poker", 1)
    ((check, bet),) = nash.probabilities([turn])
    assert check + bet == pytest.approx(1)
    moves = nash.act([replace(turn, seed=stream("draw", i)) for i in range(3000)])
    assert sum(m.text == "Bet" for m in moves) / 3000 == pytest.approx(bet, abs=0.04)


def test_searchers_play_whole_games() -> None:
    spec = task_spec("kuhn_poker")
    finished = collect([Game(Task(spec, i), (MCTS("weak"), ISMCTS("weak"))) for i in range(5)], make_env)
    assert all(f.trajectories[0].outcome in (Outcome.WON, Outcome.LOST) for f in finished)
