"""Order, parts and homes of what is learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.models.rig import rig, text

from ludora.data.batches import Choice, Homes, Order, digest, parts, units, width
from ludora.models.policy import Query, Text
from ludora.models.rows import Row


def plain(length: int, seed: int = 0, prefix: int = 0) -> Text:
    tokens = text(length, 7)[:prefix] + text(length - prefix, seed)
    return Text(Row(tokens, prefix), (length - 2, length - 1), (5, 2))


@given(count=st.integers(1, 200), batch=st.integers(1, 64), seed=st.integers(0, 5))
def test_an_epoch_is_every_example_once_in_even_batches(count: int, batch: int, seed: int) -> None:
    order = Order(count, batch, seed)
    for epoch in range(2):
        batches = [order.at(epoch * order.per_epoch + step) for step in range(order.per_epoch)]
        assert sorted(i for part in batches for i in part) == list(range(count))
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        assert order.per_epoch == 1 or batch / 2 <= len(batches[0]) <= 1.5 * batch + 1


def test_the_order_is_that_of_seed_and_epoch_alone() -> None:
    order = Order(50, 8, 3)
    forward = [order.at(step) for step in range(14)]
    assert [order.at(step) for step in reversed(range(14))] == forward[::-1]
    assert forward[0] != forward[order.per_epoch] and forward[0] != Order(50, 8, 4).at(0)


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=12), least=st.integers(1, 6), budget=st.integers(1, 99)
)
def test_parts_keep_order_and_budget(lengths: list[int], least: int, budget: int) -> None:
    items = [plain(length, i) for i, length in enumerate(lengths)]
    found = list(parts(items, least, budget))
    assert [item for part in found for item in part] == items
    assert all(len(part) == 1 or sum(map(width, part)) <= budget for part in found)
    if len(set(lengths)) == 1 and len(lengths) % least == 0:
        assert len(found) >= least


def test_width_and_units() -> None:
    choice = Choice(Query(text(12), 5, ((3,), (4,))), 1)
    assert (width(choice), units(choice)) == (7, 1)
    assert (width(plain(9, prefix=4)), units(plain(9))) == (5, 2)


def test_a_digest_tells_everything_apart() -> None:
    query = Query(text(12), 5, ((3,), (4,)))
    items = [Choice(query, 0), Choice(query, 1), plain(9), plain(9, 1), plain(9, prefix=3)]
    items.append(Text(items[2].row, (7, 8), (5, 3)))  # type: ignore[union-attr]
    assert len({digest([item]) for item in items}) == len(items)
    assert digest(items) != digest(items[::-1]) and digest(items) == digest(list(items))


def test_homes_keep_what_they_have_room_for_and_nothing_else() -> None:
    made = rig("llama")
    made.add(layers="top:1")
    items = [plain(20, i, prefix=8) for i in range(9)]
    own, hidden = 4 * made.base.hidden, 12
    made.engine.trunk.limit = own * (8 + 5 * hidden) + 3  # the prefix and five rows
    homes = Homes(made.engine, made.policy, [items[:3], items[2:6], items[6:]])
    assert len(homes) == 5 and not made.engine.caches
    homes.prepare([items[3]])
    kept = {row for row in (item.row for item in items) if made.engine.trunk.get(row) is not None}
    assert kept == {items[3].row, items[4].row}  # its home; the sixth has no room
    trunk = made.trunk_tokens()
    homes.prepare(items)
    made.engine.encode([item.row for item in items], [item.reads for item in items], [None] * 9)
    assert trunk["tokens"] > 0
    assert made.engine.trunk.size <= made.engine.trunk.limit and len(made.engine.trunk) == 6
    homes.leave()
    assert made.engine.caches and len(made.engine.trunk) == 0


@pytest.mark.parametrize("kept", [True, False])
def test_homes_change_no_number(kept: bool) -> None:
    """Kept, computed anew, or no trunk at all: the states are the same."""
    made = rig("llama")
    adapter = made.add(layers="top:2")
    items = [plain(20 + i, i, prefix=8) for i in range(6)]
    given = [item.row for item in items], [item.reads for item in items], [adapter] * 6
    with torch.no_grad():
        wanted = made.engine.encode(*given)
        made.engine.trunk.clear()
        if not kept:
            made.engine.trunk.limit = 0
        homes = Homes(made.engine, made.policy, [items])
        homes.prepare(items)
        trunk = made.trunk_tokens()
        assert torch.allclose(made.engine.encode(*given), wanted, atol=1e-5)
    assert (trunk["tokens"] == 0) is kept


@pytest.mark.parametrize("room", [1 << 30, 60_000])
def test_a_row_is_computed_beside_the_same_rows_however_a_run_came_there(room: int) -> None:
    """Straight through from the start, or from the middle with an empty cache: what shares a batch decides bits."""
    made = rig("llama")
    adapter = made.add(layers="top:1")
    items = [plain(20 + i % 3, i % 10, prefix=8) for i in range(16)]  # some come twice
    order = Order(len(items), 4, 0)
    batches = [[items[i] for i in order.at(step)] for step in range(3 * order.per_epoch)]

    def company(first: int) -> dict[int, dict[Row, list[Row]]]:
        """Per step the rows that were computed together, by each of them."""
        made.engine.trunk.clear()
        made.engine.trunk.limit = room
        homes = Homes(made.engine, made.policy, batches[: order.per_epoch])
        seen: dict[int, dict[Row, list[Row]]] = {}
        real = made.engine._compute_trunk
        for step in range(first, len(batches)):
            seen[step] = {}

            def spy(rows: Sequence[Row], step: int = step) -> Iterator[tuple[Row, torch.Tensor]]:
                seen[step] |= {row: list(rows) for row in rows}
                return real(rows)

            made.engine._compute_trunk = spy  # type: ignore[method-assign]
            homes.prepare(batches[step])
            distinct = list(dict.fromkeys(batches[step]))
            rows, reads = [item.row for item in distinct], [item.reads for item in distinct]  # type: ignore[union-attr]
            with torch.no_grad():
                made.engine.encode(rows, reads, [adapter] * len(rows))
        made.engine._compute_trunk = real  # type: ignore[method-assign]
        return seen

    whole, later = company(0), company(order.per_epoch + 2)
    homed = {row: rows for step in whole.values() for row, rows in step.items()}
    assert later and any(later.values())
    for step, computed in later.items():
        for row, rows in computed.items():
            assert rows == whole[step].get(row, homed[row])


def test_without_a_trunk_there_are_no_homes() -> None:
    made = rig("llama")
    made.add(layers="all")
    homes = Homes(made.engine, made.policy, [[plain(20)]])
    homes.prepare([plain(20)])
    assert len(homes) == 0 and made.engine.caches and len(made.engine.trunk) == 0
