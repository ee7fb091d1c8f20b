"""Ctrl-C that saves: the first signal asks the loop to stop at its next safe point, the second one kills at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopper:
    """What the loop asks between two updates. `stop` is True once a signal came."""

    def __init__(self) -> None:
        """Nothing has been asked yet."""
        self.signal: int | None = None

    @property
    def stop(self) -> bool:
        """Whether to save and leave."""
        return self.signal is not None

    def leave(self) -> None:
        """End the process as a signal would have: exit code 128 + signal (130 after Ctrl-C)."""
        raise SystemExit(128 + (self.signal or signal.SIGINT))


@contextmanager
def graceful(say: Callable[[str], None] = lambda text: None) -> Iterator[Stopper]:
    """Within the block, SIGINT and SIGTERM set `Stopper.stop`; a second SIGINT ends the process at once.

    After the first signal the system's own action is restored, so the second one works even while a long
    computation keeps Python from running handlers. Outside the main thread, where Python allows no handlers,
    the block runs as it is.
    """
    stopper = Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return

    def first(number: int, frame: FrameType | None) -> None:
        stopper.signal = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        say("stopping after this update, then saving; Ctrl-C again leaves at once, without saving")

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
