"""What training draws from: a TASK, or a range of task ids."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from ludora.envs.build import task_spec
from ludora.envs.catalogue import BLOCK, CATALOGUE
from ludora.envs.sources import sources
from ludora.errors import InputError


def test_a_task_is_always_itself() -> None:
    [(source, share)] = sources("leduc_poker(players=2)")
    assert share == 1.0 and source.game == "leduc_poker"
    assert source.draw(Random(0)) == source.example == task_spec("leduc_poker")


def test_a_range_is_its_games_by_how_many_of_its_ids_are_theirs() -> None:
    found = sources(f"ids({BLOCK // 2}, {3 * BLOCK - 1})")
    assert [(source.game, share) for source, share in found] == [
        ("goofspiel", pytest.approx(0.2)),
        ("liars_dice", pytest.approx(0.4)),
        ("leduc_poker", pytest.approx(0.4)),
    ]


def test_a_range_gives_every_variant_and_no_other() -> None:
    [(source, _)] = sources(f"ids({6 * BLOCK}, {6 * BLOCK + 1})")
    random = Random(1)
    seen = Counter(str(source.draw(random)) for _ in range(200))
    assert seen.keys() == {"hex(board_size=5)", "hex(board_size=7)"} and min(seen.values()) > 70


def test_past_the_catalogue_only_where_it_may_wrap() -> None:
    text = f"ids({20 * BLOCK}, {23 * BLOCK - 1}"
    with pytest.raises(InputError, match="out of range"):
        sources(text + ")")
    found = sources(text + ", wrap=true)")
    assert [source.game for source, _ in found] == ["amazons", "oware", CATALOGUE[0].name]
    for source, _ in found:
        assert source.draw(Random(2)).name == source.game


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ids", "a first and a last"),
        ("ids(1)", "a first and a last"),
        ("ids(1, 2, 3)", "a first and a last"),
        ("ids(-1, 2)", "a first and a last"),
        ("ids(0.5, 2)", "a first and a last"),
        ("ids(true, 2)", "a first and a last"),
        ("ids(1, 2, step=3)", "a first and a last"),
        ("ids(1, 2, wrap=3)", "wrap must be true or false"),
        ("ids(5, 3)", "5 is above 3"),
        ("ids(0, 2200000000)", "out of range"),
        (f"ids(0, {10**15}, wrap=true)", "spans"),
        ("leduc_pokr", "unknown game"),
    ],
)
def test_what_is_no_source(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        sources(text)
    assert caught.value.hint
