"""OpenSpiel games as environments: chance, turns, rewards, forfeits, results, handles."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pyspiel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.envs.base import Env
from ludora.envs.openspiel import OpenSpielEnv, SpielHandle
from ludora.envs.openspiel_games import draw, load, unique
from ludora.errors import EnvBroken
from ludora.grammar import parse
from ludora.players.bots import FirstLegal, RandomPlayer
from ludora.rng import generator, stream
from ludora.rollout import Game, collect
from ludora.types import End, Move, Outcome, Task, Turn


def env_of(text: str, seed: int = 0) -> OpenSpielEnv:
    return OpenSpielEnv(Task(parse(text), seed))


def play_out(env: Env, seed: int = 0) -> tuple[list[Turn], list[float]]:
    """Random play to the end: all turns, and the sum of all rewards."""
    seen: list[Turn] = []
    totals = list(env.rewards())
    while turns := env.turns():
        seeded = [replace(t, seed=stream(seed, len(seen), t.seat)) for t in turns]
        env.apply({t.seat: m for t, m in zip(turns, RandomPlayer().act(seeded), strict=True)})
        seen += turns
        totals = [a + b for a, b in zip(totals, env.rewards(), strict=True)]
    return seen, totals


def test_it_is_an_environment() -> None:
    env = env_of("leduc_poker")
    assert isinstance(env, Env)
    assert (env.num_seats, env.blocking, env.zero_sum) == (2, False, True)


@pytest.mark.parametrize(
    "text",
    [
        "kuhn_poker",
        "leduc_poker",
        "tic_tac_toe",
        "hearts",
        "euchre",
        "goofspiel(imp_info=true, num_cards=5)",
        "turn_based_simultaneous_game(game=goofspiel(num_cards=4))",
        "matching_pennies_3p",
        "2048",
        "blackjack",
        "backgammon",
        "oshi_zumo",
        "liars_dice(numdice=5)",
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_rewards_sum_to_the_engines_returns(text: str, seed: int) -> None:
    env = env_of(text, seed)
    turns, totals = play_out(env, seed)
    state = turns[-1].state.live
    assert state.is_terminal()
    assert totals == pytest.approx(state.returns())
    assert env.rewards() == (0.0,) * env.num_seats
    result = env.result()
    assert result.end is End.TERMINATED
    assert all(0 <= score <= 1 for score in result.scores)


def test_the_task_seed_decides_the_cards() -> None:
    first = [play_out(env_of("leduc_poker", seed))[0] for seed in range(20)]
    again = [play_out(env_of("leduc_poker", seed))[0] for seed in range(20)]
    texts = [[t.messages[1].content for t in game] for game in first]
    assert texts == [[t.messages[1].content for t in game] for game in again]
    assert len({game[0] for game in texts}) == 3


def test_chance_follows_the_probabilities() -> None:
    outcomes = [(0, 0.5), (1, 0.25), (2, 0.25)]
    counts = Counter(draw(outcomes, generator("test", i)) for i in range(4000))
    assert abs(counts[0] - 2000) < 150
    assert abs(counts[1] - 1000) < 130
    # A sum of probabilities just below 1 must not fall off the end.
    assert draw([(7, 0.0)], generator("test")) == 7


def test_equal_states_share_their_messages() -> None:
    turns: dict[object, Turn] = {}
    for seed in range(40):
        for turn in play_out(env_of("leduc_poker", seed), seed)[0]:
            other = turns.setdefault((turn.seat, turn.state.state.information_state_string(turn.seat)), turn)
            assert other.messages is turn.messages
            assert other.legal is turn.legal


def test_simultaneous_seats_move_together() -> None:
    env = env_of("goofspiel(num_cards=4, points_order=descending)")
    turns = env.turns()
    assert [t.seat for t in turns] == [0, 1]
    env.apply({0: Move("[P0]Bid: 4"), 1: Move("[P1]Bid: 1")})
    assert "[P0]Bid: 4" not in (env.turns()[0].legal or ())
    assert turns[0].state.state.history() == []
    assert env.turns()[0].state.state.history()[:2] == [3, 0]


def test_moves_of_the_wrong_seats_are_a_mistake() -> None:
    env = env_of("kuhn_poker")
    for moves in ({}, {1: Move("Check")}, {0: Move("Check"), 1: Move("Check")}):
        with pytest.raises(ValueError, match="must move"):
            env.apply(moves)


def test_a_result_before_the_end_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="not over"):
        env_of("kuhn_poker").result()


@pytest.mark.parametrize(
    ("text", "seat", "totals", "scores"),
    [
        ("leduc_poker", 0, [-13, 13], (0, 1)),
        ("euchre", 0, [-4, 4 / 3, 4 / 3, 4 / 3], (0, 2 / 3, 2 / 3, 2 / 3)),
        ("hearts", 0, [0, 0, 0, 0], (0, 1, 1, 1)),
        ("blackjack", 0, [-1], (0,)),
        ("matrix_pd", 1, [0, 0], (1, 0)),
    ],
)
def test_an_illegal_text_forfeits(text: str, seat: int, totals: list[float], scores: tuple[float, ...]) -> None:
    env = env_of(text)
    while (turns := env.turns())[0].seat != 0 or len(turns) <= seat:
        env.apply({t.seat: m for t, m in zip(turns, FirstLegal().act(turns), strict=True)})
    moves = {t.seat: m for t, m in zip(turns, FirstLegal().act(turns), strict=True)}
    env.apply({**moves, seat: Move("resign")})
    assert env.turns() == ()
    assert env.rewards() == pytest.approx(totals)
    assert env.rewards() == (0.0,) * env.num_seats
    result = env.result()
    expected = [Outcome.FORFEITED if s == seat else Outcome.WON for s in range(env.num_seats)]
    assert list(result.outcomes) == expected
    assert result.scores == pytest.approx(scores)


def test_a_game_that_all_seats_spoil_pays_nobody() -> None:
    env = env_of("goofspiel(num_cards=4)")
    env.apply({0: Move("?"), 1: Move("?")})
    assert env.rewards() == (0.0, 0.0)
    assert env.result().outcomes == (Outcome.FORFEITED, Outcome.FORFEITED)


def test_a_forfeit_takes_back_what_was_earned_on_the_way() -> None:
    env = env_of("2048", 3)
    earned = 0.0
    while earned == 0:
        turns = env.turns()
        env.apply({0: FirstLegal().act(turns)[0]})
        earned += env.rewards()[0]
    env.apply({0: Move("sideways")})
    assert env.rewards() == (-earned,)


def test_scores_and_outcomes_by_kind_of_game() -> None:
    leduc, hearts, pd = (load(parse(t)) for t in ("leduc_poker", "hearts", "matrix_pd"))
    assert leduc.scores([-1, 1]) == pytest.approx((12 / 26, 14 / 26))  # a fold
    assert leduc.outcomes([-1, 1]) == (Outcome.LOST, Outcome.WON)
    assert leduc.outcomes([0, 0]) == (Outcome.DREW, Outcome.DREW)
    assert hearts.scores([26, 20, 20, 12]) == pytest.approx((1, 2 / 3, 2 / 3, 0))
    assert hearts.outcomes([26, 20, 20, 12]) == (Outcome.WON, Outcome.WON, Outcome.WON, Outcome.LOST)
    assert hearts.scores([20, 20, 20, 20]) == (0.5,) * 4
    assert hearts.outcomes([20, 20, 20, 20]) == (Outcome.DREW,) * 4
    assert (pd.scores([5, 0]), pd.scores([1, 1])) == ((1, 0), (0.5, 0.5))
    alone = load(parse("2048"))
    assert alone.outcomes([3000]) == (Outcome.WON,)  # the catalogue's mark, not half of the maximum
    assert alone.outcomes([1000]) == (Outcome.LOST,)
    blackjack = load(parse("blackjack"))
    assert [blackjack.outcomes([total]) for total in (-1, 0, 1)] == [(Outcome.LOST,), (Outcome.DREW,), (Outcome.WON,)]
    # Alone, the sign of a return says nothing: here the shortest way still costs 9 steps, there a small loss is all.
    assert load(parse("cliff_walking")).outcomes([-9]) == (Outcome.WON,)
    assert load(parse("cliff_walking")).outcomes([-199]) == (Outcome.LOST,)
    assert load(parse("pathfinding")).outcomes([1]) == (Outcome.LOST,)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), text=st.sampled_from(["leduc_poker", "liars_dice(numdice=2)", "tic_tac_toe"]))
def test_legal_texts_and_action_ids_stay_parallel(seed: int, text: str) -> None:
    env = env_of(text, seed)
    while turns := env.turns():
        (turn,) = turns
        handle = turn.state
        assert isinstance(handle, SpielHandle)
        assert handle.state.current_player() == turn.seat
        assert handle.actions == tuple(handle.state.legal_actions())
        index = seed % len(handle.actions)
        after = handle.state.child(handle.actions[index])
        env.apply({turn.seat: Move((turn.legal or ())[index])})
        assert handle.live.history()[: len(after.history())] == after.history()


@pytest.mark.parametrize("text", ["leduc_poker", "goofspiel(num_cards=4)", "backgammon", "oshi_zumo"])
def test_old_turns_keep_their_state(text: str) -> None:
    env = env_of(text, 5)
    seen: list[tuple[Turn, str]] = []
    while turns := env.turns():
        seen += [(turn, str(turn.state.state)) for turn in turns]
        seeded = [replace(t, seed=stream(len(seen), t.seat)) for t in turns]
        env.apply({t.seat: m for t, m in zip(turns, RandomPlayer().act(seeded), strict=True)})
    assert [str(turn.state.state) for turn, _ in seen] == [text for _, text in seen]


def test_the_memo_is_emptied_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ludora.envs.openspiel_games._MEMO_LIMIT", 50)
    loaded = load(parse("hex(board_size=4)"))
    for seed in range(5):
        play_out(env_of("hex(board_size=4)", seed), seed)
        assert loaded._memo_size <= 50 + 18
    assert sum(2 + len(key[2]) for key in loaded._memo) == loaded._memo_size


def test_colliding_names_get_their_id() -> None:
    assert unique(["a", "b", "a"], [4, 5, 6]) == ("a (id 4)", "b", "a (id 6)")
    assert unique(["a", "b"], [1, 2]) == ("a", "b")


def test_hidden_cards_are_not_shown() -> None:
    for text in ("leduc_poker(players=3)", "liars_dice(bidding_rule=reset-quantity)", "hearts"):
        spec = parse(text)
        state = load(spec).game.new_initial_state()
        random = generator("deal")
        while state.is_chance_node():
            state.apply_action(draw(state.chance_outcomes(), random))
        seat = state.current_player()
        others = (
            {str(state.resample_from_infostate(seat, random.random)) for _ in range(5)} if text == "hearts" else set()
        )
        told = load(spec).view(state, seat).messages[1].content
        if load(spec).text is None:
            assert state.information_state_string(seat).strip() in told
        assert str(state) not in told and not others & {told}


def test_games_alone_and_boards_show_the_board() -> None:
    env = env_of("blackjack")
    assert env.turns()[0].messages[1].content.startswith("Your cards: ")
    assert "player 0 of" not in env_of("deep_sea").turns()[0].messages[1].content
    assert env_of("tic_tac_toe").turns()[0].messages[1].content.endswith("...\n...\n...")


def test_the_engine_loads_a_game_once() -> None:
    assert load(parse("hex(board_size=5)")) is load(parse("hex(board_size=5)"))
    assert isinstance(load(parse("hex(board_size=5)")).game, pyspiel.Game)


class Failing:
    """An engine's state that fails at an action."""

    def __init__(self, state: Any, player: int) -> None:
        self._state, self._player = state, player

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def apply_action(self, action: int) -> None:
        self._state.apply_action(-1 if self._state.current_player() == self._player else action)


@pytest.mark.parametrize("player", [0, pyspiel.PlayerId.CHANCE])
def test_an_engine_that_fails_is_not_the_players_fault(player: int) -> None:

    def failing(task: Task) -> OpenSpielEnv:
        env = OpenSpielEnv(task)
        env._state = Failing(env._state, player)
        return env

    task = Task(parse("leduc_poker"))
    env = failing(task)
    with pytest.raises(EnvBroken, match=r"^the engine of leduc_poker failed: .+$"):
        while turns := env.turns():
            env.apply({turns[0].seat: FirstLegal().act(turns)[0]})
    [finished] = collect([Game(task, (FirstLegal(),) * 2)], failing)
    assert finished.error.startswith("the engine of leduc_poker failed") and not finished.trajectories
