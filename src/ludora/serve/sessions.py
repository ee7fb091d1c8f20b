"""Open sessions by their number: each with its own lock, forgotten when idle, never more than so many at once."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

BITS = 53  # of a session's number: what JSON numbers carry exactly everywhere, and more than anybody can try


class Closable(Protocol):
    """What a session holds."""

    def close(self) -> None: ...


Held = TypeVar("Held", bound=Closable)


class Full(Exception):
    """As many sessions are open as may be."""


class Unknown(Exception):
    """No session has that number: it never had, or it was idle for too long, or it has ended long ago."""


@dataclass(slots=True)
class _Place(Generic[Held]):
    held: Held
    used: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: bool = True


class Sessions(Generic[Held]):
    """What is held, by number. All methods may be called from any thread.

    A session that has ended stays readable, so that a client whose connection broke can ask again for the last answer;
    of those, as many are kept as may be open.
    """

    def __init__(self, most: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.idle_seconds = most, idle_seconds
        self._clock = clock
        self._places: dict[int, _Place[Held]] = {}  # in the order of opening
        self._opening = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are open."""
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return self._opening + sum(place.open for place in self._places.values())

    def open(self, make: Callable[[], Held]) -> tuple[int, Held]:
        """A new session around what `make` makes.

        Raises:
            Full: there are too many already.
        """
        self.sweep()
        with self._lock:
            if self._count() >= self.most:
                raise Full
            self._opening += 1
        number, place = 0, None
        try:
            place = _Place(make(), self._clock())
        finally:
            with self._lock:  # from opening to open in one step, so that it never counts twice
                self._opening -= 1
                if place is not None:
                    while not number or number in self._places:
                        number = secrets.randbits(BITS)
                    self._places[number] = place
        return number, place.held

    @contextmanager
    def use(self, number: int) -> Iterator[Held]:
        """The session, for one caller at a time.

        Raises:
            Unknown: there is none of that number.
        """
        with self._lock:
            place = self._places.get(number)
        if place is None:
            raise Unknown
        with place.lock:
            if number not in self._places:
                raise Unknown
            try:
                yield place.held
            finally:
                place.used = self._clock()

    def end(self, number: int) -> None:
        """Close what the session holds and free its place; what it last answered stays for a while. Idempotent."""
        with self._lock:
            place = self._places.get(number)
            if place is None or not place.open:
                return
            place.open = False
            ended = [n for n, p in self._places.items() if not p.open]
            for old in ended[: -self.most]:
                del self._places[old]
        place.held.close()

    def sweep(self) -> int:
        """Close and forget the sessions that were idle for too long; those in use are not idle. How many."""
        limit = self._clock() - self.idle_seconds
        with self._lock:
            idle = [n for n, p in self._places.items() if p.used < limit and not p.lock.locked()]
            gone = [self._places.pop(number) for number in idle]
        for place in gone:
            place.held.close()
        return len(gone)

    def close(self) -> None:
        """Close all, also those in use."""
        with self._lock:
            gone, self._places = list(self._places.values()), {}
        for place in gone:
            place.held.close()
