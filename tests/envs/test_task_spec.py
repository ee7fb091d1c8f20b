"""TASK strings: names, parameters, task ids, and one-line refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.envs.build import make_env, num_players, task_spec
from ludora.envs.catalogue import BLOCK, CATALOGUE, decode
from ludora.envs.openspiel_games import load
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.types import Task


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leduc_poker", "leduc_poker"),
        ("leduc_poker(players=2)", "leduc_poker"),
        ("hex(board_size=5)", "hex(board_size=5)"),
        ("hex(board_size=11)", "hex"),
        ("go(komi=7, board_size=5)", "go(board_size=5, komi=7.0)"),
        ("turn_based_simultaneous_game(game=goofspiel)", "turn_based_simultaneous_game(game=goofspiel)"),
        (
            "turn_based_simultaneous_game(game=goofspiel(num_cards=4,imp_info=True,players=2))",
            "turn_based_simultaneous_game(game=goofspiel(imp_info=true, num_cards=4))",
        ),
        ("200000042", "leduc_poker"),
        ("000200000042", "leduc_poker"),
        ("600000001", "hex(board_size=7)"),
        ("2", "goofspiel(num_cards=12)"),
        ("2048", "2048"),
        ("000000002048", "goofspiel(num_cards=14)"),
        ("1900000002", "bridge(dealer_vul=true, non_dealer_vul=true)"),
        ("2100000001", "oware(num_seeds_per_house=3)"),
        # parameters that the engine wants to be told, also where they equal the default that it lists
        ("add_noise(game=kuhn_poker, epsilon=0.1, seed=1)", "add_noise(epsilon=0.1, game=kuhn_poker, seed=1)"),
        ("add_noise(game=kuhn_poker, epsilon=1, seed=1)", "add_noise(epsilon=1.0, game=kuhn_poker, seed=1)"),
        ("misere(game=leduc_poker(players=2))", "misere(game=leduc_poker)"),
        (
            "repeated_game(stage_game=matrix_pd, num_repetitions=3, recall=1)",
            "repeated_game(num_repetitions=3, stage_game=matrix_pd)",
        ),
    ],
)
def test_task_strings(text: str, expected: str) -> None:
    spec = task_spec(text)
    assert str(spec) == expected
    assert task_spec(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("leduc_pokr", "unknown game", "leduc_poker"),
        ("hex(board_sise=3)", "no parameter 'board_sise'", "board_size"),
        ("hex(board_size=five)", "must be of type int", "11"),
        ("hex(board_size=-1)", "out of range", "11"),
        ("hex(board_size=10000000000)", "out of range", "11"),
        ("hex(board_size=0)", "no first move", "larger"),
        ("hex(board_size=1000)", "refuses", "other parameters"),
        ("liars_dice(numdice=0)", "refuses", "other parameters"),
        ("hex(board_size=100)", "its moves have no readable names", "other parameters"),
        ("hex(5)", "key=value", "list games"),
        ("hex:big", "key=value", "list games"),
        ("leduc_poker(players=20)", "not for 20 players", "2 to 10"),
        ("oware(seeds_per_house=4)", "no parameter", "num_seeds_per_house"),
        ("bridge(is_chicago=true)", "no parameter", "known: "),
        ("turn_based_simultaneous_game", "Missing parameter", "other parameters"),
        ("turn_based_simultaneous_game(game=gofspiel)", "unknown game", "goofspiel"),
        ("turn_based_simultaneous_game(game=3)", "must be a game", "default"),
        ("mfg_garnet", "mean-field", "players"),
        ("negotiation", "chance inside the engine", "explicit"),
        ("crossword", "does not list", "another game"),
        ("2200000000", "out of range", "2199999999"),
        ("-1", "out of range", "digits"),
        ("999999999999999999999", "out of range", "2199999999"),
        ("200000000(players=2)", "no parameters", "alone"),
    ],
)
def test_refusals_name_the_way_out(text: str, message: str, hint: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as caught:
        task_spec(text)
    assert message in caught.value.message and "\n" not in caught.value.message
    assert hint in caught.value.hint
    assert capfd.readouterr().err == ""  # the engine's own complaint is kept off the terminal


def test_every_numbered_variant_loads() -> None:
    for index, entry in enumerate(CATALOGUE):
        specs = {decode(index * BLOCK + config) for config in range(24)}
        assert all(spec.name == entry.name for spec in specs)
        assert [load(spec).seats for spec in specs]
        # Every parameter is one that the engine knows, by its right type: nothing is mended silently.
        assert {task_spec(str(spec)).name for spec in specs} == {entry.name}


@given(index=st.integers(0, len(CATALOGUE) - 1), config=st.integers(0, BLOCK - 1))
def test_an_id_always_means_the_same_game(index: int, config: int) -> None:
    spec = decode(index * BLOCK + config)
    assert spec == decode(index * BLOCK + config)
    assert parse(str(spec)) == spec


def test_seats() -> None:
    texts = ("kuhn_poker", "hearts", "2048", "matching_pennies_3p", "leduc_poker(players=5)")
    assert [num_players(task_spec(t)) for t in texts] == [2, 4, 1, 3, 5]


def test_make_env_refuses_unknown_games() -> None:
    with pytest.raises(InputError, match="unknown game"):
        make_env(Task(parse("snakes_and_ladders")))


def test_building_needs_no_torch() -> None:
    code = (
        "import sys; from ludora.envs.build import make_env, task_spec; from ludora.types import Task;"
        "assert 'pyspiel' not in sys.modules; make_env(Task(task_spec('leduc_poker')));"
        "import ludora.evals.exact, ludora.players.search, ludora.players.human; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
