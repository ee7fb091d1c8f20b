"""One call at a time for each number; who waits for a turn holds no thread, so that others are answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager

WAITING = 8  # calls for one number; more are refused


class Crowded(Exception):
    """As many calls wait for that number as may."""


class Turns:
    """Who is using which number, and who waits for it, in the order of coming. For any thread and any event loop."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[Future[None]]] = {}  # by the numbers in use
        self._lock = threading.Lock()

    @asynccontextmanager
    async def of(self, number: int) -> AsyncIterator[None]:
        """Wait for the number, and have it to oneself.

        Raises:
            Crowded: too many wait already.
        """
        mine = self._join(number)
        if mine is not None:
            try:
                await asyncio.wrap_future(mine)
            except asyncio.CancelledError:
                if not mine.cancel():  # the turn had come meanwhile
                    self._pass_on(number)
                raise
        try:
            yield
        finally:
            self._pass_on(number)

    def _join(self, number: int) -> Future[None] | None:
        """A place in the line; None where there is no line."""
        with self._lock:
            if number not in self._lines:
                self._lines[number] = deque()
                return None
            line = self._lines[number]
            if len(line) >= WAITING:
                raise Crowded
            line.append(Future())
            return line[-1]

    def _pass_on(self, number: int) -> None:
        """The turn of the next one who still waits."""
        with self._lock:
            line = self._lines[number]
            while line:
                waiting = line.popleft()
                if waiting.set_running_or_notify_cancel():
                    waiting.set_result(None)
                    return
            del self._lines[number]
