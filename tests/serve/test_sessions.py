"""Sessions by number: places are never counted twice, however the threads fall."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from ludora.serve.sessions import Full, Sessions

THREADS = 4


class Nothing:
    """What a session may hold."""

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_as_many_clients_as_places_are_never_refused() -> None:
    sessions: Sessions[Nothing] = Sessions(THREADS, 60.0)
    refused: list[int] = []

    def client() -> None:
        for turn in range(20000):
            try:
                sessions.end(sessions.open(Nothing)[0])
            except Full:
                refused.append(turn)

    threads = [threading.Thread(target=client) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused and len(sessions) == 0


def test_a_place_that_could_not_be_made_is_free_again() -> None:
    sessions: Sessions[Nothing] = Sessions(1, 60.0)

    def broken() -> Nothing:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sessions.open(broken)
    number, _ = sessions.open(Nothing)
    with pytest.raises(Full):
        sessions.open(Nothing)
    sessions.end(number)
    sessions.open(Nothing)
