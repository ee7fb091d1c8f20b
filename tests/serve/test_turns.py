"""Turns: one at a time for each number, in the order of coming, also where somebody who waits gives up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ludora.serve.turns import WAITING, Crowded, Turns


class Hall:
    """Who had a turn, and who holds one until `go`."""

    def __init__(self) -> None:
        self.turns, self.had, self.go = Turns(), list[str](), asyncio.Event()

    async def use(self, name: str, number: int = 1) -> None:
        async with self.turns.of(number):
            self.had.append(name)
            await self.go.wait()

    async def come(self, *names: str) -> list[asyncio.Task[None]]:
        """They come one by one, and get as far as they can."""
        tasks = []
        for name in names:
            tasks.append(asyncio.create_task(self.use(name)))
            await asyncio.sleep(0)
        return tasks


def test_one_after_the_other_and_other_numbers_at_once() -> None:
    async def scene() -> None:
        hall = Hall()
        tasks = await hall.come("a", "b", "c")
        other = asyncio.create_task(hall.use("other", 2))
        await asyncio.sleep(0)
        assert hall.had == ["a", "other"]
        hall.go.set()
        await asyncio.gather(*tasks, other)
        assert hall.had == ["a", "other", "b", "c"] and not hall.turns._lines

    asyncio.run(scene())


def test_more_than_so_many_do_not_wait() -> None:
    async def scene() -> None:
        hall = Hall()
        tasks = await hall.come(*"abcdefghi")
        assert len(tasks) == 1 + WAITING
        with pytest.raises(Crowded):
            await hall.use("one too many")
        hall.go.set()
        await asyncio.gather(*tasks)
        await hall.use("late")
        assert hall.had == [*"abcdefghi", "late"]

    asyncio.run(scene())


@pytest.mark.parametrize("gone", ["b", "c", "bc", "a", "ab"])
def test_a_turn_is_never_lost(gone: str) -> None:
    async def scene() -> None:
        hall = Hall()
        tasks = dict(zip("abcd", await hall.come(*"abcd"), strict=True))
        for name in gone:
            tasks[name].cancel()
        hall.go.set()
        ends: list[Any] = await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert [isinstance(end, asyncio.CancelledError) for end in ends] == [name in gone for name in "abcd"]
        assert hall.had == [name for name in "abcd" if name == "a" or name not in gone] and not hall.turns._lines

    asyncio.run(scene())


def test_who_gives_up_just_as_the_turn_comes_passes_it_on() -> None:
    async def scene() -> None:
        hall = Hall()
        first, second, third = await hall.come("a", "b", "c")
        hall.go.set()
        await first  # the second one has its turn, and has not noticed yet
        second.cancel()
        await asyncio.gather(second, third, return_exceptions=True)
        assert hall.had == ["a", "c"] and not hall.turns._lines

    asyncio.run(scene())
