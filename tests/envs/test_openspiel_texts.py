"""Our rules and state texts, held against what OpenSpiel really does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyspiel
import pytest

from ludora.envs.openspiel import state_turn
from ludora.envs.openspiel_games import load
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.types import Turn

LEDUC, KUHN = parse("leduc_poker"), parse("kuhn_poker")


def states(state: Any) -> Iterator[Any]:
    """Every state of a small game."""
    yield state
    if not state.is_terminal():
        for action in state.legal_actions():
            yield from states(state.child(action))


def played(*actions: int, game: str = "leduc_poker") -> Any:
    state = pyspiel.load_game(game).new_initial_state()
    for action in actions:
        state.apply_action(action)
    return state


def told(turn: Turn) -> str:
    return turn.messages[1].content


@pytest.mark.parametrize(
    ("text", "count"),
    [("kuhn_poker", 12), ("leduc_poker(suit_isomorphism=true)", 288)],
)
def test_texts_and_information_states_are_one_to_one(text: str, count: int) -> None:
    spec = parse(text)
    by_state: dict[tuple[int, str], set[str]] = {}
    shown: dict[str, set[tuple[str, ...]]] = {}
    for state in states(load(spec).game.new_initial_state()):
        if state.is_player_node():
            seat = state.current_player()
            turn = state_turn(spec, state, seat)
            by_state.setdefault((seat, state.information_state_string(seat)), set()).add(told(turn))
            shown.setdefault(told(turn), set()).add(turn.legal or ())
    assert len(by_state) == len(shown) == count
    assert all(len(texts) == 1 for texts in by_state.values())
    assert all(len(legal) == 1 for legal in shown.values())


def test_leduc_leaves_out_suits_and_nothing_else() -> None:
    """The texts of the full game are those of the engine's own suit-free variant, and every state has one."""
    shown = {}
    for spec in (LEDUC, parse("leduc_poker(suit_isomorphism=true)")):
        found: dict[tuple[int, str], str] = {}
        for state in states(load(spec).game.new_initial_state()):
            if state.is_player_node():
                seat = state.current_player()
                found[seat, state.information_state_string(seat)] = told(state_turn(spec, state, seat))
        shown[str(spec)] = (len(found), set(found.values()))
    assert shown[str(LEDUC)][0] == 936
    assert len(set(map(str, shown[str(LEDUC)][1]))) == 288
    assert shown[str(LEDUC)][1] == shown["leduc_poker(suit_isomorphism=true)"][1]


def test_texts_are_short() -> None:
    for spec in (KUHN, LEDUC):
        turns = [
            state_turn(spec, state, state.current_player())
            for state in states(load(spec).game.new_initial_state())
            if state.is_player_node()
        ]
        assert len(turns[0].messages[0].content.split()) <= 90
        assert max(len(told(turn).split()) for turn in turns) <= 45


def test_kuhn_reads_as_it_is() -> None:
    turn = state_turn(KUHN, played(2, 0, game="kuhn_poker"), 0)
    assert (told(turn), turn.legal) == ("You act first. Bets: none. Pot 2. You hold: king.", ("Check", "Bet"))
    turn = state_turn(KUHN, played(2, 0, 0, 1, game="kuhn_poker"), 0)
    expected = "You act first. Bets: you check, they bet. Pot 3, 1 to call. You hold: king."
    assert (told(turn), turn.legal) == (expected, ("Fold", "Call"))


def test_kuhn_rules_hold() -> None:
    for state in states(pyspiel.load_game("kuhn_poker").new_initial_state()):
        if state.is_terminal():
            first, second, *bets = state.history()
            higher = 1.0 if first > second else -1.0
            calls = bets[-2:] == [1, 1]
            checks = bets == [0, 0]
            # Two checks play for the antes, a called bet for antes and bets, a fold gives away the ante.
            expected = higher * (2 if calls else 1) if calls or checks else (-1.0 if bets == [0, 1, 0] else 1.0)
            assert state.returns() == [expected, -expected]


def test_leduc_reads_as_it_is() -> None:
    turn = state_turn(LEDUC, played(0, 3, 1, 2, 2, 1, 1, 1, 2), 0)
    assert told(turn) == (
        "You act first. Round one: you check, they raise, you raise, they call. "
        "Public card: jack. Round two: you check, they raise. Pot 14, 4 to call. You hold: pair of jacks."
    )
    assert turn.legal == ("Fold", "Call", "Raise")
    turn = state_turn(LEDUC, played(0, 3), 0)
    assert told(turn) == "You act first. Round one: none. Pot 2. You hold: jack."
    assert turn.legal == ("Check", "Raise")


def test_leduc_bets_pots_and_limits_hold() -> None:
    """Replay every betting sequence by the rules text, and compare chips, legality and ends with the engine."""
    for state in states(pyspiel.load_game("leduc_poker").new_initial_state()):
        if not state.is_player_node():
            continue
        turn = state_turn(LEDUC, state, state.current_player())
        text, chips, raises, mover = told(turn), [1, 1], 0, 0
        rounds = re.findall(r"Round (one|two): ([^.]*)\.", text)
        for name, moves in rounds:
            raises, mover = 0, 0
            for move in [] if moves == "none" else moves.split(", "):
                who, what = move.split()
                assert (mover == turn.seat) == (who == "you")
                if what in ("call", "raise"):
                    chips[mover] = max(chips)
                if what == "raise":
                    chips[mover] += 2 if name == "one" else 4
                    raises += 1
                mover = 1 - mover
        assert mover == turn.seat
        pot, to_call = re.search(r"Pot (\d+)(?:, (\d+) to call)?\. You", text).groups()  # type: ignore[union-attr]
        assert int(pot) == sum(chips)
        assert int(to_call or 0) == chips[1 - turn.seat] - chips[turn.seat]
        assert turn.legal == (("Fold", "Call") if to_call else ("Check",)) + (("Raise",) if raises < 2 else ())


def by_the_rules(history: list[int]) -> float:
    """What the first player wins in Leduc poker, refereed from our rules text alone."""
    first, second, *rest = history
    chips, public, mover, raises, checks, size = [1, 1], -1, 0, 0, 0, 2
    for action in rest:
        if public < 0 and (checks == 2 or (raises and chips[0] == chips[1])):  # round one is over: a card is shown
            public, mover, raises, checks, size = action, 0, 0, 0, 4
            continue
        if action == 0:
            return float(-chips[0] if mover == 0 else chips[1])
        if chips[0] == chips[1] and action == 1:
            checks += 1
        chips[mover] = max(chips)
        if action == 2:
            chips[mover] += size
            raises += 1
        mover = 1 - mover
    strength = [(card // 2 == public // 2, card // 2) for card in (first, second)]
    return float((strength[0] > strength[1]) - (strength[0] < strength[1])) * chips[0]


def test_leduc_pays_as_the_rules_say() -> None:
    ends = [s for s in states(pyspiel.load_game("leduc_poker").new_initial_state()) if s.is_terminal()]
    assert len(ends) == 5520
    for state in ends:
        won = by_the_rules(state.history())
        assert state.returns() == [won, -won], state.history()


def test_suit_isomorphism_shows_ranks_only() -> None:
    spec = parse("leduc_poker(suit_isomorphism=true)")
    state = load(spec).game.new_initial_state()
    for action in (2, 0, 1, 1, 2):
        state.apply_action(action)
    assert told(state_turn(spec, state, 0)) == (
        "You act first. Round one: you check, they check. Public card: king. Round two: none. Pot 2. "
        "You hold: pair of kings."
    )


def test_the_other_player_may_start() -> None:
    spec = parse("leduc_poker(starting_player=1)")
    state = load(spec).game.new_initial_state()
    for action in (0, 3, 2):
        state.apply_action(action)
    assert "You act second. Round one: they raise. Pot 4, 2 to call." in told(state_turn(spec, state, 0))


@pytest.mark.parametrize(
    "text",
    [
        "leduc_poker(players=3)",
        "kuhn_poker(players=3)",
        "leduc_poker(action_mapping=true)",
        "hex(num_cols=27, num_rows=3)",  # more columns than letters
        "quoridor(board_size=27)",
    ],
)
def test_other_rules_get_the_engines_text(text: str) -> None:
    spec = parse(text)
    assert load(spec).text is None
    assert text in load(spec).rules.content


@pytest.mark.parametrize("dealer", [4, 9])
def test_a_dealer_who_does_not_sit_there_is_refused(dealer: int) -> None:
    assert load(parse("bridge(dealer=3)")).text
    with pytest.raises(InputError, match=f"dealer={dealer} is no seat"):
        load(parse(f"bridge(dealer={dealer})"))
