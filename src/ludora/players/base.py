"""What a player is: it answers a batch of turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ludora.types import Move, Spec, Turn


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


@runtime_checkable
class Explicit(Player, Protocol):
    """A player that can say what it would do: the protocol of exact evaluation.

    Its answers to `act` are drawn from these probabilities.
    """

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        """The probability of every action of `Turn.legal`, in that order, per turn; each list sums to 1.

        Raises:
            InputError: this player cannot play this game, or its choice depends on more than the turn.
        """


def check_plays(player: Player, spec: Spec) -> None:
    """Ask a player that knows beforehand what it can play; the others find out at their first turn.

    Raises:
        InputError: it cannot play this game.
    """
    check = getattr(player, "check", None)
    if check:
        check(spec)


def forget(player: Player, shared: object = None) -> bool:
    """Have a player drop what it keeps of earlier answers, but for what lies in the `shared` policy. Whether it keeps
    any.
    """
    drop = getattr(player, "forget", None)
    return bool(drop and drop(shared))
