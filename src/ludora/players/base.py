"""What a player is: it answers a batch of turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ludora.types import Move, Turn


@runtime_checkable
class Player(Protocol):
    """Answers turns, many games at once. `name` is its canonical PLAYER string.

    A player draws all its randomness from `Turn.seed`, so the same turn gets the same answer in any batch.
    """

    name: str

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        """One move per turn, in order.

        Raises:
            InputError: this player cannot play this game (it is refused, never replaced by another).
        """
